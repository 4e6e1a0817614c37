//! Whole tensors against the reference, byte for byte, for every backend and 1 to 3 threads.

use std::convert::Infallible;
use std::sync::Mutex;

use half::{bf16, f16};
use proptest::prelude::*;
use quant_core::{
    Blocks, Dialect, Float, FloatType, Granularity, IntType, Mode, Params, STATS_CHUNK, Scheme,
    Search, reference,
};
use quant_simd::{Backend, Importance, ProcessError, Sink, TensorQuantizer};

#[derive(Debug)]
struct Memory {
    codes: Mutex<Vec<u8>>,
    scales: Mutex<Vec<u8>>,
    zero_points: Mutex<Vec<u8>>,
}

impl Memory {
    fn new(codes: usize, scales: usize, zero_points: usize) -> Self {
        let filled = |len| Mutex::new(vec![0xcd; len]);
        Self {
            codes: filled(codes),
            scales: filled(scales),
            zero_points: filled(zero_points),
        }
    }

    fn parts(&self) -> [&Mutex<Vec<u8>>; 3] {
        [&self.codes, &self.scales, &self.zero_points]
    }
}

fn put(to: &Mutex<Vec<u8>>, offset: usize, bytes: &[u8]) -> Result<(), Infallible> {
    to.lock().unwrap()[offset..offset + bytes.len()].copy_from_slice(bytes);
    Ok(())
}

impl Sink for Memory {
    type Error = Infallible;
    fn codes(&self, offset: usize, bytes: &[u8]) -> Result<(), Infallible> {
        put(&self.codes, offset, bytes)
    }
    fn scales(&self, offset: usize, bytes: &[u8]) -> Result<(), Infallible> {
        put(&self.scales, offset, bytes)
    }
    fn zero_points(&self, offset: usize, bytes: &[u8]) -> Result<(), Infallible> {
        put(&self.zero_points, offset, bytes)
    }
}

fn bytes_of<F: Float>(values: &[F]) -> Vec<u8> {
    let of_one = |value: &F| match F::TYPE {
        FloatType::F32 => value.to_f32().to_le_bytes().to_vec(),
        FloatType::F16 => f16::from_f32(value.to_f32()).to_le_bytes().to_vec(),
        FloatType::Bf16 => bf16::from_f32(value.to_f32()).to_le_bytes().to_vec(),
    };
    values.iter().flat_map(of_one).collect()
}

fn check<F: Float>(values: &[F], scheme: Scheme, blocks: &Blocks, threads: usize) {
    check_search(values, scheme, blocks, threads, Search::None, None);
    // The reference tries all candidates one by one.
    if values.len() < 4096 {
        check_search(values, scheme, blocks, threads, Search::Mse, None);
    }
    if values.len() < 512 && threads == 1 {
        let axis = values.len() % blocks.shape().len();
        let weights = weights(blocks.shape()[axis]);
        let importance = Some(Importance::new(blocks.shape(), axis, &weights));
        check_search(values, scheme, blocks, threads, Search::Mse, importance);
    }
}

fn weights(count: usize) -> Vec<f64> {
    (0..count).map(|i| (i * 7919 % 13) as f64).collect()
}

