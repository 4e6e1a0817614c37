//! From what is known at run time to kernels.
//!
//! [`Dispatch`] is the crate's one list of kernel instances: its methods are not generic, so that
//! each instance is compiled here, once, and not by everyone who uses the crate.

mod instances;

use half::{bf16, f16};
use quant_core::{FloatType, GgmlType, IntType, Packing, Scheme, ValueRange, reference};

use crate::dialects::mlx::{ToDequantize, ToQuantize};
use crate::kernels::columns::{BoundColumns, ROWS};
use crate::kernels::encode::Encoded;
use crate::kernels::error::{AddErrors, ErrorSums};
use crate::kernels::histogram::CELLS;
use crate::kernels::range::FindRange;
use crate::kernels::widen::{Narrow, Widen};
use crate::kernels::{Bytes, Packed};
use crate::lane::Lane;
use crate::param_layout::{Batches, EncodeSpec, ParamLayout};
use crate::param_source::BLOCKS;
use crate::param_source::{PerBlock, PerElement, PowerOfTwo, Uniform};
use crate::params::{BlockParams, Division, KernelParams};
use crate::{Backend, stream};
use instances::{
    block_terms, count_bins, dequantize, dequantize_ggml, dequantize_mlx, encode, encode_runs,
    quantize, quantize_batches, quantize_ggml, quantize_mlx,
};

