//! Kernel instances, for any type of values.

use std::marker::PhantomData;

use quant_core::{FloatType, GgmlType, IntType, Mode, Packing, Scheme, ValueRange, reference};

use crate::dialects::mlx::{DequantizeMlx, QuantizeMlx, ToDequantize, ToQuantize};
use crate::kernels::block_params::{FindBlockParams, FindBlockRanges};
use crate::kernels::blocks::{BATCH, QuantizeBlocks, Ranges};
use crate::kernels::dequantize::Dequantize;
use crate::kernels::encode::{Encode, Encoded};
use crate::kernels::encode_runs::EncodeRuns;
use crate::kernels::error::ErrorSums;
use crate::kernels::ggml::{DequantizeGgml, QuantizeGgml};
use crate::kernels::histogram::{CELLS, CountBins, SMALL, histogram_len};
use crate::kernels::quantize::{Quantize, QuantizeSlow};
use crate::kernels::{Bytes, CodeLayout, Packed};
use crate::lane::Lane;
use crate::param_layout::{Batches, EncodeSpec, ParamLayout};
use crate::param_source::BLOCKS;
use crate::param_source::{
    Block32, BlockSize, ParamSource, PerBlock, PerElement, PowerOfTwo, Uniform,
};
use crate::params::{
    BlockParams, CodeRange, Divide, DivideAndAdd, Division, Exact, KernelParams, Quotient,
    code_shift,
};
use crate::{Backend, dialects, stream};

// Long: the list of instances.
pub fn quantize<F: Lane, C: CodeLayout>(
    backend: Backend,
    values: &[F],
    spec: EncodeSpec,
    place: ParamLayout<'_>,
    codes: &mut [u8],
    stream: bool,
) -> u64 {
    fn fast<F: Lane, S: ParamSource, Q: Quotient, C: CodeLayout>(
        backend: Backend,
        values: &[F],
        scheme: Scheme,
        source: S,
        row: usize,
        codes: &mut [u8],
        stream: bool,
    ) -> u64 {
        let kernel = Quantize::<_, _, Q, C> {
            values,
            codes,
            source,
            row,
            range: CodeRange::new(scheme),
            rounding: scheme.dialect.rounding(F::TYPE),
            stream,
            marker: PhantomData,
        };
        match backend.run_vectors(kernel) {
            Ok(non_finite) => non_finite,
            Err(kernel) => {
                let (values, codes) = (kernel.values, kernel.codes);
                slow::<_, _, Divide, C>(backend, values, scheme, source, row, codes)
            }
        }
    }
    fn slow<F: Lane, S: ParamSource, Q: Quotient, C: CodeLayout>(
        backend: Backend,
        values: &[F],
        scheme: Scheme,
        source: S,
        row: usize,
        codes: &mut [u8],
    ) -> u64 {
        backend.run(QuantizeSlow::<_, S::Full, Q, C> {
            values,
            codes,
            source: source.full(),
            first_pair: 0,
            row,
            range: CodeRange::new(scheme),
            rounding: scheme.dialect.rounding(F::TYPE),
            marker: PhantomData,
        })
    }
    let scheme = spec.scheme;
    let mut row = values.len().max(1);
    // Blocks are quantized in batches, or one by one.
    macro_rules! run {
        ($source:expr) => {
            match spec.division {
                Division::Exact => {
                    fast::<F, _, Exact, C>(backend, values, scheme, $source, row, codes, stream)
                }
                Division::Half => {
                    fast::<F, _, F::Own, C>(backend, values, scheme, $source, row, codes, stream)
                }
                Division::Divide => {
                    slow::<_, _, Divide, C>(backend, values, scheme, $source, row, codes)
                }
            }
        };
    }
    macro_rules! add_first {
        ($source:expr) => {
            slow::<_, _, DivideAndAdd, C>(backend, values, scheme, $source, row, codes)
        };
    }
    match place {
        ParamLayout::Uniform(kernel_params) if scheme.adds_zero_point_first() => {
            add_first!(Uniform::<true>(kernel_params))
        }
        ParamLayout::PerElement(kernel_params) if scheme.adds_zero_point_first() => {
            row = kernel_params.len;
            add_first!(PerElement::<true>(kernel_params.rows))
        }
        ParamLayout::Uniform(kernel_params)
            if kernel_params.zero_point == 0 && code_shift(scheme.dtype) == 0 =>
        {
            run!(Uniform::<false>(kernel_params))
        }
        ParamLayout::Uniform(kernel_params) => run!(Uniform::<true>(kernel_params)),
        ParamLayout::PerElement(kernel_params) => {
            row = kernel_params.len;
            match kernel_params.has_zero_points {
                true => run!(PerElement::<true>(kernel_params.rows)),
                false => run!(PerElement::<false>(kernel_params.rows)),
            }
        }
        ParamLayout::PerBlock(..) => unreachable!("quantized in batches"),
        ParamLayout::Reference(params, _) => reference::quantize(values, scheme, params, codes),
    }
}