fn check_search<F: Float>(
    values: &[F],
    scheme: Scheme,
    blocks: &Blocks,
    threads: usize,
    search: Search,
    importance: Option<Importance>,
) {
    let plain = reference::quantize_tensor(values, scheme, blocks);
    let expected = match search {
        Search::None => plain,
        _ => {
            let all = importance
                .as_ref()
                .map(|it| it.of_elements(0..values.len()));
            let all = all.as_deref();
            let found = reference::quantize_tensor_searched(values, scheme, blocks, all);
            if let (Ok(plain), Ok(found), None) = (plain, &found, all) {
                assert!(
                    found.stats.noise <= plain.stats.noise * (1.0 + 1e-6)
                        || found.stats.non_finite < plain.stats.non_finite,
                    "{scheme:?}, {blocks:?}"
                );
            }
            found
        }
    };
    let bytes = bytes_of(values);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    let pool = pool.build().unwrap();
    for &backend in Backend::available() {
        let quantizer = TensorQuantizer {
            backend,
            scheme,
            source: F::TYPE,
            blocks: blocks.clone(),
            search,
            importance: importance.clone(),
        };
        let (codes_len, scales_len) = (quantizer.codes_len(), quantizer.scales_len());
        let memory = Memory::new(codes_len, scales_len, quantizer.zero_points_len());
        let got = pool.install(|| quantizer.quantize(&bytes, &memory));
        let expected = match (&expected, got) {
            (Ok(expected), Ok(stats)) => {
                assert_eq!(stats, expected.stats, "{quantizer:?}");
                expected
            }
            (Err(_), Err(_)) => {
                let got = pool.install(|| quantizer.quantize_unmeasured(&bytes, &memory));
                assert!(got.is_err(), "{quantizer:?}");
                continue;
            }
            (expected, got) => panic!("{got:?} instead of {expected:?}: {quantizer:?}"),
        };
        let mut codes = vec![0; codes_len];
        reference::pack(&expected.codes, scheme.dtype, &mut codes);
        let unmeasured = Memory::new(codes_len, scales_len, quantizer.zero_points_len());
        pool.install(|| quantizer.quantize_unmeasured(&bytes, &unmeasured))
            .unwrap();
        for (part, other) in memory.parts().into_iter().zip(unmeasured.parts()) {
            assert_eq!(
                *part.lock().unwrap(),
                *other.lock().unwrap(),
                "{quantizer:?}"
            );
        }
        let (got, scales) = (memory.codes.into_inner(), memory.scales.into_inner());
        let (got, scales) = (got.unwrap(), scales.unwrap());
        let zero_points = memory.zero_points.into_inner().unwrap();
        assert_eq!(got, codes, "{quantizer:?}");
        let expected_scales: Vec<u8> = match quantizer.scale_type() {
            FloatType::F32 => {
                let scales: Vec<f32> = expected.params.iter().map(|p| p.scale()).collect();
                bytes_of(&scales)
            }
            FloatType::F16 | FloatType::Bf16 => {
                let scales = expected.params.iter().map(|p| F::from_f32(p.scale()));
                bytes_of(&scales.collect::<Vec<F>>())
            }
        };
        assert_eq!(scales, expected_scales, "{quantizer:?}");
        if scheme.stores_zero_point() {
            let expected: Vec<u8> = expected
                .params
                .iter()
                .map(|p| p.zero_point() as u8)
                .collect();
            assert_eq!(zero_points, expected, "{quantizer:?}");
        }

        let values: Vec<F> =
            reference::dequantize_tensor(&expected.codes, scheme, blocks, &expected.params);
        let out = Memory::new(bytes.len(), 0, 0);
        pool.install(|| quantizer.dequantize(&got, &scales, &zero_points, F::TYPE, &out))
            .unwrap();
        assert_eq!(
            out.codes.into_inner().unwrap(),
            bytes_of(&values),
            "{quantizer:?}"
        );
    }
}

fn scheme() -> impl Strategy<Value = Scheme> {
    let dtype = prop::sample::select(IntType::ALL.to_vec());
    let mode = prop::sample::select(Mode::ALL.to_vec());
    let dialect = prop::sample::select(Dialect::ALL.to_vec());
    (dtype, mode, dialect).prop_map(|(dtype, mode, dialect)| Scheme {
        dtype,
        mode,
        dialect,
    })
}

fn shape_and_blocks() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    prop::collection::vec((1_usize..9).prop_flat_map(|dim| (Just(dim), 0..=dim)), 1..5)
        .prop_map(|axes| axes.into_iter().unzip())
}

