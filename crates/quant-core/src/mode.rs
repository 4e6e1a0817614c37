//! How codes are laid over values.

use crate::named;
use crate::named::stored_by_name;

/// How the integer range is laid over the float range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// The float range is symmetric about zero; coremltools' `linear_symmetric`.
    #[default]
    Symmetric,
    /// The range of the values, widened to hold zero; coremltools' `linear`.
    Affine,
}

named!(
    Mode, "mode":
    Symmetric "symmetric" or "linear_symmetric", Affine "affine" or "linear",
);
stored_by_name!(Mode);
