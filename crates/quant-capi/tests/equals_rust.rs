//! The C functions give what the Rust functions give, whatever the alignment of their buffers.

// It calls what C calls.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::mem::MaybeUninit;
use std::ptr::null_mut;

use half::{bf16, f16};
use quant_capi::*;
use quant_core::{Dialect, FloatType, GgmlType, IntType, Mode, Scheme};
use quant_simd::{Backend, Element};

const OK: QuantStatus = QuantStatus::Ok;
/// Several pieces of a misaligned buffer, and an odd rest.
const COUNT: usize = 5001;

fn schemes() -> impl Iterator<Item = (Scheme, QuantScheme)> {
    let codes = [
        (IntType::Int8, QuantCode::Int8),
        (IntType::Uint8, QuantCode::Uint8),
        (IntType::Int4, QuantCode::Int4),
        (IntType::Uint4, QuantCode::Uint4),
        (IntType::Int2, QuantCode::Int2),
        (IntType::Uint3, QuantCode::Uint3),
        (IntType::Int5, QuantCode::Int5),
        (IntType::Uint6, QuantCode::Uint6),
    ];
    let modes = [
        (Mode::Symmetric, QuantMode::Symmetric),
        (Mode::Affine, QuantMode::Affine),
    ];
    let dialects = [
        (Dialect::Coremltools, QuantDialect::Coremltools),
        (Dialect::F32, QuantDialect::F32),
        (Dialect::Torch, QuantDialect::Torch),
        (
            Dialect::CoremltoolsActivations,
            QuantDialect::CoremltoolsActivations,
        ),
    ];
    codes.into_iter().flat_map(move |code| {
        modes.into_iter().flat_map(move |mode| {
            dialects.into_iter().map(move |dialect| {
                let scheme = Scheme {
                    dtype: code.0,
                    mode: mode.0,
                    dialect: dialect.0,
                };
                (scheme, QuantScheme::new(code.1, mode.1, dialect.1))
            })
        })
    })
}

fn float<F: Element>() -> MaybeUninit<QuantFloat> {
    MaybeUninit::new(match F::TYPE {
        FloatType::F32 => QuantFloat::F32,
        FloatType::F16 => QuantFloat::F16,
        FloatType::Bf16 => QuantFloat::Bf16,
    })
}

fn values<F: Element>() -> Vec<F> {
    let value = |i: usize| F::from_f32(((i * 7919) % 4001) as f32 / 1000.0 - 1.5);
    (0..COUNT).map(value).collect()
}

/// Values in memory that starts so many bytes after an aligned address.
struct Buffer {
    bytes: Vec<u64>,
    shift: usize,
}

impl Buffer {
    fn new<T: bytemuck::Pod>(values: &[T], shift: usize) -> Self {
        let mut bytes = vec![0; size_of_val(values).div_ceil(8) + 1];
        bytemuck::cast_slice_mut::<u64, u8>(&mut bytes)[shift..][..size_of_val(values)]
            .copy_from_slice(bytemuck::cast_slice(values));
        Self { bytes, shift }
    }

    /// Buffer for as many of a type, which nobody has set to anything of use.
    fn room<T: bytemuck::Pod>(count: usize, shift: usize) -> Self {
        Self::new(&vec![0xa5_u8; count * size_of::<T>()], shift)
    }

    fn pointer(&mut self) -> *mut c_void {
        self.bytes.as_mut_ptr().wrapping_byte_add(self.shift).cast()
    }

    /// Whether it holds these, bit for bit.
    fn holds<T: bytemuck::Pod>(&self, values: &[T]) -> bool {
        let bytes: &[u8] = bytemuck::cast_slice(&self.bytes);
        bytes[self.shift..][..size_of_val(values)] == *bytemuck::cast_slice::<T, u8>(values)
    }
}

macro_rules! for_each_float {
    ($test:ident) => {
        $test::<f32>();
        $test::<f16>();
        $test::<bf16>();
    };
}

#[test]
fn slices() {
    for_each_float!(slices_of);
}