/// Ordinary values, half-integers, zeros, subnormals, extremes, and any bits at all.
fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => -4.0_f32..4.0,
        4 => (-300_i32..300).prop_map(|half| half as f32 / 2.0),
        1 => Just(-0.0),
        1 => (0_u32..200).prop_map(f32::from_bits),
        1 => prop::sample::select(vec![6e-8_f32, -6e-8, 65504.0, 3e38, -1e-30]),
        1 => any::<u32>().prop_map(f32::from_bits),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(quant_testkit::cases(4000)))]
    #[test]
    fn every_geometry(
        scheme in scheme(),
        (shape, sizes) in shape_and_blocks(),
        pool in prop::collection::vec(value(), 1..60),
        threads in 1_usize..4,
    ) {
        let blocks = Blocks::new(&shape, &Granularity::Blocks(sizes)).unwrap();
        let n = blocks.element_count();
        let values: Vec<f32> = pool.into_iter().cycle().take(n).collect();
        check(&values, scheme, &blocks, threads);
        let halves: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
        check(&halves, scheme, &blocks, threads);
        let brains: Vec<bf16> = values.iter().map(|&value| bf16::from_f32(value)).collect();
        check(&brains, scheme, &blocks, threads);
    }
}

/// Blocks of usual sizes are searched many at a time.
#[test]
fn batches_of_blocks_are_searched() {
    // Few large values per block, on both sides; a block of zeros, and what is nearly beyond f16.
    let random = (0..2048_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 8e6 - 1.0);
    let mut values: Vec<f32> = random.map(|value| value * value * value).collect();
    values[1700..1764].fill(0.0);
    values[2000] = 30_000.0;
    values[2040] = 3e-7;
    let halves: Vec<f16> = values.iter().map(|&it| f16::from_f32(it)).collect();
    let brains: Vec<bf16> = values.iter().map(|&it| bf16::from_f32(it)).collect();
    for dialect in Dialect::ALL {
        for mode in Mode::ALL {
            for (dtype, shape, size) in [
                (IntType::Int4, [2, 1024], 32),
                (IntType::Uint4, [1, 2048], 64),
            ] {
                let scheme = Scheme::new(dtype, mode).with_dialect(dialect);
                let sizes = Granularity::Blocks(vec![1, size]);
                let blocks = Blocks::new(&shape, &sizes).unwrap();
                let importance = Importance::new(&shape, 1, &weights(shape[1]));
                for importance in [None, Some(importance)] {
                    let search = Search::Mse;
                    check_search(&values, scheme, &blocks, 1, search, importance.clone());
                    check_search(&halves, scheme, &blocks, 1, search, importance.clone());
                    check_search(&brains, scheme, &blocks, 1, search, importance);
                }
            }
        }
    }
}

/// And so are those with a bias: in whole batches and parts of one, with blocks that have no other
/// candidates, or whose values cannot be restored.
#[test]
fn batches_of_blocks_with_biases_are_searched() {
    for (number, bits) in [2, 3, 4, 5, 6, 8].into_iter().enumerate() {
        for size in [32, 64, 128, 256] {
            let rows = [35, 32, 5][number % 3];
            let mut values: Vec<f32> = (0..(rows * size) as u32)
                .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 8e6 - 1.0)
                .map(|value| value * value * value * 0.1 - 0.01)
                .collect();
            values[size..2 * size].fill(0.5);
            values[2 * size..3 * size].fill(0.0);
            values[3 * size] = 65_000.0;
            values[3 * size + 1] = -65_504.0;
            values[4 * size..5 * size]
                .iter_mut()
                .for_each(|it| *it *= 1e-6);
            let halves: Vec<f16> = values.iter().map(|&it| f16::from_f32(it)).collect();
            let brains: Vec<bf16> = values.iter().map(|&it| bf16::from_f32(it)).collect();
            let dtype = IntType::new(bits, false).unwrap();
            let scheme = Scheme::new(dtype, Mode::Affine).with_dialect(Dialect::Mlx);
            let sizes = Granularity::Blocks(vec![1, size]);
            let blocks = Blocks::new(&[rows, size], &sizes).unwrap();
            let importance = Importance::new(&[rows, size], 1, &weights(size));
            for importance in [None, Some(importance)] {
                let search = Search::Mse;
                check_search(&values, scheme, &blocks, 1, search, importance.clone());
                check_search(&halves, scheme, &blocks, 1, search, importance.clone());
                check_search(&brains, scheme, &blocks, 1, search, importance);
            }
        }
    }
}

