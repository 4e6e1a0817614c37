//! Scale and zero point of activations, as two frameworks compute them.

use crate::{FloatType, IntType, Mode, Params, ParamsError, Range, Scheme};

/// Whose arithmetic makes scale and zero point of the range of an activation.
///
/// Activations are quantized where the model runs, and to the whole integer type there, symmetric
/// or not: codes are those of [`reference::quantize`](crate::reference::quantize) with
/// `Scheme::new(dtype, Mode::Affine)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum ActivationRule {
    /// coremltools 9.0's `linear_quantize_activations`: the bounds rounded to f16, then the
    /// arithmetic of f16 weights ([`Scheme::params`]), whatever the activation's type.
    ///
    /// A scale of 0 becomes 1. So it does in coremltools for signed symmetric codes; for the
    /// others it fails.
    #[default]
    Coremltools,
    /// torch's `UniformQuantizationObserverBase`: f32, a scale of at least 2^-23, half a step more
    /// than coremltools in symmetric mode (127.5 steps to the bound, 7.5 for 4 bits), where an
    /// unsigned zero point is 128 (7 for 4 bits).
    Torch,
}

/// torch's `eps`: the f32 after 1, less 1.
const TORCH_EPS: f32 = f32::EPSILON;

impl ActivationRule {
    /// The lower-case name: `coremltools`, `torch`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Coremltools => "coremltools",
            Self::Torch => "torch",
        }
    }

    /// Scale and zero point for an activation of type `source` with this range. Only the bounds
    /// count: [`Range::non_finite`] may be anything. Of an empty range: scale 1, and the zero point
    /// of zeros.
    ///
    /// # Errors
    /// Bounds that are not finite; that f16 cannot hold, or whose scale overflows there; a step of
    /// the zero point's computation that overflows, if the result depends on it.
    ///
    /// ```
    /// use quant_core::{ActivationRule, FloatType, IntType, Mode, Range};
    /// let range = Range { min: -1.0, max: 2.0, non_finite: 0 };
    /// let params = ActivationRule::Torch.params(&range, IntType::Uint8, Mode::Affine, FloatType::F32)?;
    /// assert_eq!((params.scale(), params.zero_point()), (3.0 / 255.0, 85));
    /// # Ok::<(), quant_core::ParamsError>(())
    /// ```
    pub fn params(
        self,
        range: &Range,
        dtype: IntType,
        mode: Mode,
        source: FloatType,
    ) -> Result<Params, ParamsError> {
        let (min, max) = match range.is_empty() {
            true => (0.0, 0.0),
            false => (range.min, range.max),
        };
        if !(min.is_finite() && max.is_finite()) {
            return Err(ParamsError::NonFinite);
        }
        match self {
            Self::Coremltools => coremltools(min, max, Scheme::new(dtype, mode), source),
            Self::Torch if range.is_empty() => {
                Params::new(Scheme::new(dtype, Mode::Affine), 1.0, 0, FloatType::F32)
            }
            Self::Torch => torch(min, max, dtype, mode),
        }
    }
}

fn coremltools(
    min: f32,
    max: f32,
    scheme: Scheme,
    source: FloatType,
) -> Result<Params, ParamsError> {
    let round = |value: f32| FloatType::F16.round(value);
    let (qmin, qmax) = (scheme.qmin() as f32, scheme.qmax() as f32);
    let (min, max) = (round(min), round(max));
    let (min, max) = match scheme.mode {
        Mode::Symmetric => (-min.abs().max(max.abs()), min.abs().max(max.abs())),
        Mode::Affine => (min.min(0.0), max.max(0.0)),
    };
    let width = round(max - min);
    let scale = round(width / (qmax - qmin));
    if !scale.is_finite() {
        return Err(ParamsError::ScaleOverflow);
    }
    let zero_point = match scheme.mode {
        Mode::Symmetric => scheme.symmetric_zero_point() as f32,
        Mode::Affine if width == 0.0 => 0.0,
        Mode::Affine => {
            let numerator = round(round(qmin * max) - round(qmax * min));
            // With zero at an end of the range, a quotient that overflows still clips to the end.
            if !numerator.is_finite() && min < 0.0 && max > 0.0 {
                return Err(ParamsError::ZeroPointOverflow);
            }
            libm::rintf(round(numerator / width)).clamp(qmin, qmax)
        }
    };
    let scale = if scale == 0.0 { 1.0 } else { scale };
    let scale_type = match source {
        FloatType::F16 => FloatType::F16,
        FloatType::F32 | FloatType::Bf16 => FloatType::F32,
    };
    Params::new(scheme, scale, zero_point as i32, scale_type)
}

fn torch(min: f32, max: f32, dtype: IntType, mode: Mode) -> Result<Params, ParamsError> {
    // Its integer types are whole in both modes.
    let scheme = Scheme::new(dtype, Mode::Affine);
    let (qmin, qmax) = (scheme.qmin() as f32, scheme.qmax() as f32);
    let (min, max) = (min.min(0.0), max.max(0.0));
    let (scale, zero_point) = match mode {
        Mode::Symmetric => {
            let scale = (-min).max(max) / ((qmax - qmin) / 2.0);
            let zero_point = match dtype {
                IntType::Int8 | IntType::Int4 => 0,
                IntType::Uint8 => 128,
                IntType::Uint4 => 7,
            };
            (scale.max(TORCH_EPS), zero_point)
        }
        Mode::Affine => {
            let scale = ((max - min) / (qmax - qmin)).max(TORCH_EPS);
            let zero_point = (qmin - libm::rintf(min / scale)).clamp(qmin, qmax);
            (scale, zero_point as i32)
        }
    };
    if !scale.is_finite() {
        return Err(ParamsError::ScaleOverflow);
    }
    Params::new(scheme, scale, zero_point, FloatType::F32)
}
