//! Whole tensors: the driver's bytes, for any number of threads.

// It calls what C calls.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use quant_capi::*;
use quant_core::{Blocks, Granularity, IntType, Mode, Scheme, reference};

const SHAPE: [usize; 3] = [64, 96, 50];
const COUNT: usize = 64 * 96 * 50;

fn tensor(block_sizes: &[usize]) -> QuantTensor {
    QuantTensor {
        dtype: MaybeUninit::new(QuantFloat::F32),
        scheme: QuantScheme::new(
            QuantCode::Int4,
            QuantMode::Affine,
            QuantDialect::Coremltools,
        ),
        rank: SHAPE.len(),
        shape: SHAPE.as_ptr(),
        block_sizes: match block_sizes {
            [] => null(),
            sizes => sizes.as_ptr(),
        },
        reserved: [0; 4],
    }
}

fn values() -> Vec<f32> {
    (0..COUNT)
        .map(|i| (i % 1013) as f32 / 500.0 - 0.7)
        .collect()
}

fn sizes(tensor: &QuantTensor) -> QuantTensorSizes {
    let mut sizes = QuantTensorSizes::default();
    // SAFETY: a tensor, and room for the sizes.
    let status = unsafe { quant_tensor_sizes(tensor, &mut sizes) };
    assert_eq!(status, QuantStatus::Ok);
    sizes
}

#[derive(Debug, PartialEq)]
struct Quantized {
    codes: Vec<u8>,
    scales: Vec<f32>,
    zero_points: Vec<u8>,
}

/// Quantizes, and dequantizes.
fn quantize(
    tensor: &QuantTensor,
    values: &[f32],
    threads: usize,
    error_stats: Option<&mut QuantErrorStats>,
    failure: &mut QuantFailure,
) -> Result<(Quantized, Vec<f32>), QuantStatus> {
    let sizes = sizes(tensor);
    let mut to = Quantized {
        codes: vec![0xa5; sizes.codes],
        scales: vec![f32::NAN; sizes.scale_count],
        zero_points: vec![0xa5; sizes.zero_points],
    };
    let mut back = vec![f32::NAN; sizes.count];
    // SAFETY: buffers of these sizes.
    let status = unsafe {
        quant_quantize_tensor(
            tensor,
            values.as_ptr().cast(),
            sizes.values,
            to.codes.as_mut_ptr(),
            sizes.codes,
            to.scales.as_mut_ptr().cast(),
            sizes.scales,
            to.zero_points.as_mut_ptr(),
            sizes.zero_points,
            threads,
            error_stats.map_or(null_mut(), |it| it),
            failure,
        )
    };
    if status != QuantStatus::Ok {
        return Err(status);
    }
    // SAFETY: buffers of these sizes.
    let status = unsafe {
        quant_dequantize_tensor(
            tensor,
            to.codes.as_ptr(),
            sizes.codes,
            to.scales.as_ptr().cast(),
            sizes.scales,
            to.zero_points.as_ptr(),
            sizes.zero_points,
            MaybeUninit::new(QuantFloat::F32),
            back.as_mut_ptr().cast(),
            sizes.values,
            threads,
            null_mut(),
        )
    };
    assert_eq!(status, QuantStatus::Ok);
    Ok((to, back))
}

