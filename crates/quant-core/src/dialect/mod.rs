//! Dialects: whose arithmetic makes scales, offsets and codes.
//!
//! Each has a file with its [`Arithmetic`]; a new one is a file, a variant of [`Dialect`] and a line
//! in `with_arithmetic`, which is the only `match` on the enumeration.

mod activation;
mod compressed_tensors;
mod coreai;
mod coremltools;
mod f32;
mod mlx;
mod torch;

pub use activation::ActivationRule;

use crate::dtype::{FloatType, IntType};
use crate::mode::Mode;
use crate::named;
use crate::named::stored_by_name;
use crate::params::{Params, ParamsError, ValueRange};

/// Whose arithmetic: the types of intermediate results and of the scale, the range of the codes, and
/// how scale and offset come out of a range of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Dialect {
    /// As coremltools 9.0: every step rounded to the weight's own type (bf16, which it does not
    /// have: computed in f32, the scale rounded to bf16).
    #[default]
    Coremltools,
    /// The same steps, all in f32, the scale stored as f32, whatever the weight's type. Its name
    /// was `wide`, which is still accepted.
    F32,
    /// As torch's `UniformQuantizationObserverBase`: f32, a scale of at least 2^-23, the whole
    /// integer type in both modes. Half a step more than coremltools in symmetric mode (127.5 steps
    /// to the bound, 7.5 for 4 bits), where an unsigned zero point is 128 (7 for 4 bits).
    Torch,
    /// As coremltools 9.0's `linear_quantize_activations`: the bounds rounded to f16, then the
    /// arithmetic of f16 weights, whatever the type of the values. A scale of 0 becomes 1. Codes
    /// are of the whole integer type in both modes.
    CoremltoolsActivations,
    /// As MLX 0.32's affine quantization on the CPU: a scale, which may be negative, and a float bias,
    /// found and used in f32 and then stored in the type of the values. Unsigned types and affine
    /// mode only.
    Mlx,
    /// As compressed-tensors 0.20: every step rounded to the type of the values, the whole integer
    /// type in both modes (127.5 or 7.5 steps to the bound in symmetric mode), the type's epsilon in
    /// place of a scale of 0; the zero point is added to a quotient before this is rounded to an
    /// integer. Codes of unsigned types are those of signed types less the smallest one, as files hold
    /// them.
    CompressedTensors,
    /// As coreai-opt 0.4's `quantize_weights` on a Core AI program: the steps of coremltools, each
    /// rounded to the type of the values, with 1e-6 added to the width of a range.
    Coreai,
    /// As coreai-opt 0.4's fake quantization of weights in torch: scales of at least 2^-23 in the type of
    /// the values, quotients in f32. Symmetric codes of signed types lack the smallest one ("with
    /// clipping").
    CoreaiTorch,
}

named!(
    Dialect, "dialect":
    Coremltools "coremltools",
    F32 "f32" or "wide",
    Torch "torch",
    CoremltoolsActivations "coremltools-activations",
    Mlx "mlx",
    CompressedTensors "compressed-tensors",
    Coreai "coreai",
    CoreaiTorch "coreai-torch",
);
stored_by_name!(Dialect);

/// What is stored beside the scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OffsetKind {
    /// Nothing: code 0 stands for 0.
    None,
    /// The code that stands for 0.
    ZeroPoint,
    /// The value that code 0 stands for.
    Bias,
}

/// Where a quotient goes that lies in the middle between two integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ties {
    /// To the even one.
    Even,
    /// To the one farther from 0.
    Away,
}

impl Ties {
    /// The nearest integer. NaN stays NaN.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::Even => libm::rintf(value),
            Self::Away => libm::roundf(value),
        }
    }
}