/// Scales of f32 for values of f16: what is found restores no value to infinity, where the plain scale
/// does not, one by one and in batches.
#[test]
fn no_found_scale_overflows_the_type_of_the_values() {
    let values = (0..2048_u32).map(|i| match i % 64 {
        0 => f16::MAX,
        _ => f16::from_f32((i.wrapping_mul(2_654_435_761) >> 16) as f32 * 1.9 - 63_000.0),
    });
    let values: Vec<f16> = values.collect();
    for dtype in [IntType::Int4, IntType::Uint4, IntType::Int8] {
        let scheme = Scheme::new(dtype, Mode::Symmetric).with_dialect(Dialect::F32);
        for granularity in [
            Granularity::PerChannel { axis: 0 },
            Granularity::PerChannel { axis: 1 },
            Granularity::Blocks(vec![1, 32]),
        ] {
            let blocks = Blocks::new(&[32, 64], &granularity).unwrap();
            check_search(&values, scheme, &blocks, 1, Search::Mse, None);
            let found = reference::quantize_tensor_searched(&values, scheme, &blocks, None);
            let found = found.unwrap();
            for run in blocks.runs(0..values.len()) {
                let mut restored = vec![f16::ZERO; run.elements.len()];
                let codes = &found.codes[run.elements];
                reference::dequantize(codes, scheme, found.params[run.scale], &mut restored);
                assert!(restored.iter().all(|it| it.is_finite()), "{scheme:?}");
            }
        }
    }
}

/// Those that a search has found, given to functions of slices.
#[test]
fn scales_below_zero_are_as_good_as_others() {
    let values: Vec<f32> = (0..80).map(|i| (i as f32 - 30.0) / 8.0).collect();
    for dialect in [Dialect::Coremltools, Dialect::F32] {
        let scheme = Scheme::new(IntType::Int3, Mode::Symmetric).with_dialect(dialect);
        let params = Params::new(scheme, -0.75, 0, FloatType::F32).unwrap();
        let mut expected = vec![0; values.len()];
        reference::quantize(&values, scheme, params, &mut expected);
        let mut packed = vec![0; scheme.dtype.storage_len(values.len())];
        reference::pack(&expected, scheme.dtype, &mut packed);
        let mut restored = vec![0.0_f32; values.len()];
        reference::dequantize(&expected, scheme, params, &mut restored);
        for &backend in Backend::available() {
            let mut codes = vec![0; packed.len()];
            backend.quantize(&values, scheme, params, &mut codes);
            assert_eq!(codes, packed, "{}", backend.name());
            let mut got = vec![0.0_f32; values.len()];
            backend.dequantize(&codes, scheme, params, &mut got);
            assert_eq!(got, restored, "{}", backend.name());
            for size in [32, 9] {
                let scales = vec![-0.75_f32; values.len().div_ceil(size)];
                got.fill(0.0);
                let done = backend.dequantize_blocks(&codes, size, scheme, &scales, &[], &mut got);
                assert_eq!(done, Ok(()), "{}", backend.name());
                assert_eq!(got, restored, "{}", backend.name());
            }
        }
    }
}