#[test]
fn equal_the_reference_with_any_number_of_threads() {
    let scheme = Scheme::new(IntType::Int4, Mode::Affine);
    let values = values();
    for block_sizes in [&[] as &[usize], &[1, 0, 0], &[0, 32, 1], &[7, 10, 3]] {
        let granularity = match block_sizes {
            [] => Granularity::PerTensor,
            sizes => Granularity::Blocks(sizes.to_vec()),
        };
        let blocks = Blocks::new(&SHAPE, &granularity).unwrap();
        let expected = reference::quantize_tensor(&values, scheme, &blocks).unwrap();
        let mut codes = vec![0; COUNT / 2];
        reference::pack(&expected.codes, scheme.dtype, &mut codes);
        let params = expected.params.iter();
        let expected_parts = Quantized {
            codes,
            scales: params.clone().map(|it| it.scale()).collect(),
            zero_points: params.map(|it| it.zero_point() as u8).collect(),
        };
        let dequantized: Vec<f32> =
            reference::dequantize_tensor(&expected.codes, scheme, &blocks, &expected.params);
        for threads in [1, 0, 3, usize::MAX] {
            let (mut error_stats, mut failure) =
                (QuantErrorStats::default(), QuantFailure::default());
            let lost_or_not = (threads != 3).then_some(&mut error_stats);
            let tensor = tensor(block_sizes);
            let (parts, back) =
                quantize(&tensor, &values, threads, lost_or_not, &mut failure).unwrap();
            assert!(
                parts == expected_parts,
                "{block_sizes:?}, {threads} threads"
            );
            assert!(back == dequantized, "{block_sizes:?}, {threads} threads");
            if threads != 3 {
                assert_eq!(error_stats.noise, expected.stats.noise);
                assert_eq!(error_stats.count, COUNT as u64);
                assert_eq!(error_stats.sqnr_db, expected.stats.sqnr_db());
            }
        }
    }
}

#[test]
fn failures_are_told() {
    let mut values = values();
    (values[70], values[290_000]) = (f32::NAN, f32::INFINITY);
    let mut failure = QuantFailure::default();
    for threads in [1, 2] {
        let done = quantize(&tensor(&[1, 0, 0]), &values, threads, None, &mut failure);
        assert_eq!(done, Err(QuantStatus::NonFinite));
        assert_eq!((failure.position, failure.count), (70, 2));
    }
    values[70] = f32::MAX;
    (values[71], values[290_000]) = (-f32::MAX, 0.0);
    let done = quantize(&tensor(&[1, 0, 0]), &values, 1, None, &mut failure);
    assert_eq!(done, Err(QuantStatus::OutOfRange));
    assert_eq!((failure.position, failure.count), (0, 1));
}

#[test]
fn without_elements() {
    let shape = [3, 0, usize::MAX];
    let tensor = QuantTensor {
        shape: shape.as_ptr(),
        ..tensor(&[])
    };
    assert_eq!(sizes(&tensor), QuantTensorSizes::default());
    // SAFETY: there is nothing behind the pointers.
    let status = unsafe {
        quant_quantize_tensor(
            &tensor,
            null(),
            0,
            null_mut(),
            0,
            null_mut(),
            0,
            null_mut(),
            0,
            0,
            null_mut(),
            null_mut(),
        )
    };
    assert_eq!(status, QuantStatus::Ok);
}

/// A process of its own: the other tests' threads are not counted.
#[cfg(target_os = "linux")]
#[test]
fn one_thread_is_the_callers() {
    const MARK: &str = "QUANT_TEST_THREADS";
    let count = || std::fs::read_dir("/proc/self/task").unwrap().count();
    if std::env::var_os(MARK).is_none() {
        let program = std::env::current_exe().unwrap();
        let mut test = std::process::Command::new(program);
        test.args(["--exact", "one_thread_is_the_callers", "--test-threads=1"]);
        let status = test.env(MARK, "1").status().unwrap();
        assert!(status.success());
        return;
    }
    let (before, values) = (count(), values());
    let most = |threads| {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut most = 0;
                while !done.load(Ordering::Relaxed) {
                    most = most.max(count());
                    thread::sleep(Duration::from_micros(50));
                }
                most
            });
            for _ in 0..5 {
                let (tensor, failure) = (tensor(&[0, 32, 1]), &mut QuantFailure::default());
                quantize(&tensor, &values, threads, None, failure).unwrap();
            }
            done.store(true, Ordering::Relaxed);
            watch.join().unwrap()
        })
    };
    // Another is the one that watches.
    assert_eq!(most(1), before + 1);
    assert!(most(2) >= before + 3);
}
