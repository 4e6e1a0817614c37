//! What the options are where the user says nothing else: with each encoding, and with the usual
//! schemes of compressed-tensors, by the names that llm-compressor gives them.

use quant_core::{Dialect, GgmlType, IntType, Mode, Scheme, named};

use crate::encoding::Encoding;
use crate::options::QuantizeOptions;
use crate::settings::Grouping;

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
    fn apply(self, options: QuantizeOptions) -> QuantizeOptions {
        let (dtype, mode, granularity) = match self {
            Self::W4A16 => (IntType::Uint4, Mode::Symmetric, Grouping::Groups(128)),
            Self::W4A16Asym => (IntType::Uint4, Mode::Affine, Grouping::Groups(128)),
            Self::W8A16 => (IntType::Uint8, Mode::Symmetric, Grouping::Groups(128)),
            Self::W8A8 => (
                IntType::Int8,
                Mode::Symmetric,
                Grouping::PerChannel { axis: Some(0) },
            ),
        };
        QuantizeOptions {
            scheme: Scheme::new(dtype, mode).with_dialect(Dialect::CompressedTensors),
            granularity,
            ..options
        }
    }
}

impl QuantizeOptions {
    /// The options that an encoding has by default.
    pub fn for_encoding(encoding: Encoding) -> Self {
        let options = Self {
            encoding,
            ..Self::default()
        };
        match encoding {
            Encoding::Native => options,
            Encoding::Mlx => Self {
                scheme: Scheme::new(IntType::Uint4, Mode::Affine).with_dialect(Dialect::Mlx),
                granularity: Grouping::Groups(64),
                min_elements: 0,
                ..options
            },
            Encoding::CompressedTensors => Self {
                min_elements: 0,
                ..Preset::W4A16.apply(options)
            },
            Encoding::Gguf => Self {
                block_type: Some(GgmlType::Q8_0),
                ..options
            },
        }
    }

    /// The same with a usual scheme of compressed-tensors.
    ///
    /// ```
    /// use quant_model::{Encoding, Preset, QuantizeOptions};
    /// let options = QuantizeOptions::for_encoding(Encoding::CompressedTensors);
    /// let options = options.with_preset(Preset::W8A8);
    /// assert_eq!(options.scheme.dtype.name(), "int8");
    /// ```
    #[must_use]
    pub fn with_preset(self, preset: Preset) -> Self {
        preset.apply(self)
    }
}
