//! Scale and zero point of activations, as two frameworks compute them.

use super::Dialect;
use crate::dtype::{FloatType, IntType};
use crate::mode::Mode;
use crate::named;
use crate::named::stored_by_name;
use crate::params::{Params, ParamsError, ValueRange};

/// Whose arithmetic makes scale and zero point of the range of an activation: one of two
/// [dialects](Self::dialect), by the names that files of ranges have for them.
///
/// Activations are quantized where the model runs, and to the whole integer type there, symmetric
/// or not: codes are those of [`reference::quantize`](crate::reference::quantize) with
/// `Scheme::new(dtype, Mode::Affine)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ActivationRule {
    /// [`Dialect::CoremltoolsActivations`].
    #[default]
    Coremltools,
    /// [`Dialect::Torch`].
    Torch,
}

named!(ActivationRule, "rule of activations": Coremltools "coremltools", Torch "torch");
stored_by_name!(ActivationRule);

impl ActivationRule {
    /// The dialect that the rule is.
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::Coremltools => Dialect::CoremltoolsActivations,
            Self::Torch => Dialect::Torch,
        }
    }

    /// Scale and zero point for an activation of type `source` with this range. Only the bounds
    /// count: [`ValueRange::non_finite`] may be anything. Of an empty range: scale 1, and the zero point
    /// of zeros.
    ///
    /// # Errors
    /// Bounds that are not finite; that f16 cannot hold, or whose scale overflows there; a step of
    /// the zero point's computation that overflows, if the result depends on it.
    ///
    /// ```
    /// use quant_core::{ActivationRule, FloatType, IntType, Mode, ValueRange};
    /// let range = ValueRange { min: -1.0, max: 2.0, non_finite: 0 };
    /// let params = ActivationRule::Torch.params(&range, IntType::Uint8, Mode::Affine, FloatType::F32)?;
    /// assert_eq!((params.scale(), params.zero_point()), (3.0 / 255.0, 85));
    /// # Ok::<(), quant_core::ParamsError>(())
    /// ```
    pub fn params(
        self,
        range: &ValueRange,
        dtype: IntType,
        mode: Mode,
        source: FloatType,
    ) -> Result<Params, ParamsError> {
        let (min, max) = range.bounds();
        if !(min.is_finite() && max.is_finite()) {
            return Err(ParamsError::NonFinite);
        }
        self.dialect().params(range, dtype, mode, source)
    }
}
