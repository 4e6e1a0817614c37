//! From what is known at run time to kernels.
//!
//! [`Dispatch`] is the crate's one list of kernel instances: its methods are not generic, so that
//! each instance is compiled here, once, and not by everyone who uses the crate.

mod instances;

use half::{bf16, f16};
use quant_core::{FloatType, GgmlType, IntType, Packing, Range, Scheme, reference};

use crate::kernels::columns::{BoundColumns, ROWS};
use crate::kernels::encode::Encoded;
use crate::kernels::error::{AddErrors, ErrorSums};
use crate::kernels::histogram::CELLS;
use crate::kernels::range::FindRange;
use crate::kernels::widen::{Narrow, Widen};
use crate::kernels::{Bytes, Packed};
use crate::lane::Lane;
use crate::place::{BLOCKS, Batches, Coding, Place};
use crate::source::{PerBlock, PerElement, PowerOfTwo, Uniform};
use crate::terms::{BlockTerms, Division, Terms};
use crate::{Backend, stream};
use instances::{
    block_terms, count_bins, dequantize, dequantize_ggml, encode, quantize, quantize_batches,
    quantize_ggml,
};

/// The kernels for one type of values.
pub trait Dispatch: Lane {
    /// See [`FindRange`].
    fn find_range(backend: Backend, values: &[Self]) -> Range;
    /// See [`Quantize`]; codes of [`Packing::Bits`] one per byte. Not for [`Place::PerBlock`].
    fn quantize(
        backend: Backend,
        values: &[Self],
        coding: Coding,
        place: Place<'_>,
        codes: &mut [u8],
        stream: bool,
    ) -> u64;
    /// See [`Quantize`]; one code per byte, whatever their bits.
    fn quantize_bytes(
        backend: Backend,
        values: &[Self],
        coding: Coding,
        place: Place<'_>,
        codes: &mut [u8],
    ) -> u64;
    /// See [`Encode`].
    fn encode(
        backend: Backend,
        values: &[Self],
        coding: Coding,
        place: Place<'_>,
        codes: &mut [u8],
        became: &mut [f32],
    ) -> Encoded;
    /// See [`Encode`], without codes.
    fn fake_quantize(
        backend: Backend,
        values: &[Self],
        coding: Coding,
        terms: Terms,
        became: &mut [Self],
    ) -> Encoded;
    /// See [`Dequantize`]; codes of [`Packing::Bits`] one per byte.
    fn dequantize(
        backend: Backend,
        codes: &[u8],
        dtype: IntType,
        place: Place<'_>,
        values: &mut [Self],
        stream: bool,
    );
    /// See [`QuantizeBlocks`]; 0 for dialects and packings that it does not know.
    fn quantize_batches(backend: Backend, batches: Batches<'_, Self>) -> usize;
    /// See [`FindBlockTerms`]; and the division that the terms allow.
    fn block_terms(
        backend: Backend,
        values: &[Self],
        block_size: usize,
        scheme: Scheme,
        terms: &mut BlockTerms<BLOCKS>,
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
    fn add_errors(backend: Backend, values: &[Self], became: &[f32], sums: &mut ErrorSums);
    /// See [`Widen`].
    fn widen_slice(backend: Backend, from: &[Self], to: &mut [f32]);
    /// See [`Narrow`].
    fn narrow_slice(backend: Backend, from: &[f32], through: FloatType, to: &mut [Self]);
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
            fn find_range(backend: Backend, values: &[Self]) -> Range {
                backend.run(FindRange {
                    values,
                    far: stream::is_beyond_cache(size_of_val(values)),
                })
            }
            fn quantize(
                backend: Backend,
                values: &[Self],
                coding: Coding,
                place: Place<'_>,
                codes: &mut [u8],
                stream: bool,
            ) -> u64 {
                match coding.scheme.dtype.packing() {
                    Packing::Nibbles => {
                        quantize::<Self, Packed>(backend, values, coding, place, codes, stream)
                    }
                    Packing::Bytes | Packing::Bits(_) => {
                        quantize::<Self, Bytes>(backend, values, coding, place, codes, stream)
                    }
                }
            }
            fn quantize_bytes(
                backend: Backend,
                values: &[Self],
                coding: Coding,
                place: Place<'_>,
                codes: &mut [u8],
            ) -> u64 {
                quantize::<Self, Bytes>(backend, values, coding, place, codes, false)
            }
            fn encode(
                backend: Backend,
                values: &[Self],
                coding: Coding,
                place: Place<'_>,
                codes: &mut [u8],
                became: &mut [f32],
            ) -> Encoded {
                macro_rules! run {
                    ($source:expr) => {
                        encode::<_, _, _, true>(backend, values, coding, $source, codes, became)
                    };
                }
                match place {
                    Place::Uniform(terms) => run!(Uniform::<true>(terms)),
                    Place::PerElement(terms) => run!(PerElement::<true>(terms.rows)),
                    Place::PerBlock(terms, size, _) => run!(PerBlock::<_, BLOCKS, true> {
                        terms,
                        size: PowerOfTwo(size.trailing_zeros()),
                    }),
                    Place::Reference(params, _) => {
                        let scheme = coding.scheme;
                        let non_finite = reference::quantize(values, scheme, params, codes);
                        reference::dequantize(codes, scheme, params, became);
                        let clipped = reference::saturated(values, scheme, params);
                        Encoded {
                            non_finite,
                            clipped,
                        }
                    }
                }
            }
            fn fake_quantize(
                backend: Backend,
                values: &[Self],
                coding: Coding,
                terms: Terms,
                became: &mut [Self],
            ) -> Encoded {
                let source = Uniform::<true>(terms);
                encode::<_, _, _, false>(backend, values, coding, source, &mut [], became)
            }
            fn dequantize(
                backend: Backend,
                codes: &[u8],
                dtype: IntType,
                place: Place<'_>,
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
                terms: &mut BlockTerms<BLOCKS>,
            ) -> Option<Division> {
                block_terms(backend, values, block_size, scheme, terms)
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
            fn add_errors(backend: Backend, values: &[Self], became: &[f32], sums: &mut ErrorSums) {
                backend.run(AddErrors {
                    values,
                    became,
                    sums,
                });
            }
            fn widen_slice(backend: Backend, from: &[Self], to: &mut [f32]) {
                backend.run(Widen { from, to });
            }
            fn narrow_slice(backend: Backend, from: &[f32], through: FloatType, to: &mut [Self]) {
                backend.run(Narrow { from, through, to });
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
