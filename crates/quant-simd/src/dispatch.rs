//! From what is known at run time to kernels.
//!
//! [`Dispatch`] is the crate's one list of kernel instances: its methods are not generic, so that
//! each instance is compiled here, once, and not by everyone who uses the crate.

use std::marker::PhantomData;

use half::{bf16, f16};
use quant_core::{FloatType, IntType, Params, Range, Scheme};

use crate::kernels::blocks::{FindBlockTerms, QuantizeBlocks};
use crate::kernels::columns::{BoundColumns, ROWS};
use crate::kernels::dequantize::Dequantize;
use crate::kernels::encode::{Encode, Encoded};
use crate::kernels::error::{AddErrors, ErrorSums};
use crate::kernels::histogram::CountBins;
use crate::kernels::quantize::{Quantize, QuantizeSurely};
use crate::kernels::range::FindRange;
use crate::kernels::widen::{Narrow, Widen};
use crate::kernels::{Bytes, Form, Packed};
use crate::terms::{
    Block32, BlockRows, BlockSize, BlockTerms, CodeRange, Divide, Division, Exact, LARGEST_PAIR,
    PerBlock, PerElement, PowerOfTwo, Quotient, Source, TermRows, Terms, Uniform,
};
use crate::{Backend, Element, stream};

/// Blocks that [`Place::PerBlock`] holds the terms of.
pub const BLOCKS: usize = 512;

/// Where the terms of elements come from.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// The same for all.
    Uniform(Terms),
    /// The same for so many, see [`is_block_size`]; and whether some zero point is not 0.
    PerBlock(BlockRows<'a, BLOCKS>, usize, bool),
    /// Each its own, for a row of so many elements, an even number; rows share them.
    PerElement(ElementTerms<'a>),
}

/// Terms for a row of elements; rows that follow one another share them.
#[derive(Clone, Copy)]
pub struct ElementTerms<'a> {
    /// The terms, and padding.
    pub rows: TermRows<'a>,
    /// Elements in a row: an even number, or all that there are.
    pub len: usize,
    /// Whether some zero point is not 0, or codes are shifted.
    pub has_zero_points: bool,
}

impl Place<'_> {
    /// That of the elements from `count` on, an even number.
    pub fn skip(&self, count: usize) -> Self {
        match self {
            Self::PerElement(terms) => Self::PerElement(ElementTerms {
                rows: terms.rows.skip(count),
                len: terms.len - count,
                ..*terms
            }),
            Self::PerBlock(terms, size, has_zero_points) => {
                let mut rest = *terms;
                rest.start += count;
                Self::PerBlock(rest, *size, *has_zero_points)
            }
            other => *other,
        }
    }
}

/// Whether [`Place::PerBlock`] and the batches of blocks serve this block size. Larger blocks are
/// worth a kernel each.
pub fn is_block_size(block_size: usize) -> bool {
    block_size.is_power_of_two() && (LARGEST_PAIR..=256).contains(&block_size)
}

/// How values become codes.
#[derive(Clone, Copy)]
pub struct Coding {
    /// Integer type, mode and dialect.
    pub scheme: Scheme,
    /// The division that all terms allow.
    pub division: Division,
    /// The type that scales are stored in.
    pub scale_type: FloatType,
}

impl Coding {
    /// With given parameters; and their terms.
    pub fn of<F: Element>(scheme: Scheme, params: Params) -> (Self, Terms) {
        let (terms, division) = Terms::of(scheme, F::TYPE, params);
        let coding = Self {
            scheme,
            division,
            scale_type: params.scale_type(),
        };
        (coding, terms)
    }
}

