//! The usual schemes, by the names that llm-compressor gives them.

use quant_core::{Dialect, IntType, Mode, Scheme, named};

use crate::options::QuantizeOptions;
use crate::settings::Granularity;

/// A scheme of compressed-tensors: bits of weights and activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Preset {
    /// Weights of 4 bits, symmetric, in groups of 128.
    W4A16,
    /// Weights of 4 bits with zero points, in groups of 128.
    W4A16Asym,
    /// Weights of 8 bits, symmetric, in groups of 128.
    W8A16,
    /// Weights of 8 bits, symmetric, a scale per channel; activations of 8 bits, whose scales are
    /// found per token when the model runs.
    W8A8,
}

named!(
    Preset, "preset":
    W4A16 "w4a16", W4A16Asym "w4a16-asym", W8A16 "w8a16", W8A8 "w8a8",
);

impl Preset {
    /// The options with this scheme and these groups.
    pub(crate) fn apply(self, options: QuantizeOptions) -> QuantizeOptions {
        let (dtype, mode, granularity) = match self {
            Self::W4A16 => (IntType::Uint4, Mode::Symmetric, Granularity::Groups(128)),
            Self::W4A16Asym => (IntType::Uint4, Mode::Affine, Granularity::Groups(128)),
            Self::W8A16 => (IntType::Uint8, Mode::Symmetric, Granularity::Groups(128)),
            Self::W8A8 => (
                IntType::Int8,
                Mode::Symmetric,
                Granularity::PerChannel { axis: Some(0) },
            ),
        };
        QuantizeOptions {
            scheme: Scheme::new(dtype, mode).with_dialect(Dialect::CompressedTensors),
            granularity,
            ..options
        }
    }
}