pub fn encode<F: Lane, B: Lane, S: ParamSource, const CODES: bool>(
    backend: Backend,
    values: &[F],
    spec: EncodeSpec,
    source: S,
    codes: &mut [u8],
    dequantized: &mut [B],
) -> Encoded {
    let scheme = spec.scheme;
    macro_rules! kernel {
        ($Q:ty) => {
            Encode::<_, _, _, $Q, CODES> {
                values,
                codes,
                dequantized,
                source,
                first_pair: 0,
                range: CodeRange::new(scheme),
                rounding: scheme.dialect.rounding(F::TYPE),
                scale_type: spec.scale_type,
                marker: PhantomData,
            }
        };
    }
    if scheme.adds_zero_point_first() {
        return backend.run(kernel!(DivideAndAdd));
    }
    let fast = backend.has_reciprocal();
    let f16_scale = spec.scale_type == FloatType::F16;
    let wide_scale = spec.scale_type == FloatType::F32 || F::TYPE == FloatType::Bf16;
    match spec.division {
        Division::Exact if fast && wide_scale => {
            backend.run_vectors(kernel!(Exact)).unwrap_or_default()
        }
        Division::Half if fast && f16_scale => {
            backend.run_vectors(kernel!(F::Own)).unwrap_or_default()
        }
        Division::Exact | Division::Half | Division::Divide => backend.run(kernel!(Divide)),
    }
}

/// [`EncodeRuns`]; none where it does not serve.
pub fn encode_runs<F: Lane, S: ParamSource>(
    backend: Backend,
    values: &[F],
    spec: EncodeSpec,
    source: S,
    codes: &mut [u8],
    sums: &mut ErrorSums,
) -> Option<usize> {
    macro_rules! run {
        ($Q:ty) => {{
            let done = backend.run_vectors(EncodeRuns::<_, _, $Q> {
                values,
                codes,
                sums,
                source,
                range: CodeRange::new(spec.scheme),
                scale_type: spec.scale_type,
                marker: PhantomData,
            });
            done.ok().flatten()
        }};
    }
    if spec.scheme.adds_zero_point_first() {
        return None;
    }
    let f16_scale = spec.scale_type == FloatType::F16;
    let wide_scale = spec.scale_type == FloatType::F32 || F::TYPE == FloatType::Bf16;
    match spec.division {
        Division::Exact if wide_scale => run!(Exact),
        Division::Half if f16_scale => run!(F::Own),
        Division::Exact | Division::Half | Division::Divide => None,
    }
}

