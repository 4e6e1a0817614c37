//! How one tensor is quantized, and what it is for.

use quant_core::{GgmlType, Scheme};
use serde::Serialize;

/// Which elements share a scale, for any tensor: a [`Granularity`](quant_core::Granularity) once a
/// tensor's axes are known. An axis that is not given is chosen by the format: by the
/// operation that a constant feeds in a Core ML package, 0 for output and 1 for input channels in a
/// safetensors file.
// Exhaustive: policy and encodings must know what a new one stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// One scale for the whole tensor.
    PerTensor,
    /// One scale per output channel.
    PerChannel {
        /// The axis of the output channels; negative axes count from the end.
        axis: Option<isize>,
    },
    /// One scale per output channel and `block_size` input channels.
    PerBlock {
        /// The axis of the output channels.
        axis: Option<isize>,
        /// The axis that is cut into blocks.
        block_axis: Option<isize>,
        /// Input channels per block; 0 means all.
        block_size: usize,
    },
    /// One scale per group of so many elements along the last axis, and index of every other axis.
    Groups(usize),
    /// A block size per axis; 0 means the whole axis.
    Blocks(Vec<usize>),
}

impl From<quant_core::Granularity> for Grouping {
    fn from(given: quant_core::Granularity) -> Self {
        match given {
            quant_core::Granularity::PerTensor => Self::PerTensor,
            quant_core::Granularity::PerChannel { axis } => Self::PerChannel { axis: Some(axis) },
            quant_core::Granularity::PerBlock {
                axis,
                block_axis,
                block_size,
            } => Self::PerBlock {
                axis: Some(axis),
                block_axis: Some(block_axis),
                block_size,
            },
            quant_core::Granularity::Blocks(sizes) => Self::Blocks(sizes),
        }
    }
}

impl Grouping {
    /// For a tensor of so many axes; with these axes of output and input channels where none is given.
    pub(crate) fn with_axes(
        &self,
        rank: usize,
        output: isize,
        input: isize,
    ) -> quant_core::Granularity {
        match self {
            Self::PerTensor => quant_core::Granularity::PerTensor,
            Self::PerChannel { axis } => quant_core::Granularity::PerChannel {
                axis: axis.unwrap_or(output),
            },
            Self::PerBlock {
                axis,
                block_axis,
                block_size,
            } => match block_size {
                // As in coremltools: all of the axis.
                0 => quant_core::Granularity::PerChannel {
                    axis: axis.unwrap_or(output),
                },
                _ => quant_core::Granularity::PerBlock {
                    axis: axis.unwrap_or(output),
                    block_axis: block_axis.unwrap_or(input),
                    block_size: *block_size,
                },
            },
            Self::Groups(size) => {
                let mut sizes = vec![1; rank];
                if let Some(last) = sizes.last_mut() {
                    *last = *size;
                }
                quant_core::Granularity::Blocks(sizes)
            }
            Self::Blocks(sizes) => quant_core::Granularity::Blocks(sizes.clone()),
        }
    }

    /// Whether all that is needed to cut a tensor is given.
    pub(crate) fn needs_no_axis(&self) -> bool {
        match self {
            Self::PerTensor | Self::Groups(_) | Self::Blocks(_) => true,
            Self::PerChannel { axis } => axis.is_some(),
            Self::PerBlock {
                axis, block_axis, ..
            } => axis.is_some() && block_axis.is_some(),
        }
    }

    /// Whether blocks are smaller than a channel.
    pub fn is_blockwise(&self) -> bool {
        matches!(
            self,
            Self::PerBlock { .. } | Self::Groups(_) | Self::Blocks(_)
        )
    }
}

/// How one tensor is quantized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Integer type, mode and dialect.
    pub scheme: Scheme,
    /// Which elements share a scale.
    pub granularity: Grouping,
    /// Takes the place of both.
    pub block_type: Option<GgmlType>,
    /// Only tensors with more elements than this.
    pub min_elements: usize,
    /// Where block sizes are given per axis, each axis wants one, as in coremltools.
    pub all_axes: bool,
}

impl Settings {
    /// Why block sizes cannot be those of a tensor of this rank.
    pub fn misfit(&self, rank: usize) -> Option<String> {
        match &self.granularity {
            Grouping::Blocks(sizes) if self.all_axes && sizes.len() != rank => Some(format!(
                "block_size {sizes:?} for a tensor of {rank} axes; give one number for each axis (0 for all of it), or one alone"
            )),
            _ => None,
        }
    }
}

/// What a constant or an activation feeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Consumer {
    /// The operation's type, such as `conv`.
    pub operation: String,
    /// The operation's name.
    pub name: String,
    /// The operation's input.
    pub input: String,
}
