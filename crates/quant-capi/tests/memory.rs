//! What the functions allocate, and what they do where there is no memory.

// An allocator, and C functions, are unsafe.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

use quant_capi::*;

/// Refuses allocations from a size on, or some by their number, and counts all of them.
struct Limited;

thread_local! {
    // Of the thread that calls: the test harness allocates, too.
    static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) };
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static REFUSED: Cell<Refused> = const { Cell::new(Refused::None) };
}

#[derive(Clone, Copy, Debug)]
enum Refused {
    None,
    /// The one of this number.
    One(usize),
    /// That, and all that follow.
    From(usize),
}

impl Refused {
    fn has(self, number: usize) -> bool {
        match self {
            Self::None => false,
            Self::One(one) => number == one,
            Self::From(first) => number >= first,
        }
    }
}

// SAFETY: the system's, or nothing.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let number = COUNT.get();
        COUNT.set(number + 1);
        match layout.size() < LIMIT.get() && !REFUSED.get().has(number) {
            // SAFETY: the caller's promise.
            true => unsafe { System.alloc(layout) },
            false => null_mut(),
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Limited = Limited;

const F32: MaybeUninit<QuantFloat> = MaybeUninit::new(QuantFloat::F32);

fn tensor(shape: &[usize; 2], block_sizes: &[usize; 2], dialect: QuantDialect) -> QuantTensor {
    QuantTensor {
        dtype: F32,
        scheme: QuantScheme::new(QuantCode::Uint4, QuantMode::Affine, dialect),
        rank: 2,
        shape: shape.as_ptr(),
        block_sizes: block_sizes.as_ptr(),
        reserved: [0; 4],
    }
}

#[test]
fn without_memory_there_is_a_status() {
    let shape = [300, 1000];
    let values: Vec<f32> = (0..300_000).map(|i| (i % 1013) as f32 - 500.0).collect();
    let mut back = values.clone();
    let (mut codes, mut scales) = (vec![0_u8; 300_000], vec![0_f32; 300_000]);
    let mut zero_points = vec![0_u8; 1_200_000];
    let mut sizes = QuantTensorSizes::default();
    // Whatever is found once is found.
    let _ = quant_backend_detect();
    for threads in [1, 3] {
        for block_sizes in [[0, 0], [1, 0], [0, 1], [1, 1], [7, 3]] {
            for dialect in [QuantDialect::Coremltools, QuantDialect::Mlx] {
                let tensor = tensor(&shape, &block_sizes, dialect);
                // SAFETY: a tensor, and room for its sizes.
                let status = unsafe { quant_tensor_sizes(&tensor, &mut sizes) };
                assert_eq!(status, QuantStatus::Ok);
                let mut call = |limit: usize| {
                    LIMIT.set(limit);
                    // SAFETY: buffers of at least these sizes.
                    let status = unsafe {
                        [
                            quant_quantize_tensor(
                                &tensor,
                                values.as_ptr().cast(),
                                sizes.values,
                                codes.as_mut_ptr(),
                                sizes.codes,
                                scales.as_mut_ptr().cast(),
                                sizes.scales,
                                zero_points.as_mut_ptr(),
                                sizes.zero_points,
                                threads,
                                null_mut(),
                                null_mut(),
                            ),
                            quant_dequantize_tensor(
                                &tensor,
                                codes.as_ptr(),
                                sizes.codes,
                                scales.as_ptr().cast(),
                                sizes.scales,
                                zero_points.as_ptr(),
                                sizes.zero_points,
                                F32,
                                back.as_mut_ptr().cast(),
                                sizes.values,
                                threads,
                                null_mut(),
                            ),
                        ]
                    };
                    LIMIT.set(usize::MAX);
                    status
                };
                assert_eq!(call(usize::MAX), [QuantStatus::Ok; 2]);
                // No memory at all, little, and too little for a thread.
                for limit in [1, 1 << 16, 1 << 20] {
                    assert_eq!(call(limit), [QuantStatus::NoMemory; 2], "{limit}");
                }
                assert_eq!(call(usize::MAX), [QuantStatus::Ok; 2]);
            }
        }
    }
    // SAFETY: a tensor, and room for its sizes.
    let of_sizes = |limit: usize, sizes: &mut QuantTensorSizes| unsafe {
        LIMIT.set(limit);
        let tensor = tensor(&shape, &[1, 0], QuantDialect::F32);
        let status = quant_tensor_sizes(&tensor, sizes);
        LIMIT.set(usize::MAX);
        status
    };
    assert_eq!(of_sizes(1, &mut sizes), QuantStatus::NoMemory);
    assert_eq!(of_sizes(1 << 20, &mut sizes), QuantStatus::Ok);
    nothing_else_allocates(&values, &mut back, &mut codes);
}

fn nothing_else_allocates(values: &[f32], back: &mut [f32], codes: &mut [u8]) {
    let dialects = [
        QuantDialect::Coremltools,
        QuantDialect::F32,
        QuantDialect::Mlx,
    ];
    for dialect in dialects {
        for code in [QuantCode::Uint8, QuantCode::Uint4, QuantCode::Uint3] {
            let scheme = QuantScheme::new(code, QuantMode::Affine, dialect);
            let (mut range, mut params) = (QuantRange::default(), QuantParams::default());
            let (mut stats, mut size) = (QuantErrorStats::default(), 0);
            let (mut scales, mut offsets) = ([0_f32; 1000], [0_u8; 4000]);
            let stored = if dialect == QuantDialect::Mlx {
                4000
            } else {
                1000
            };
            let (from, to, count) = (values.as_ptr().cast(), back.as_mut_ptr().cast(), 300_000);
            let before = COUNT.get();
            // SAFETY: buffers of at least these sizes.
            let status = unsafe {
                let codes = codes.as_mut_ptr();
                let (scales, offsets) = (scales.as_mut_ptr().cast(), offsets.as_mut_ptr());
                let _ = quant_codes_size(MaybeUninit::new(code), count, &mut size);
                [
                    quant_range(F32, from, count, &mut range),
                    quant_params_from_range(F32, range, scheme, &mut params),
                    quant_quantize(F32, from, count, scheme, params, codes, size, null_mut()),
                    quant_dequantize(F32, codes, size, scheme, params, to, count),
                    quant_fake_quantize(F32, from, count, scheme, params, to, null_mut()),
                    quant_error_stats(F32, from, F32, to, count, &mut stats),
                    quant_quantize_blocks(
                        F32, from, count, 300, scheme, codes, size, scales, 4000, offsets, stored,
                    ),
                    quant_dequantize_blocks(
                        F32, codes, size, 300, scheme, scales, 4000, offsets, stored, to, count,
                    ),
                    quant_pack4(null(), 0, null_mut(), 0),
                ]
            };
            assert_eq!(COUNT.get(), before, "allocations");
            assert_eq!(status, [QuantStatus::Ok; 9], "{dialect:?} {code:?}");
        }
    }
}

/// What a call came to when each allocation in turn was refused, alone and with all that follow: it
/// comes to `wanted` in the end, and says before that there is no memory. Returns the number of
/// allocations.
fn refuse_in_turn(what: &str, wanted: QuantStatus, call: &mut dyn FnMut() -> QuantStatus) -> usize {
    let refused = |refused: Refused, call: &mut dyn FnMut() -> QuantStatus| {
        REFUSED.set(refused);
        COUNT.set(0);
        let status = call();
        REFUSED.set(Refused::None);
        status
    };
    for n in 0..100_000 {
        let all = refused(Refused::From(n), call);
        let one = refused(Refused::One(n), call);
        if all == wanted {
            assert_eq!(one, wanted, "{what}: allocation {n}");
            assert_eq!(call(), wanted, "{what}");
            return n;
        }
        assert_eq!(all, QuantStatus::NoMemory, "{what}: from {n} on");
        // Not all is missed.
        let known = [QuantStatus::NoMemory, wanted];
        assert!(known.contains(&one), "{what}: allocation {n}: {one:?}");
    }
    panic!("{what}: no end");
}

/// A tensor, and buffers for it; `shift` moves all of them, so that nothing is aligned.
#[derive(Debug)]
struct Case {
    shape: [usize; 2],
    block_sizes: [usize; 2],
    dialect: QuantDialect,
    code: QuantCode,
    dtype: QuantFloat,
    shift: usize,
    finite: bool,
}

impl Case {
    fn run(&self) {
        let count = self.shape[0] * self.shape[1];
        let (dtype, scheme) = (
            MaybeUninit::new(self.dtype),
            QuantScheme::new(self.code, QuantMode::Affine, self.dialect),
        );
        let tensor = QuantTensor {
            dtype,
            scheme,
            ..tensor(&self.shape, &self.block_sizes, self.dialect)
        };
        let mut sizes = QuantTensorSizes::default();
        // SAFETY: a tensor, and room for its sizes.
        let mut call = || unsafe { quant_tensor_sizes(&tensor, &mut sizes) };
        assert!(refuse_in_turn("sizes", QuantStatus::Ok, &mut call) > 0);
        let room = |size: usize| vec![0_u8; size + self.shift];
        let (mut values, mut back) = (room(sizes.values), room(sizes.values));
        for (i, value) in values[self.shift..]
            .chunks_mut(sizes.values / count)
            .enumerate()
        {
            let bits = match (i, self.finite, self.dtype) {
                // What is NaN in every type.
                (9, false, _) => 0x7fff_7fff_u32,
                (_, _, QuantFloat::F32) => ((i % 1013) as f32 - 500.0).to_bits(),
                _ => 0x3c00 + (i % 900) as u32,
            };
            let bytes = &bits.to_le_bytes()[..value.len()];
            value.copy_from_slice(bytes);
        }
        let (mut codes, mut scales) = (room(sizes.codes), room(sizes.scales));
        let mut zero_points = room(sizes.zero_points);
        let quantized = match self.finite {
            true => QuantStatus::Ok,
            false => QuantStatus::NonFinite,
        };
        for measured in [false, true] {
            let (mut error_stats, mut failure) =
                (QuantErrorStats::default(), QuantFailure::default());
            let error_stats: *mut QuantErrorStats = if measured {
                &mut error_stats
            } else {
                null_mut()
            };
            // SAFETY: buffers of these sizes.
            let mut call = || unsafe {
                quant_quantize_tensor(
                    &tensor,
                    values[self.shift..].as_ptr().cast(),
                    sizes.values,
                    codes[self.shift..].as_mut_ptr(),
                    sizes.codes,
                    scales[self.shift..].as_mut_ptr().cast(),
                    sizes.scales,
                    zero_points[self.shift..].as_mut_ptr(),
                    sizes.zero_points,
                    1,
                    error_stats,
                    &mut failure,
                )
            };
            refuse_in_turn(&format!("quantize {self:?}"), quantized, &mut call);
        }
        if !self.finite {
            return;
        }
        // SAFETY: buffers of these sizes.
        let mut call = || unsafe {
            quant_dequantize_tensor(
                &tensor,
                codes[self.shift..].as_ptr(),
                sizes.codes,
                scales[self.shift..].as_ptr().cast(),
                sizes.scales,
                zero_points[self.shift..].as_ptr(),
                sizes.zero_points,
                dtype,
                back[self.shift..].as_mut_ptr().cast(),
                sizes.values,
                1,
                null_mut(),
            )
        };
        refuse_in_turn(&format!("dequantize {self:?}"), QuantStatus::Ok, &mut call);
    }
}

#[test]
fn each_allocation_may_fail() {
    let types = [
        (QuantDialect::Coremltools, QuantFloat::F32, 0),
        (QuantDialect::Coremltools, QuantFloat::F16, 1),
        (QuantDialect::F32, QuantFloat::Bf16, 1),
        (QuantDialect::Torch, QuantFloat::F32, 0),
        (QuantDialect::Mlx, QuantFloat::Bf16, 0),
    ];
    for block_sizes in [[0, 0], [1, 0], [0, 1], [7, 3], [1, 32]] {
        for (dialect, dtype, shift) in types {
            for finite in [true, false] {
                let code = match shift {
                    0 => QuantCode::Uint8,
                    _ => QuantCode::Uint4,
                };
                let case = Case {
                    shape: [14, 64],
                    block_sizes,
                    dialect,
                    code,
                    dtype,
                    shift,
                    finite,
                };
                case.run();
            }
        }
    }
}

/// Groups of rows that do not fit the cache, and more chunks than one.
#[test]
fn each_allocation_for_a_large_tensor_may_fail() {
    for block_sizes in [[0, 1], [0, 0], [200, 500]] {
        let case = Case {
            shape: [1100, 1000],
            block_sizes,
            dialect: QuantDialect::Coremltools,
            code: QuantCode::Uint4,
            dtype: QuantFloat::F16,
            shift: 0,
            finite: true,
        };
        case.run();
    }
}
