//! What a tensor of a mixed plan may be.

use std::fmt;
use std::str::FromStr;

use quant_core::{IntType, Mode, Named};

use crate::{Encoding, Error, Grouping, QuantizeOptions};

/// What a tensor of a mixed plan may be: `float`, or codes such as `int8`, `int4:block32` (blocks of 32
/// input channels), `int4-affine`, `uint4-affine:block64`, `int8:tensor`.
///
/// In a format with a dialect of its own the number of bits and the size of the blocks count, the
/// rest is as the format has it.
///
/// ```
/// let candidate: quant_model::Candidate = "int4-affine:block32".parse()?;
/// assert_eq!(candidate.to_string(), "int4-affine:block32");
/// # Ok::<(), quant_model::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Candidate {
    /// As it is.
    Float,
    /// As codes.
    Codes(IntType, Mode, Extent),
}

/// Which elements share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extent {
    /// All.
    Tensor,
    /// Those of an output channel.
    Channel,
    /// So many input channels of an output channel.
    Block(usize),
}

impl FromStr for Candidate {
    type Err = Error;

    fn from_str(given: &str) -> Result<Self, Error> {
        let bad = || {
            Error::Option(format!(
                "candidate `{}`: give float, or a type such as int4 or int4-affine, and where scales are not per channel :block32 or :tensor behind it",
                given.escape_debug()
            ))
        };
        if given == "float" {
            return Ok(Self::Float);
        }
        let (codes, extent) = match given.split_once(':') {
            None => (given, Extent::Channel),
            Some((codes, "channel")) => (codes, Extent::Channel),
            Some((codes, "tensor")) => (codes, Extent::Tensor),
            Some((codes, block)) => {
                let size = block
                    .strip_prefix("block")
                    .and_then(|size| size.parse().ok());
                let size = size.filter(|&size| size > 0).ok_or_else(bad)?;
                (codes, Extent::Block(size))
            }
        };
        let (dtype, mode) = match codes.split_once('-') {
            None => (codes, Mode::Symmetric),
            Some((dtype, mode)) => (dtype, Mode::from_name(mode).ok_or_else(bad)?),
        };
        let dtype = IntType::from_name(dtype).ok_or_else(bad)?;
        Ok(Self::Codes(dtype, mode, extent))
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Codes(dtype, mode, extent) = self else {
            return f.write_str("float");
        };
        f.write_str(dtype.name())?;
        if *mode != Mode::Symmetric {
            write!(f, "-{}", mode.name())?;
        }
        match extent {
            Extent::Channel => Ok(()),
            Extent::Tensor => f.write_str(":tensor"),
            Extent::Block(size) => write!(f, ":block{size}"),
        }
    }
}

impl Candidate {
    /// The candidates where none are given: of several sizes, so that a plan gets close to its target.
    pub fn defaults(encoding: Encoding) -> Vec<Self> {
        let codes = |bits, extent| codes(bits, Mode::Symmetric, extent);
        match encoding {
            Encoding::Native => vec![
                codes(4, Extent::Channel),
                self::codes(4, Mode::Affine, Extent::Channel),
                codes(4, Extent::Block(32)),
                self::codes(4, Mode::Affine, Extent::Block(32)),
                codes(4, Extent::Block(16)),
                codes(8, Extent::Channel),
                codes(8, Extent::Block(32)),
                Self::Float,
            ],
            Encoding::Mlx => [3, 4, 5, 6, 8]
                .map(|bits| codes(bits, Extent::Block(64)))
                .into_iter()
                .chain([Self::Float])
                .collect(),
            Encoding::Gguf => Vec::new(),
            Encoding::CompressedTensors => vec![
                codes(4, Extent::Block(128)),
                codes(4, Extent::Block(32)),
                codes(8, Extent::Block(128)),
                Self::Float,
            ],
        }
    }

    /// What is added to them for a model of few tensors, where each is a large share of the whole: sizes
    /// in between, also those that only some axes have.
    pub fn finer(encoding: Encoding) -> Vec<Self> {
        let symmetric = |bits, size| codes(bits, Mode::Symmetric, Extent::Block(size));
        match encoding {
            Encoding::Native => {
                let affine = |size| codes(4, Mode::Affine, Extent::Block(size));
                vec![
                    affine(64),
                    affine(48),
                    affine(24),
                    affine(16),
                    symmetric(4, 64),
                    symmetric(4, 48),
                    symmetric(4, 24),
                    symmetric(4, 8),
                    codes(8, Mode::Affine, Extent::Channel),
                    symmetric(8, 16),
                    symmetric(8, 8),
                ]
            }
            Encoding::Mlx => [32, 128]
                .into_iter()
                .flat_map(|size| [3, 4, 5, 6, 8].map(|bits| symmetric(bits, size)))
                .collect(),
            Encoding::Gguf => Vec::new(),
            Encoding::CompressedTensors => {
                vec![symmetric(4, 64), symmetric(8, 64), symmetric(8, 32)]
            }
        }
    }

    /// What is tried in blocks of all sizes that divide an output channel, for a model of very few
    /// tensors.
    pub(super) fn divided(encoding: Encoding) -> Vec<(IntType, Mode)> {
        let dtype = |bits| IntType::new(bits, true).expect("bits that there are");
        match encoding {
            Encoding::Native => vec![
                (dtype(4), Mode::Symmetric),
                (dtype(4), Mode::Affine),
                (dtype(8), Mode::Symmetric),
                (dtype(8), Mode::Affine),
            ],
            Encoding::Mlx | Encoding::CompressedTensors | Encoding::Gguf => Vec::new(),
        }
    }

    /// The options that make all tensors so; `None` for float.
    ///
    /// # Errors
    /// Bits that the format does not have.
    pub fn options(self, base: &QuantizeOptions) -> Result<Option<QuantizeOptions>, Error> {
        let Self::Codes(dtype, mode, extent) = self else {
            return Ok(None);
        };
        let mut options = base.clone();
        if base.encoding != Encoding::Native {
            options = options.with_bits(dtype.bits())?;
            if let Extent::Block(size) = extent {
                options = options.with_group_size(size);
            }
            return Ok(Some(options));
        }
        options.scheme.dtype = dtype;
        options.scheme.mode = mode;
        options.granularity = match extent {
            Extent::Tensor => Grouping::PerTensor,
            Extent::Channel => Grouping::PerChannel { axis: None },
            Extent::Block(block_size) => Grouping::PerBlock {
                axis: None,
                block_axis: None,
                block_size,
            },
        };
        Ok(Some(options))
    }
}

fn codes(bits: u32, mode: Mode, extent: Extent) -> Candidate {
    let dtype = IntType::new(bits, true).expect("bits that there are");
    Candidate::Codes(dtype, mode, extent)
}