/// The kernels for one type of values.
pub trait Dispatch: Lane {
    /// See [`FindRange`].
    fn find_range(backend: Backend, values: &[Self]) -> ValueRange;
    /// See [`Quantize`]; codes of [`Packing::Bits`] one per byte. Not for [`ParamLayout::PerBlock`].
    fn quantize(
        backend: Backend,
        values: &[Self],
        spec: EncodeSpec,
        place: ParamLayout<'_>,
        codes: &mut [u8],
        stream: bool,
    ) -> u64;
    /// See [`Quantize`]; one code per byte, whatever their bits.
    fn quantize_bytes(
        backend: Backend,
        values: &[Self],
        spec: EncodeSpec,
        place: ParamLayout<'_>,
        codes: &mut [u8],
    ) -> u64;
    /// See [`Encode`].
    fn encode(
        backend: Backend,
        values: &[Self],
        spec: EncodeSpec,
        place: ParamLayout<'_>,
        codes: &mut [u8],
        dequantized: &mut [f32],
    ) -> Encoded;
    /// See [`EncodeRuns`](crate::kernels::encode_runs::EncodeRuns); none where no kernel serves.
    fn encode_runs(
        backend: Backend,
        values: &[Self],
        spec: EncodeSpec,
        place: ParamLayout<'_>,
        codes: &mut [u8],
        sums: &mut ErrorSums,
    ) -> Option<usize>;
    /// See [`Encode`], without codes.
    fn fake_quantize(
        backend: Backend,
        values: &[Self],
        spec: EncodeSpec,
        kernel_params: KernelParams,
        dequantized: &mut [Self],
    ) -> Encoded;
    /// See [`Dequantize`]; codes of [`Packing::Bits`] one per byte.
    fn dequantize(
        backend: Backend,
        codes: &[u8],
        dtype: IntType,
        place: ParamLayout<'_>,
        values: &mut [Self],
        stream: bool,
    );
    /// See [`QuantizeBlocks`]; 0 for dialects and packings that it does not know.
    fn quantize_batches(backend: Backend, batches: Batches<'_, Self>) -> usize;
    /// See [`FindBlockParams`]; and the division that the parameters allow.
    fn block_terms(
        backend: Backend,
        values: &[Self],
        block_size: usize,
        scheme: Scheme,
        kernel_params: &mut BlockParams<BLOCKS>,
    ) -> Option<Division>;
    /// See [`BoundColumns`].
    fn bound_columns(
        backend: Backend,
        rows: [&[Self]; ROWS],
        min: &mut [f32],
        max: &mut [f32],
    ) -> bool;
    /// See [`CountBins`]; for finite values that have a bin.
    fn count_bins(
        backend: Backend,
        values: &[Self],
        exponent: i32,
        bins: usize,
        cells: &mut [u32; CELLS],
    );
    /// See [`AddErrors`].
    fn add_errors(backend: Backend, values: &[Self], dequantized: &[f32], sums: &mut ErrorSums);
    /// See [`Widen`].
    fn widen_slice(backend: Backend, from: &[Self], to: &mut [f32]);
    /// See [`Narrow`].
    fn narrow_slice(backend: Backend, from: &[f32], through: FloatType, to: &mut [Self]);
    /// See [`QuantizeMlx`](crate::dialects::mlx::QuantizeMlx); 0 without vectors. Codes of
    /// [`Packing::Bits`] one per byte.
    fn quantize_mlx(backend: Backend, blocks: ToQuantize<'_, Self>) -> usize;
    /// See [`DequantizeMlx`](crate::dialects::mlx::DequantizeMlx); codes of [`Packing::Bits`] one per
    /// byte.
    fn dequantize_mlx(backend: Backend, blocks: ToDequantize<'_, Self>, dtype: IntType);
    /// See [`QuantizeGgml`](crate::kernels::ggml::QuantizeGgml).
    fn quantize_ggml(
        backend: Backend,
        values: &[Self],
        block_type: GgmlType,
        blocks: &mut [u8],
    ) -> usize;
    /// See [`DequantizeGgml`](crate::kernels::ggml::DequantizeGgml).
    fn dequantize_ggml(
        backend: Backend,
        blocks: &[u8],
        block_type: GgmlType,
        values: &mut [Self],
    ) -> usize;
}

macro_rules! dispatch {
    ($float:ty) => {
        impl Dispatch for $float {
            fn find_range(backend: Backend, values: &[Self]) -> ValueRange {
                backend.run(FindRange {
                    values,
                    far: stream::is_beyond_cache(size_of_val(values)),
                })
            }
            fn quantize(
                backend: Backend,
                values: &[Self],
                spec: EncodeSpec,
                place: ParamLayout<'_>,
                codes: &mut [u8],
                stream: bool,
            ) -> u64 {
                match spec.scheme.dtype.packing() {
                    Packing::Nibbles => {
                        quantize::<Self, Packed>(backend, values, spec, place, codes, stream)
                    }
                    Packing::Bytes | Packing::Bits(_) => {
                        quantize::<Self, Bytes>(backend, values, spec, place, codes, stream)
                    }
                }
            }
            fn quantize_bytes(
                backend: Backend,
                values: &[Self],
                spec: EncodeSpec,
                place: ParamLayout<'_>,
                codes: &mut [u8],
            ) -> u64 {
                quantize::<Self, Bytes>(backend, values, spec, place, codes, false)
            }
            fn encode(
                backend: Backend,
                values: &[Self],
                spec: EncodeSpec,
                place: ParamLayout<'_>,
                codes: &mut [u8],
                dequantized: &mut [f32],
            ) -> Encoded {
                macro_rules! run {
                    ($source:expr) => {
                        encode::<_, _, _, true>(backend, values, spec, $source, codes, dequantized)
                    };
                }
                match place {
                    ParamLayout::Uniform(kernel_params) => run!(Uniform::<true>(kernel_params)),
                    ParamLayout::PerElement(kernel_params) => {
                        run!(PerElement::<true>(kernel_params.rows))
                    }
                    ParamLayout::PerBlock(kernel_params, size, _) => {
                        run!(PerBlock::<_, BLOCKS, true> {
                            kernel_params,
                            size: PowerOfTwo(size.trailing_zeros()),
                        })
                    }
                    ParamLayout::Reference(params, _) => {
                        let scheme = spec.scheme;
                        let non_finite = reference::quantize(values, scheme, params, codes);
                        reference::dequantize(codes, scheme, params, dequantized);
                        let clipped = reference::saturated(values, scheme, params);
                        Encoded {
                            non_finite,
                            clipped,
                        }
                    }
                }
            }
            fn encode_runs(
                backend: Backend,
                values: &[Self],
                spec: EncodeSpec,
                place: ParamLayout<'_>,
                codes: &mut [u8],
                sums: &mut ErrorSums,
            ) -> Option<usize> {
                macro_rules! run {
                    ($source:expr) => {
                        encode_runs(backend, values, spec, $source, codes, sums)
                    };
                }
                match place {
                    ParamLayout::Uniform(kernel_params) => run!(Uniform::<true>(kernel_params)),
                    ParamLayout::PerElement(kernel_params) => {
                        run!(PerElement::<true>(kernel_params.rows))
                    }
                    ParamLayout::PerBlock(kernel_params, size, _) => {
                        run!(PerBlock::<_, BLOCKS, true> {
                            kernel_params,
                            size: PowerOfTwo(size.trailing_zeros()),
                        })
                    }
                    ParamLayout::Reference(..) => None,
                }
            }
            fn fake_quantize(
                backend: Backend,
                values: &[Self],
                spec: EncodeSpec,
                kernel_params: KernelParams,
                dequantized: &mut [Self],
            ) -> Encoded {
                let source = Uniform::<true>(kernel_params);
                encode::<_, _, _, false>(backend, values, spec, source, &mut [], dequantized)
            }
            fn dequantize(
                backend: Backend,
                codes: &[u8],
                dtype: IntType,
                place: ParamLayout<'_>,
                values: &mut [Self],
                stream: bool,
            ) {
                dequantize(backend, codes, dtype, place, values, stream);
            }
            fn quantize_batches(backend: Backend, batches: Batches<'_, Self>) -> usize {
                quantize_batches(backend, batches)
            }
            fn block_terms(
                backend: Backend,
                values: &[Self],
                block_size: usize,
                scheme: Scheme,
                kernel_params: &mut BlockParams<BLOCKS>,
            ) -> Option<Division> {
                block_terms(backend, values, block_size, scheme, kernel_params)
            }
            fn bound_columns(
                backend: Backend,
                rows: [&[Self]; ROWS],
                min: &mut [f32],
                max: &mut [f32],
            ) -> bool {
                backend.run(BoundColumns { rows, min, max })
            }
            fn count_bins(
                backend: Backend,
                values: &[Self],
                exponent: i32,
                bins: usize,
                cells: &mut [u32; CELLS],
            ) {
                count_bins(backend, values, exponent, bins, cells);
            }
            fn add_errors(
                backend: Backend,
                values: &[Self],
                dequantized: &[f32],
                sums: &mut ErrorSums,
            ) {
                backend.run(AddErrors {
                    values,
                    dequantized,
                    sums,
                });
            }
            fn widen_slice(backend: Backend, from: &[Self], to: &mut [f32]) {
                backend.run(Widen { from, to });
            }
            fn narrow_slice(backend: Backend, from: &[f32], through: FloatType, to: &mut [Self]) {
                backend.run(Narrow { from, through, to });
            }
            fn quantize_mlx(backend: Backend, blocks: ToQuantize<'_, Self>) -> usize {
                quantize_mlx(backend, blocks)
            }
            fn dequantize_mlx(backend: Backend, blocks: ToDequantize<'_, Self>, dtype: IntType) {
                dequantize_mlx(backend, blocks, dtype);
            }
            fn quantize_ggml(
                backend: Backend,
                values: &[Self],
                block_type: GgmlType,
                blocks: &mut [u8],
            ) -> usize {
                quantize_ggml(backend, values, block_type, blocks)
            }
            fn dequantize_ggml(
                backend: Backend,
                blocks: &[u8],
                block_type: GgmlType,
                values: &mut [Self],
            ) -> usize {
                dequantize_ggml(backend, blocks, block_type, values)
            }
        }
    };
}

dispatch!(f32);
dispatch!(f16);
dispatch!(bf16);