fn slices_of<F: Element>() {
    let (backend, values) = (Backend::detect(), values::<F>());
    for (scheme, c_scheme) in schemes() {
        let params = scheme.params(&backend.range(&values), F::TYPE).unwrap();
        let size = scheme.dtype.storage_len(COUNT);
        let mut codes = vec![0; size];
        backend.quantize(&values, scheme, params, &mut codes);
        let mut dequantized = vec![F::zeroed(); COUNT];
        backend.dequantize(&codes, scheme, params, &mut dequantized);
        for shift in [0, 1] {
            let mut input = Buffer::new(&values, shift);
            let (mut range, mut c_params) = (QuantRange::default(), QuantParams::default());
            let (mut c_codes, mut c_size, mut bad) = (vec![0xa5; size], 0, 9);
            let mut output = Buffer::room::<F>(COUNT, shift);
            let mut faked = Buffer::room::<F>(COUNT, shift);
            let from = input.pointer();
            let to = c_codes.as_mut_ptr();
            // SAFETY: buffers of these lengths.
            let status = unsafe {
                [
                    quant_range(float::<F>(), from, COUNT, &mut range),
                    quant_params_from_range(float::<F>(), range, c_scheme, &mut c_params),
                    quant_codes_size(c_scheme.dtype, COUNT, &mut c_size),
                    quant_quantize(
                        float::<F>(),
                        from,
                        COUNT,
                        c_scheme,
                        c_params,
                        to,
                        size,
                        &mut bad,
                    ),
                    quant_dequantize(
                        float::<F>(),
                        to,
                        size,
                        c_scheme,
                        c_params,
                        output.pointer(),
                        COUNT,
                    ),
                    quant_fake_quantize(
                        float::<F>(),
                        from,
                        COUNT,
                        c_scheme,
                        c_params,
                        faked.pointer(),
                        null_mut(),
                    ),
                    // In place.
                    quant_fake_quantize(
                        float::<F>(),
                        from,
                        COUNT,
                        c_scheme,
                        c_params,
                        from,
                        null_mut(),
                    ),
                ]
            };
            assert_eq!(status, [OK; 7], "{scheme:?}, {shift}");
            let found = (c_params.scale, c_params.zero_point);
            assert_eq!(found, (params.scale(), params.zero_point()));
            assert_eq!((c_size, bad), (size, 0));
            assert!(c_codes == codes, "{scheme:?}, {shift}");
            for buffer in [output, faked, input] {
                assert!(buffer.holds(&dequantized), "{scheme:?}, {shift}");
            }
        }
    }
}

#[test]
fn blocks() {
    for_each_float!(blocks_by_dialect);
}

fn blocks_by_dialect<F: Element>() {
    for (scheme, c_scheme) in schemes() {
        match scheme.dialect.scale_type(F::TYPE) == F::TYPE {
            true => blocks_of::<F, F>(scheme, c_scheme),
            false => blocks_of::<F, f32>(scheme, c_scheme),
        }
    }
}

fn blocks_of<F: Element, S: Element>(scheme: Scheme, c_scheme: QuantScheme) {
    let (backend, values) = (Backend::detect(), values::<F>());
    let size = scheme.dtype.storage_len(COUNT);
    for block_size in [1, 32, 33, 3001, usize::MAX] {
        let count = COUNT.div_ceil(block_size);
        let stored = match scheme.stores_zero_point() {
            true => count,
            false => 0,
        };
        let (mut codes, mut scales) = (vec![0; size], vec![S::zeroed(); count]);
        let mut zeros = vec![0; stored];
        backend
            .quantize_blocks(
                &values,
                block_size.min(COUNT),
                scheme,
                &mut codes,
                &mut scales,
                &mut zeros,
            )
            .unwrap();
        let mut dequantized = vec![F::zeroed(); COUNT];
        backend
            .dequantize_blocks(
                &codes,
                block_size.min(COUNT),
                scheme,
                &scales,
                &zeros,
                &mut dequantized,
            )
            .unwrap();
        for (shift, scale_shift) in [(0, 0), (1, 0), (0, 1), (3, 1)] {
            let mut input = Buffer::new(&values, shift);
            let mut output = Buffer::room::<F>(COUNT, shift);
            let mut c_scales = Buffer::room::<S>(count, scale_shift);
            let (mut c_codes, mut c_zeros) = (vec![0xa5; size], vec![0xa5; stored]);
            // SAFETY: buffers of these lengths.
            let status = unsafe {
                [
                    quant_quantize_blocks(
                        float::<F>(),
                        input.pointer(),
                        COUNT,
                        block_size,
                        c_scheme,
                        c_codes.as_mut_ptr(),
                        size,
                        c_scales.pointer(),
                        count * size_of::<S>(),
                        c_zeros.as_mut_ptr(),
                        stored,
                    ),
                    quant_dequantize_blocks(
                        float::<F>(),
                        c_codes.as_ptr(),
                        size,
                        block_size,
                        c_scheme,
                        c_scales.pointer(),
                        count * size_of::<S>(),
                        c_zeros.as_ptr(),
                        stored,
                        output.pointer(),
                        COUNT,
                    ),
                ]
            };
            let case = format!("{scheme:?}, {block_size}, {shift}, {scale_shift}");
            assert_eq!(status, [OK; 2], "{case}");
            assert!(c_codes == codes, "codes: {case}");
            assert!(c_scales.holds(&scales), "scales: {case}");
            assert!(c_zeros == zeros, "zero points: {case}");
            assert!(output.holds(&dequantized), "values: {case}");
        }
    }
}