fn quantize<F: Element, C: Form>(
    backend: Backend,
    values: &[F],
    coding: Coding,
    place: Place<'_>,
    codes: &mut [u8],
    stream: bool,
) -> u64 {
    fn fast<F: Element, S: Source, Q: Quotient, C: Form>(
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
            range: CodeRange::of(scheme),
            arithmetic: scheme.dialect.arithmetic(F::TYPE),
            stream,
            way: PhantomData,
        };
        match backend.run_vectors(kernel) {
            Ok(non_finite) => non_finite,
            Err(kernel) => {
                surely::<_, _, C>(backend, kernel.values, scheme, source, row, kernel.codes)
            }
        }
    }
    fn surely<F: Element, S: Source, C: Form>(
        backend: Backend,
        values: &[F],
        scheme: Scheme,
        source: S,
        row: usize,
        codes: &mut [u8],
    ) -> u64 {
        backend.run(QuantizeSurely::<_, _, C> {
            values,
            codes,
            source,
            first_pair: 0,
            row,
            range: CodeRange::of(scheme),
            arithmetic: scheme.dialect.arithmetic(F::TYPE),
            form: PhantomData,
        })
    }
    let scheme = coding.scheme;
    let mut row = values.len().max(1);
    // Blocks are quantized in batches, or one by one.
    macro_rules! run {
        ($source:expr) => {
            match coding.division {
                Division::Exact => {
                    fast::<F, _, Exact, C>(backend, values, scheme, $source, row, codes, stream)
                }
                Division::Half => {
                    fast::<F, _, F::Own, C>(backend, values, scheme, $source, row, codes, stream)
                }
                Division::Divide => surely::<_, _, C>(backend, values, scheme, $source, row, codes),
            }
        };
    }
    match place {
        Place::Uniform(terms) if terms.zero_point == 0 && CodeRange::of(scheme).shift == 0 => {
            run!(Uniform::<false>(terms))
        }
        Place::Uniform(terms) => run!(Uniform::<true>(terms)),
        Place::PerElement(terms) => {
            row = terms.len;
            match terms.has_zero_points {
                true => run!(PerElement::<true>(terms.rows)),
                false => run!(PerElement::<false>(terms.rows)),
            }
        }
        Place::PerBlock(..) => unreachable!("quantized in batches"),
    }
}

fn encode<F: Element, B: Element, S: Source, const CODES: bool>(
    backend: Backend,
    values: &[F],
    coding: Coding,
    source: S,
    codes: &mut [u8],
    became: &mut [B],
) -> Encoded {
    let scheme = coding.scheme;
    macro_rules! kernel {
        ($Q:ty) => {
            Encode::<_, _, _, $Q, CODES> {
                values,
                codes,
                became,
                source,
                first_pair: 0,
                range: CodeRange::of(scheme),
                arithmetic: scheme.dialect.arithmetic(F::TYPE),
                scale_type: coding.scale_type,
                way: PhantomData,
            }
        };
    }
    let fast = backend.has_reciprocal();
    let f16_scale = coding.scale_type == FloatType::F16;
    let wide_scale = coding.scale_type == FloatType::F32 || F::TYPE == FloatType::Bf16;
    match coding.division {
        Division::Exact if fast && wide_scale => {
            backend.run_vectors(kernel!(Exact)).unwrap_or_default()
        }
        Division::Half if fast && f16_scale => {
            backend.run_vectors(kernel!(F::Own)).unwrap_or_default()
        }
        _ => backend.run(kernel!(Divide)),
    }
}

fn dequantize<F: Element>(
    backend: Backend,
    codes: &[u8],
    dtype: IntType,
    place: Place<'_>,
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
            match dtype.bits() {
                4 => run!(Packed, $source),
                _ => run!(Bytes, $source),
            }
        };
    }
    // The usual case, without zero points, has no subtraction.
    match place {
        Place::Uniform(terms) if terms.zero_point == 0 => run_form!(Uniform::<false>(terms)),
        Place::Uniform(terms) => run_form!(Uniform::<true>(terms)),
        Place::PerBlock(terms, 32, false) => run_form!(PerBlock::<_, BLOCKS, false> {
            terms,
            size: Block32,
        }),
        Place::PerBlock(terms, size, has_zero_points) => {
            let size = PowerOfTwo(size.trailing_zeros());
            match has_zero_points {
                true => run_form!(PerBlock::<_, BLOCKS, true> { terms, size }),
                false => run_form!(PerBlock::<_, BLOCKS, false> { terms, size }),
            }
        }
        Place::PerElement(terms) => run_form!(PerElement::<true>(terms.rows)),
    }
}

/// Blocks to be quantized in batches.
pub struct Batches<'a, F> {
    /// The values.
    pub values: &'a [F],
    /// Values per block, see [`is_block_size`].
    pub block_size: usize,
    /// Integer type, mode and dialect.
    pub scheme: Scheme,
    /// Room for codes.
    pub codes: &'a mut [u8],
    /// Room for scales.
    pub scales: &'a mut [f32],
    /// Room for zero points, where the scheme stores them.
    pub zero_points: &'a mut [u8],
    /// Whether to store codes around the cache.
    pub stream: bool,
}