pub fn dequantize<F: Lane>(
    backend: Backend,
    codes: &[u8],
    dtype: IntType,
    place: ParamLayout<'_>,
    values: &mut [F],
    stream: bool,
) {
    macro_rules! run {
        ($C:ty, $source:expr) => {
            backend.run(Dequantize::<_, _, $C> {
                codes,
                values,
                source: $source,
                signed: dtype.is_signed(),
                stream,
                form: PhantomData,
            })
        };
    }
    macro_rules! run_form {
        ($source:expr) => {
            match dtype.packing() {
                Packing::Nibbles => run!(Packed, $source),
                Packing::Bytes | Packing::Bits(_) => run!(Bytes, $source),
            }
        };
    }
    // The usual case, without zero points, has no subtraction.
    match place {
        ParamLayout::Uniform(kernel_params) if kernel_params.zero_point == 0 => {
            run_form!(Uniform::<false>(kernel_params))
        }
        ParamLayout::Uniform(kernel_params) => run_form!(Uniform::<true>(kernel_params)),
        ParamLayout::PerBlock(kernel_params, 32, false) => {
            run_form!(PerBlock::<_, BLOCKS, false> {
                kernel_params,
                size: Block32,
            })
        }
        ParamLayout::PerBlock(kernel_params, size, has_zero_points) => {
            let size = PowerOfTwo(size.trailing_zeros());
            match has_zero_points {
                true => run_form!(PerBlock::<_, BLOCKS, true> {
                    kernel_params,
                    size
                }),
                false => run_form!(PerBlock::<_, BLOCKS, false> {
                    kernel_params,
                    size
                }),
            }
        }
        ParamLayout::PerElement(kernel_params) => run_form!(PerElement::<true>(kernel_params.rows)),
        ParamLayout::Reference(params, dialect) => {
            let scheme = Scheme::new(dtype, Mode::Affine).with_dialect(dialect);
            reference::dequantize(codes, scheme, params, values);
        }
    }
}

pub fn quantize_batches<F: Lane>(backend: Backend, batches: Batches<'_, F>) -> usize {
    fn run<F: Lane, Q: Quotient, C: CodeLayout>(
        backend: Backend,
        batches: Batches<'_, F>,
    ) -> usize {
        fn run<F: Lane, Q: Quotient, C: CodeLayout, B: BlockSize>(
            backend: Backend,
            batches: Batches<'_, F>,
            block_size: B,
        ) -> usize {
            let kernel = QuantizeBlocks::<_, Q, C, B> {
                values: batches.values,
                codes: batches.codes,
                scales: batches.scales,
                zero_points: batches.zero_points,
                scheme: batches.scheme,
                block_size,
                stream: batches.stream,
                marker: PhantomData,
            };
            backend.run_vectors(kernel).unwrap_or(0)
        }
        match batches.block_size {
            32 => run::<F, Q, C, _>(backend, batches, Block32),
            size => run::<F, Q, C, _>(backend, batches, PowerOfTwo(size.trailing_zeros())),
        }
    }
    let scheme = batches.scheme;
    if !dialects::has_block_formula(scheme.dialect) {
        return 0;
    }
    let half = scheme.dialect.rounding(F::TYPE) == FloatType::F16;
    match (half, scheme.dtype.packing()) {
        (false, Packing::Nibbles) => run::<F, Exact, Packed>(backend, batches),
        (false, Packing::Bytes) => run::<F, Exact, Bytes>(backend, batches),
        (true, Packing::Nibbles) => run::<F, F::Own, Packed>(backend, batches),
        (true, Packing::Bytes) => run::<F, F::Own, Bytes>(backend, batches),
        (_, Packing::Bits(_)) => 0,
    }
}

pub fn block_terms<F: Lane>(
    backend: Backend,
    values: &[F],
    block_size: usize,
    scheme: Scheme,
    kernel_params: &mut BlockParams<BLOCKS>,
) -> Option<Division> {
    macro_rules! kernel {
        ($Q:ty) => {
            FindBlockParams::<_, $Q, BLOCKS> {
                values,
                block_size,
                scheme,
                kernel_params,
                marker: PhantomData,
            }
        };
    }
    if !dialects::has_block_formula(scheme.dialect) {
        return found_one_by_one(backend, values, block_size, scheme, kernel_params);
    }
    let (found, division) = match scheme.dialect.rounding(F::TYPE) {
        FloatType::F16 => (
            backend.run_vectors(kernel!(F::Own)).is_ok_and(|all| all),
            Division::Half,
        ),
        FloatType::F32 | FloatType::Bf16 => (
            backend.run_vectors(kernel!(Exact)).is_ok_and(|all| all),
            Division::Exact,
        ),
    };
    found.then_some(division)
}