fn ggml_of<F: Element>() {
    const SOME: usize = 4096 + 32;
    let values: Vec<F> = values::<F>().into_iter().cycle().take(SOME).collect();
    for (block_type, c_type) in GGML_TYPES {
        let (size, c_type) = (block_type.len(SOME).unwrap(), MaybeUninit::new(c_type));
        let mut blocks = vec![0; size];
        let backend = Backend::detect();
        let done = backend.quantize_ggml(&values, block_type, &mut blocks);
        done.unwrap();
        let mut back = vec![F::zeroed(); SOME];
        let done = backend.dequantize_ggml(&blocks, block_type, &mut back);
        done.unwrap();
        for shift in [0, 1, 3] {
            let mut input = Buffer::new(&values, shift);
            let mut output = Buffer::room::<F>(SOME, shift);
            let (mut c_blocks, mut c_size) = (vec![0xa5; size], 0);
            let (from, to, float) = (input.pointer(), output.pointer(), float::<F>());
            let at = c_blocks.as_mut_ptr();
            // SAFETY: buffers of these lengths.
            let status = unsafe {
                [
                    quant_ggml_size(c_type, SOME, &mut c_size),
                    quant_ggml_quantize(float, from, SOME, c_type, at, size),
                    quant_ggml_dequantize(float, at, size, c_type, to, SOME),
                ]
            };
            assert_eq!((status, c_size), ([OK; 3], size), "{block_type} {shift}");
            assert!(c_blocks == blocks, "{block_type} {shift}");
            assert!(output.holds(&back), "{block_type} {shift}");
        }
    }
}

const GGML_TYPES: [(GgmlType, QuantGgml); 5] = [
    (GgmlType::Q8_0, QuantGgml::Q8_0),
    (GgmlType::Q4_0, QuantGgml::Q4_0),
    (GgmlType::Q4_1, QuantGgml::Q4_1),
    (GgmlType::Q5_0, QuantGgml::Q5_0),
    (GgmlType::Q5_1, QuantGgml::Q5_1),
];

#[test]
fn blocks_of_ggml() {
    ggml_of::<f32>();
    ggml_of::<f16>();
    ggml_of::<bf16>();
}

#[test]
fn error_stats() {
    for_each_float!(error_stats_of);
}

fn error_stats_of<F: Element>() {
    let count = 3 * quant_core::STATS_CHUNK / 2;
    let values: Vec<F> = values::<F>().into_iter().cycle().take(count).collect();
    // Exact in every type.
    let dequantized: Vec<f32> = (0..count).map(|i| (i % 5) as f32 - 1.0).collect();
    let expected = QuantErrorStats::of(&Backend::detect().error_stats(&values, &dequantized));
    let halves: Vec<f16> = dequantized
        .iter()
        .map(|&value| f16::from_f32(value))
        .collect();
    for shift in [0, 1] {
        let mut values = Buffer::new(&values, shift);
        let (mut dequantized, mut halves) = (
            Buffer::new(&dequantized, shift),
            Buffer::new(&halves, shift),
        );
        for (dtype, dequantized) in [
            (float::<f32>(), &mut dequantized),
            (float::<f16>(), &mut halves),
        ] {
            let mut stats = QuantErrorStats::default();
            let (values, dequantized) = (values.pointer(), dequantized.pointer());
            // SAFETY: buffers of these lengths.
            let status = unsafe {
                quant_error_stats(float::<F>(), values, dtype, dequantized, count, &mut stats)
            };
            assert_eq!(status, OK);
            assert_eq!(stats, expected);
        }
    }
}

trait Of {
    fn of(stats: &quant_core::ErrorStats) -> Self;
}

impl Of for QuantErrorStats {
    fn of(stats: &quant_core::ErrorStats) -> Self {
        Self {
            count: stats.count,
            non_finite: stats.non_finite,
            saturated: stats.saturated,
            signal: stats.signal,
            noise: stats.noise,
            absolute: stats.absolute,
            max_absolute: stats.max_absolute,
            mean_absolute: stats.mean_absolute(),
            sqnr_db: stats.sqnr_db(),
            reserved: [0; 3],
        }
    }
}