fn quantize_batches<F: Element>(backend: Backend, batches: Batches<'_, F>) -> usize {
    fn run<F: Element, Q: Quotient, C: Form>(backend: Backend, batches: Batches<'_, F>) -> usize {
        fn run<F: Element, Q: Quotient, C: Form, B: BlockSize>(
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
                way: PhantomData,
            };
            backend.run_vectors(kernel).unwrap_or(0)
        }
        match batches.block_size {
            32 => run::<F, Q, C, _>(backend, batches, Block32),
            size => run::<F, Q, C, _>(backend, batches, PowerOfTwo(size.trailing_zeros())),
        }
    }
    let half = batches.scheme.dialect.arithmetic(F::TYPE) == FloatType::F16;
    match (half, batches.scheme.dtype.bits()) {
        (false, 4) => run::<F, Exact, Packed>(backend, batches),
        (false, _) => run::<F, Exact, Bytes>(backend, batches),
        (true, 4) => run::<F, F::Own, Packed>(backend, batches),
        (true, _) => run::<F, F::Own, Bytes>(backend, batches),
    }
}

fn block_terms<F: Element>(
    backend: Backend,
    values: &[F],
    block_size: usize,
    scheme: Scheme,
    terms: &mut BlockTerms<BLOCKS>,
) -> Option<Division> {
    macro_rules! kernel {
        ($Q:ty) => {
            FindBlockTerms::<_, $Q, BLOCKS> {
                values,
                block_size,
                scheme,
                terms,
                way: PhantomData,
            }
        };
    }
    let (found, division) = match scheme.dialect.arithmetic(F::TYPE) {
        FloatType::F16 => (
            backend.run_vectors(kernel!(F::Own)).is_ok_and(|all| all),
            Division::Half,
        ),
        _ => (
            backend.run_vectors(kernel!(Exact)).is_ok_and(|all| all),
            Division::Exact,
        ),
    };
    found.then_some(division)
}

/// Cells that [`Dispatch::count_bins`] counts in.
pub const CELLS: usize = 8192;

/// The histograms that the cells are, one after the other: so many cells each, of which the first
/// `bins` count.
pub const fn histogram_len(bins: usize) -> usize {
    if bins <= SMALL { SMALL } else { CELLS }
}

/// Bins of which several histograms fit the first cache, beside the values.
const SMALL: usize = 2048;

fn count_bins<F: Element>(
    backend: Backend,
    values: &[F],
    exponent: i32,
    bins: usize,
    cells: &mut [u32; CELLS],
) {
    fn run<F: Element, const BINS: usize, const HISTOGRAMS: usize>(
        backend: Backend,
        values: &[F],
        exponent: i32,
        bins: usize,
        cells: &mut [u32; CELLS],
    ) {
        let (cells, _) = cells.as_chunks_mut();
        backend.run(CountBins::<_, BINS, HISTOGRAMS> {
            values,
            // A normal power of two, by which products are exact: see `Histogram`.
            per_width: f32::from_bits(((127 - exponent) as u32) << 23),
            middle: (bins / 2) as i32,
            cells: cells
                .try_into()
                .expect("as many histograms as there are cells for"),
        });
    }
    match histogram_len(bins) {
        SMALL => run::<F, SMALL, { CELLS / SMALL }>(backend, values, exponent, bins, cells),
        _ => run::<F, CELLS, 1>(backend, values, exponent, bins, cells),
    }
}

/// The kernels for one type of values.
pub trait Dispatch: Sized {
    /// See [`FindRange`].
    fn find_range(backend: Backend, values: &[Self]) -> Range;
    /// See [`Quantize`]. Not for [`Place::PerBlock`].
    fn quantize(
        backend: Backend,
        values: &[Self],
        coding: Coding,
        place: Place<'_>,
        codes: &mut [u8],
        stream: bool,
    ) -> u64;
    /// See [`Quantize`]; one code per byte, 4-bit ones too.
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
    /// See [`Dequantize`].
    fn dequantize(
        backend: Backend,
        codes: &[u8],
        dtype: IntType,
        place: Place<'_>,
        values: &mut [Self],
        stream: bool,
    );
    /// See [`QuantizeBlocks`].
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
                match coding.scheme.dtype.bits() {
                    4 => quantize::<Self, Packed>(backend, values, coding, place, codes, stream),
                    _ => quantize::<Self, Bytes>(backend, values, coding, place, codes, stream),
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
        }
    };
}

dispatch!(f32);
dispatch!(f16);
dispatch!(bf16);
