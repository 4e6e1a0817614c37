//! What the kernels are given besides values and codes.

use quant_core::{Dialect, FloatType, Params, Scheme};

use crate::dialects;
use crate::lane::Lane;
use crate::param_source::{BLOCKS, LARGEST_BLOCK, LARGEST_PAIR};
use crate::params::{BlockRows, Division, KernelParams, ParamRows};

/// Where the parameters of elements come from.
#[derive(Clone, Copy)]
pub enum ParamLayout<'a> {
    /// The same for all.
    Uniform(KernelParams),
    /// The same for so many, see [`is_block_size`]; and whether some zero point is not 0.
    PerBlock(BlockRows<'a, BLOCKS>, usize, bool),
    /// Each its own, for a row of so many elements, an even number; rows share them.
    PerElement(ElementParams<'a>),
    /// The same for all, for the reference: no kernel computes what the dialect does.
    Reference(Params, Dialect),
}

/// Parameters for a row of elements; rows that follow one another share them.
#[derive(Clone, Copy)]
pub struct ElementParams<'a> {
    /// The parameters, and padding.
    pub rows: ParamRows<'a>,
    /// Elements in a row: an even number, or all that there are.
    pub len: usize,
    /// Whether some zero point is not 0, or codes are shifted.
    pub has_zero_points: bool,
}

impl ParamLayout<'_> {
    /// That of the elements from `count` on, an even number.
    pub fn skip(&self, count: usize) -> Self {
        match self {
            Self::PerElement(kernel_params) => Self::PerElement(ElementParams {
                rows: kernel_params.rows.skip(count),
                len: kernel_params.len - count,
                ..*kernel_params
            }),
            Self::PerBlock(kernel_params, size, has_zero_points) => {
                let mut rest = *kernel_params;
                rest.start += count;
                Self::PerBlock(rest, *size, *has_zero_points)
            }
            Self::Uniform(_) | Self::Reference(..) => *self,
        }
    }
}

/// Whether [`ParamLayout::PerBlock`] and the batches of blocks serve this block size.
#[inline]
pub fn is_block_size(block_size: usize) -> bool {
    block_size.is_power_of_two() && (LARGEST_PAIR..=LARGEST_BLOCK).contains(&block_size)
}

/// How values become codes.
#[derive(Clone, Copy)]
pub struct EncodeSpec {
    /// Integer type, mode and dialect.
    pub scheme: Scheme,
    /// The division that all parameters allow.
    pub division: Division,
    /// The type that scales are stored in.
    pub scale_type: FloatType,
}

impl ParamLayout<'static> {
    /// For codes as they are stored.
    pub fn stored(scheme: Scheme, params: Params) -> Self {
        match dialects::has_kernels(scheme) {
            true => Self::Uniform(KernelParams::stored(params)),
            false => Self::Reference(params, scheme.dialect),
        }
    }
}

impl EncodeSpec {
    /// With given parameters; and where these are.
    pub fn new<F: Lane>(scheme: Scheme, params: Params) -> (Self, ParamLayout<'static>) {
        let (spec, kernel_params) = Self::with_params::<F>(scheme, params);
        let place = match dialects::has_kernels(scheme) {
            true => ParamLayout::Uniform(kernel_params),
            false => ParamLayout::Reference(params, scheme.dialect),
        };
        (spec, place)
    }

    /// With given parameters; and these as kernels take them.
    pub fn with_params<F: Lane>(scheme: Scheme, params: Params) -> (Self, KernelParams) {
        let (kernel_params, division) = KernelParams::new(scheme, F::TYPE, params);
        let spec = Self {
            scheme,
            division,
            scale_type: params.scale_type(),
        };
        (spec, kernel_params)
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
    /// Buffer for codes.
    pub codes: &'a mut [u8],
    /// Buffer for scales.
    pub scales: &'a mut [f32],
    /// Buffer for zero points, where the scheme stores them.
    pub zero_points: &'a mut [u8],
    /// Whether to store codes past the cache (non-temporal stores).
    pub stream: bool,
}