#[test]
fn packed_codes() {
    for count in [0_usize, 1, 2, 63, 64, 65] {
        let codes: Vec<u8> = (0..count).map(|i| ((i % 16) as i8 - 8) as u8).collect();
        let mut packed = vec![0xff; count.div_ceil(2)];
        let mut back = vec![0x55; count];
        let (size, int4) = (packed.len(), MaybeUninit::new(QuantCode::Int4));
        // SAFETY: buffers of these lengths.
        let status = unsafe {
            [
                quant_pack4(codes.as_ptr(), count, packed.as_mut_ptr(), size),
                quant_unpack4(int4, packed.as_ptr(), size, back.as_mut_ptr(), count),
            ]
        };
        assert_eq!(status, [OK; 2]);
        let mut expected = vec![0; size];
        quant_core::reference::pack(&codes, IntType::Int4, &mut expected);
        assert_eq!(packed, expected);
        assert_eq!(back, codes);
    }
}

#[test]
fn names() {
    // SAFETY: static strings.
    let text = |pointer| unsafe { CStr::from_ptr(pointer) }.to_str().unwrap();
    assert_eq!(text(quant_version()), env!("CARGO_PKG_VERSION"));
    let detected = quant_backend_detect();
    let name = text(quant_backend_name(MaybeUninit::new(detected)));
    assert_eq!(name, Backend::detect().name());
    let mut backends = [QuantBackend::Scalar; 8];
    // SAFETY: room for 8, and none.
    let counts = unsafe {
        [
            quant_backend_list(backends.as_mut_ptr(), 8),
            quant_backend_list(null_mut(), 0),
        ]
    };
    assert_eq!(counts, [Backend::available().len(); 2]);
    let known = backends[..counts[0]].iter().map(|it| MaybeUninit::new(*it));
    let names: Vec<_> = known.map(|it| text(quant_backend_name(it))).collect();
    let expected: Vec<_> = Backend::available().iter().map(|it| it.name()).collect();
    assert_eq!(names, expected);
    let ok = MaybeUninit::new(QuantStatus::Ok);
    assert_eq!(text(quant_status_string(ok)), "done");
}

#[test]
fn observers() {
    use quant_core::observer::{Observer, ObserverConfig};
    let kinds = [
        QuantObserverKind::MinMax,
        QuantObserverKind::MovingAverage,
        QuantObserverKind::Percentile,
        QuantObserverKind::Entropy,
        QuantObserverKind::Mse,
    ];
    // From an odd byte on.
    let values: Vec<f32> = (0..COUNT).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
    let bytes: Vec<u8> = [&[0], bytemuck::cast_slice::<f32, u8>(&values)].concat();
    let scheme = Scheme::new(IntType::Int8, Mode::Affine).with_dialect(Dialect::Torch);
    let c_scheme = QuantScheme::new(QuantCode::Int8, QuantMode::Affine, QuantDialect::Torch);
    for (kind, config) in kinds.into_iter().zip(ObserverConfig::ALL) {
        let settings = QuantObserverConfig {
            kind: MaybeUninit::new(kind),
            bins: 0,
            percentile: 0.0,
            constant: 0.0,
            reserved: [0; 4],
        };
        let mut expected = Observer::new(config).unwrap();
        expected.observe(&values[..2000]);
        expected.observe(&values[2000..]);
        let mut observer = null_mut();
        let mut params = QuantParams::default();
        // SAFETY: what was just made; buffers of these sizes.
        unsafe {
            let from = |position: usize| bytes[1 + 4 * position..].as_ptr().cast();
            assert_eq!(quant_observer_new(&settings, &mut observer), OK);
            assert_eq!(
                quant_observer_observe(observer, float::<f32>(), from(0), 2000),
                OK
            );
            let rest = COUNT - 2000;
            let status = quant_observer_observe_part(observer, float::<f32>(), from(2000), rest);
            assert_eq!(status, OK);
            assert_eq!(quant_observer_end_sample(observer), OK);
            let status = quant_observer_params(observer, float::<f32>(), c_scheme, &mut params);
            assert_eq!(status, OK);
            quant_observer_free(observer);
        }
        let range = expected.range(scheme.dtype, scheme.mode).unwrap();
        let expected = scheme.params(&range, FloatType::F32).unwrap();
        assert_eq!(params.scale, expected.scale(), "{config:?}");
        assert_eq!(params.zero_point, expected.zero_point(), "{config:?}");
    }
}