#[test]
fn across_chunks_and_windows() {
    let n = 33 * STATS_CHUNK + 77;
    let values: Vec<f32> = (0..n as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e6 - 8.0)
        .collect();
    let scheme = Scheme::new(IntType::Int4, Mode::Affine);
    let columns = Granularity::PerChannel { axis: 1 };
    for (shape, granularity) in [
        (vec![n], Granularity::PerTensor),
        (vec![n], Granularity::Blocks(vec![70_001])),
        (vec![1, n], Granularity::Blocks(vec![1, 32])),
        (vec![n / 7, 7], columns),
    ] {
        let blocks = Blocks::new(&shape, &granularity).unwrap();
        let values = &values[..blocks.element_count()];
        for threads in [1, 2, 3] {
            check(values, scheme, &blocks, threads);
        }
    }
}

#[test]
fn non_finite_values_are_located() {
    let blocks = Blocks::new(&[4, 8], &Granularity::PerChannel { axis: 0 }).unwrap();
    let mut values = [1.0_f32; 32];
    values[29] = f32::INFINITY;
    values[11] = f32::NAN;
    let quantizer = TensorQuantizer {
        backend: Backend::detect(),
        scheme: Scheme::new(IntType::Int8, Mode::Symmetric),
        source: FloatType::F32,
        blocks,
        search: quant_core::Search::None,
        importance: None,
    };
    let memory = Memory::new(32, 16, 0);
    assert_eq!(
        quantizer.quantize(&bytes_of(&values), &memory),
        Err(ProcessError::NonFinite {
            first: 11,
            count: 2
        })
    );
}

/// Takes nothing from an offset on, and says which part it was.
struct Refusing {
    codes_from: usize,
    scales: bool,
}

#[derive(Debug, PartialEq)]
enum Refused {
    Codes(usize),
    Scales(usize),
}

impl Sink for Refusing {
    type Error = Refused;
    fn codes(&self, offset: usize, bytes: &[u8]) -> Result<(), Refused> {
        match offset + bytes.len() > self.codes_from {
            true => Err(Refused::Codes(offset)),
            false => Ok(()),
        }
    }
    fn scales(&self, offset: usize, _: &[u8]) -> Result<(), Refused> {
        match self.scales {
            true => Err(Refused::Scales(offset)),
            false => Ok(()),
        }
    }
    fn zero_points(&self, _: usize, _: &[u8]) -> Result<(), Refused> {
        Ok(())
    }
}

#[test]
fn the_error_is_the_sinks_own() {
    let shape = [64, STATS_CHUNK];
    let blocks = Blocks::new(&shape, &Granularity::PerTensor).unwrap();
    let scheme = Scheme::new(IntType::Int8, Mode::Symmetric);
    let quantizer = TensorQuantizer::new(scheme, FloatType::F32, blocks);
    let values = vec![0_u8; 4 * 64 * STATS_CHUNK];
    let codes = vec![0_u8; 64 * STATS_CHUNK];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3);
    pool.build().unwrap().install(|| {
        let everywhere = Refusing {
            codes_from: 0,
            scales: false,
        };
        // Of many, the first in the order of the tensor.
        let first = ProcessError::Sink(Refused::Codes(0));
        assert_eq!(quantizer.quantize(&values, &everywhere).unwrap_err(), first);
        let unmeasured = quantizer.quantize_unmeasured(&values, &everywhere);
        assert_eq!(unmeasured.unwrap_err(), first);
        let late = Refusing {
            codes_from: 63 * STATS_CHUNK,
            scales: false,
        };
        let last = quantizer.quantize(&values, &late).unwrap_err();
        assert!(matches!(last, ProcessError::Sink(Refused::Codes(offset)) if offset > 0));
        let scales = Refusing {
            codes_from: usize::MAX,
            scales: true,
        };
        let of_scales = ProcessError::Sink(Refused::Scales(0));
        assert_eq!(quantizer.quantize(&values, &scales).unwrap_err(), of_scales);
        let back = quantizer.dequantize(
            &codes,
            &1_f32.to_le_bytes(),
            &[],
            FloatType::F32,
            &everywhere,
        );
        assert!(matches!(back, Err(ProcessError::Sink(Refused::Codes(_)))));
    });
}