/// [`block_terms`] of a dialect whose formula the kernels do not know: ranges many at a time, their
/// parameters by the reference.
fn found_one_by_one<F: Lane>(
    backend: Backend,
    values: &[F],
    block_size: usize,
    scheme: Scheme,
    kernel_params: &mut BlockParams<BLOCKS>,
) -> Option<Division> {
    if !dialects::has_kernels(scheme) {
        return None;
    }
    let mut found = Ranges::default();
    let ranges = FindBlockRanges {
        values,
        block_size,
        mode: scheme.mode,
        found: &mut found,
    };
    backend.run_vectors(ranges).ok()?;
    let mut division: Option<Division> = None;
    for block in 0..BATCH {
        let range = ValueRange {
            min: found.min[block],
            max: found.max[block],
            non_finite: 0,
        };
        let params = scheme.params(&range, F::TYPE).ok()?;
        if params.scale() == 0.0 {
            return None;
        }
        let (own, by) = KernelParams::new(scheme, F::TYPE, params);
        kernel_params.set(block, own);
        division = Some(division.map_or(by, |known| known.and(by)));
    }
    division
}

pub fn count_bins<F: Lane>(
    backend: Backend,
    values: &[F],
    exponent: i32,
    bins: usize,
    cells: &mut [u32; CELLS],
) {
    fn run<F: Lane, const BINS: usize, const HISTOGRAMS: usize>(
        backend: Backend,
        values: &[F],
        exponent: i32,
        bins: usize,
        cells: &mut [u32; CELLS],
    ) {
        backend.run(CountBins::<_, BINS, HISTOGRAMS>::new(
            values, exponent, bins, cells,
        ));
    }
    match histogram_len(bins) {
        SMALL => run::<F, SMALL, { CELLS / SMALL }>(backend, values, exponent, bins, cells),
        _ => run::<F, CELLS, 1>(backend, values, exponent, bins, cells),
    }
}

/// Bits, whether there is a minimum, and bytes of each type's blocks.
macro_rules! by_ggml_type {
    ($block_type:expr, $Kernel:ident { $($field:ident),* }, $backend:expr) => {{
        macro_rules! run {
            ($of:path) => {
                $backend.run($Kernel::<
                    _,
                    { $of.bits() },
                    { $of.has_minimum() },
                    { $of.block_size() },
                > {
                    $($field),*
                })
            };
        }
        match $block_type {
            GgmlType::Q8_0 => run!(GgmlType::Q8_0),
            GgmlType::Q4_0 => run!(GgmlType::Q4_0),
            GgmlType::Q4_1 => run!(GgmlType::Q4_1),
            GgmlType::Q5_0 => run!(GgmlType::Q5_0),
            GgmlType::Q5_1 => run!(GgmlType::Q5_1),
        }
    }};
}

pub fn quantize_mlx<F: Lane>(backend: Backend, blocks: ToQuantize<'_, F>) -> usize {
    let done = match blocks.dtype.packing() {
        Packing::Nibbles => backend
            .run_vectors(QuantizeMlx::<_, Packed>(blocks, PhantomData))
            .ok(),
        Packing::Bytes | Packing::Bits(_) => backend
            .run_vectors(QuantizeMlx::<_, Bytes>(blocks, PhantomData))
            .ok(),
    };
    done.unwrap_or(0)
}

pub fn dequantize_mlx<F: Lane>(backend: Backend, blocks: ToDequantize<'_, F>, dtype: IntType) {
    match dtype.packing() {
        Packing::Nibbles => backend.run(DequantizeMlx::<_, Packed>(blocks, PhantomData)),
        Packing::Bytes | Packing::Bits(_) => {
            backend.run(DequantizeMlx::<_, Bytes>(blocks, PhantomData));
        }
    }
}

pub fn quantize_ggml<F: Lane>(
    backend: Backend,
    values: &[F],
    block_type: GgmlType,
    blocks: &mut [u8],
) -> usize {
    let stream = stream::is_worthwhile(size_of_val(values), blocks.len());
    by_ggml_type!(
        block_type,
        QuantizeGgml {
            values,
            blocks,
            stream
        },
        backend
    )
}

pub fn dequantize_ggml<F: Lane>(
    backend: Backend,
    blocks: &[u8],
    block_type: GgmlType,
    values: &mut [F],
) -> usize {
    let stream = stream::is_worthwhile(blocks.len(), size_of_val(values));
    by_ggml_type!(
        block_type,
        DequantizeGgml {
            blocks,
            values,
            stream
        },
        backend
    )
}