/// One dialect's arithmetic.
trait Arithmetic {
    /// The smallest and the largest code.
    fn code_range(dtype: IntType, mode: Mode) -> (i32, i32);
    /// The type that quotients are rounded to before they are rounded to integers.
    fn rounding(source: FloatType) -> FloatType;
    /// The type that scales, and biases, are stored in.
    fn scale_type(source: FloatType) -> FloatType;
    /// What is stored beside the scale.
    #[inline]
    fn offset(dtype: IntType, mode: Mode) -> OffsetKind {
        match (mode, dtype.is_signed()) {
            (Mode::Symmetric, true) => OffsetKind::None,
            (Mode::Symmetric, false) | (Mode::Affine, _) => OffsetKind::ZeroPoint,
        }
    }
    /// How quotients become integers.
    #[inline]
    fn ties() -> Ties {
        Ties::Even
    }
    /// See [`Scheme::adds_zero_point_first`](crate::Scheme::adds_zero_point_first).
    #[inline]
    fn adds_zero_point_first(_: Mode) -> bool {
        false
    }
    /// Whether files may hold a scale below zero, where no offset is stored.
    #[inline]
    fn has_signed_scales() -> bool {
        false
    }
    /// What a zero point that is added first is less than the stored one.
    #[inline]
    fn zero_point_shift(_: IntType) -> i32 {
        0
    }
    /// The value of a code less its zero point.
    fn value(steps: f32, params: &Params) -> f32 {
        params.scale_type().round(params.scale() * steps)
    }
    /// Scale and offset of a range of finite values, or of none.
    fn params(
        range: &ValueRange,
        dtype: IntType,
        mode: Mode,
        source: FloatType,
    ) -> Result<Params, ParamsError>;
}

macro_rules! with_arithmetic {
    ($dialect:expr, $A:ident => $body:expr) => {{
        macro_rules! with {
            ($arithmetic:ty) => {{
                type $A = $arithmetic;
                $body
            }};
        }
        match $dialect {
            Dialect::Coremltools => with!(coremltools::Weights),
            Dialect::F32 => with!(f32::F32),
            Dialect::Torch => with!(torch::Torch),
            Dialect::CoremltoolsActivations => with!(coremltools::Activations),
            Dialect::Mlx => with!(mlx::Mlx),
            Dialect::CompressedTensors => with!(compressed_tensors::CompressedTensors),
            Dialect::Coreai => with!(coreai::Program),
            Dialect::CoreaiTorch => with!(coreai::Torch),
        }
    }};
}

impl Dialect {
    /// The smallest and the largest code.
    #[inline]
    pub fn code_range(self, dtype: IntType, mode: Mode) -> (i32, i32) {
        with_arithmetic!(self, A => A::code_range(dtype, mode))
    }

    /// The type that quotients are rounded to before they are rounded to integers.
    #[inline]
    pub fn rounding(self, source: FloatType) -> FloatType {
        with_arithmetic!(self, A => A::rounding(source))
    }

    /// The type that scales, and biases, are rounded to and stored in.
    #[inline]
    pub fn scale_type(self, source: FloatType) -> FloatType {
        with_arithmetic!(self, A => A::scale_type(source))
    }

    /// What is stored beside the scale.
    #[inline]
    pub fn offset(self, dtype: IntType, mode: Mode) -> OffsetKind {
        with_arithmetic!(self, A => A::offset(dtype, mode))
    }

    /// How quotients become integers.
    #[inline]
    pub fn ties(self) -> Ties {
        with_arithmetic!(self, A => A::ties())
    }

    #[inline]
    pub(crate) fn adds_zero_point_first(self, mode: Mode) -> bool {
        with_arithmetic!(self, A => A::adds_zero_point_first(mode))
    }

    /// Whether files may hold a scale below zero, where no offset is stored: a search writes such.
    ///
    /// ```
    /// use quant_core::Dialect;
    /// assert!(Dialect::Coremltools.has_signed_scales());
    /// assert!(!Dialect::CompressedTensors.has_signed_scales());
    /// ```
    #[inline]
    pub fn has_signed_scales(self) -> bool {
        with_arithmetic!(self, A => A::has_signed_scales())
    }

    #[inline]
    pub(crate) fn zero_point_shift(self, dtype: IntType) -> i32 {
        with_arithmetic!(self, A => A::zero_point_shift(dtype))
    }

    /// What a code stands for that is so many steps from its zero point, or from 0 where there is a
    /// bias.
    pub(crate) fn value(self, steps: f32, params: &Params) -> f32 {
        with_arithmetic!(self, A => A::value(steps, params))
    }

    pub(crate) fn params(
        self,
        range: &ValueRange,
        dtype: IntType,
        mode: Mode,
        source: FloatType,
    ) -> Result<Params, ParamsError> {
        with_arithmetic!(self, A => A::params(range, dtype, mode, source))
    }
}

/// The codes of coremltools: without the smallest one of a signed type, or the largest one of an
/// unsigned type, where they are to be symmetric.
#[inline]
fn symmetric_codes(dtype: IntType, mode: Mode) -> (i32, i32) {
    let (min, max) = (dtype.min_value(), dtype.max_value());
    match (mode, dtype.is_signed()) {
        (Mode::Symmetric, true) => (min + 1, max),
        (Mode::Symmetric, false) => (min, max - 1),
        (Mode::Affine, _) => (min, max),
    }
}
