//! Block geometry: which elements of a tensor share a scale.

use alloc::vec::Vec;
use core::ops::Range;

/// How many elements share a scale, as a user says it. Negative axes count from the end.
// Exhaustive: whoever cuts or names blocks must know what a new one stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// One scale for the whole tensor.
    PerTensor,
    /// One scale per index of `axis`.
    PerChannel {
        /// The output-channel axis.
        axis: isize,
    },
    /// One scale per index of `axis` and `block_size` indices of `block_axis`.
    PerBlock {
        /// The output-channel axis.
        axis: isize,
        /// The axis that is cut into blocks, usually that of the input channels.
        block_axis: isize,
        /// Indices per block.
        block_size: usize,
    },
    /// A block size per axis; 0, or none given, means the whole axis.
    Blocks(Vec<usize>),
}

/// Why a granularity does not fit a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// No such axis.
    #[error("axis {axis} is out of range for a tensor of rank {rank}")]
    AxisOutOfRange {
        /// As given.
        axis: isize,
        /// The tensor's number of axes.
        rank: usize,
    },
    /// `axis` and `block_axis` are the same.
    #[error("the block axis and the output-channel axis are both {axis}")]
    SameAxis {
        /// Counted from the front.
        axis: usize,
    },
    /// A block of no elements.
    #[error("the block size is 0")]
    ZeroBlock,
    /// A block larger than its axis.
    #[error("block size {block} is larger than axis {axis}, which has {dim} elements")]
    BlockTooLarge {
        /// Counted from the front.
        axis: usize,
        /// As given.
        block: usize,
        /// The axis' length.
        dim: usize,
    },
    /// More block sizes than axes.
    #[error("{given} block sizes for a tensor of rank {rank}")]
    TooManyBlocks {
        /// Number of block sizes.
        given: usize,
        /// The tensor's number of axes.
        rank: usize,
    },
    /// More elements than a `usize` can count.
    #[error("the shape has more elements than can be addressed")]
    TooLarge,
    /// There is no memory for lists of the axes.
    #[error("there is not enough memory for the axes of the shape")]
    NoMemory,
}

/// A shape cut into blocks. The last block of an axis may be shorter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Blocks {
    shape: Vec<usize>,
    sizes: Vec<usize>,
    // The same geometry on as few axes as possible, so that runs are long.
    dims: Vec<usize>,
    blocks: Vec<usize>,
    elements: usize,
}

/// Consecutive elements that share a scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Row-major positions in the tensor.
    pub elements: Range<usize>,
    /// Row-major position in the tensor of scales.
    pub scale: usize,
}

/// How elements that share scales lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// Every run has a scale of its own: per_tensor, per_channel on the first axis, per_block
    /// along the last one. A group is a run.
    Runs,
    /// A group is so many rows, of so many elements each, that follow one another and have the
    /// same scales; no other group has one of these. per_channel on a later axis, per_block along
    /// an earlier one.
    Rows {
        /// Elements of a row.
        len: usize,
    },
    /// Anything else: blocks along several axes, apart.
    Scattered,
}

impl Blocks {
    /// Cuts `shape` as `granularity` says.
    ///
    /// # Errors
    /// A granularity that does not fit the shape, or a shape too large to count.
    ///
    /// ```
    /// use quant_core::{Blocks, Granularity};
    /// let per_block = Granularity::PerBlock { axis: 0, block_axis: 1, block_size: 32 };
    /// let blocks = Blocks::new(&[8, 100, 3, 3], &per_block)?;
    /// assert_eq!(blocks.block_sizes(), [1, 32, 3, 3]);
    /// assert_eq!(blocks.scale_shape(), [8, 4, 1, 1]);
    /// # Ok::<(), quant_core::GeometryError>(())
    /// ```
    pub fn new(shape: &[usize], granularity: &Granularity) -> Result<Self, GeometryError> {
        let elements = if shape.contains(&0) {
            0
        } else {
            shape
                .iter()
                .try_fold(1_usize, |product, &dim| product.checked_mul(dim))
                .ok_or(GeometryError::TooLarge)?
        };
        let sizes = block_sizes(shape, granularity)?;
        let (dims, blocks) = collapse(shape, &sizes, elements)?;
        Ok(Self {
            shape: copy(shape)?,
            sizes,
            dims,
            blocks,
            elements,
        })
    }

    /// The tensor's shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The block size per axis.
    pub fn block_sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// Number of elements.
    pub fn element_count(&self) -> usize {
        self.elements
    }

    /// Shape of the scales: `dim / block` per axis, rounded up.
    pub fn scale_shape(&self) -> Vec<usize> {
        self.scales_per_axis().collect()
    }

    fn scales_per_axis(&self) -> impl Iterator<Item = usize> {
        let axes = self.shape.iter().zip(&self.sizes);
        axes.map(|(&dim, &block)| dim.div_ceil(block.max(1)))
    }

    /// Number of scales.
    pub fn scale_count(&self) -> usize {
        if self.elements == 0 {
            0
        } else {
            self.scales_per_axis().product()
        }
    }

    /// Whether the last block of some axis is shorter than the others.
    pub fn is_ragged(&self) -> bool {
        let mut axes = self.shape.iter().zip(&self.sizes);
        axes.any(|(&dim, &block)| block > 0 && dim % block != 0)
    }

    /// The scale of the element at a row-major position, by index arithmetic on every axis.
    ///
    /// # Panics
    /// If the position is outside the tensor.
    pub fn scale_of(&self, element: usize) -> usize {
        assert!(element < self.elements, "element outside the tensor");
        scale_at(&self.shape, &self.sizes, element)
    }

    /// How elements that share scales lie in memory.
    ///
    /// ```
    /// use quant_core::{Arrangement, Blocks, Granularity};
    /// let columns = Blocks::new(&[4, 6], &Granularity::PerChannel { axis: 1 })?;
    /// assert_eq!(columns.arrangement(), Arrangement::Rows { len: 6 });
    /// assert_eq!(columns.group_of(7), 0..24);
    /// # Ok::<(), quant_core::GeometryError>(())
    /// ```
    pub fn arrangement(&self) -> Arrangement {
        match self.shared_axis() {
            None => Arrangement::Runs,
            Some(axis) if self.blocks[..axis].iter().all(|&block| block == 1) => {
                Arrangement::Rows {
                    len: self.dims[axis + 1..].iter().product(),
                }
            }
            Some(_) => Arrangement::Scattered,
        }
    }

    /// The last axis, but for the very last, along which blocks hold more than one index.
    fn shared_axis(&self) -> Option<usize> {
        let outer = &self.blocks[..self.blocks.len() - 1];
        outer.iter().rposition(|&block| block > 1)
    }

    /// The group that the element belongs to: see [`Arrangement`]. Its scales follow one another,
    /// from that of its first element on.
    ///
    /// # Panics
    /// If the arrangement is scattered, or the position is outside the tensor.
    pub fn group_of(&self, element: usize) -> Range<usize> {
        assert!(element < self.elements, "element outside the tensor");
        let (axis, row) = match (self.arrangement(), self.shared_axis()) {
            (Arrangement::Rows { len }, Some(axis)) => (axis, len),
            (Arrangement::Runs, _) => (self.dims.len() - 1, 1),
            _ => panic!("groups that follow one another"),
        };
        let (whole, block) = (self.dims[axis] * row, self.blocks[axis] * row);
        let (outer, inner) = (element - element % whole, element % whole);
        let start = inner - inner % block;
        outer + start..outer + start.saturating_add(block).min(whole)
    }

    /// The runs of elements that share a scale, in order; together they are `elements`.
    ///
    /// # Panics
    /// If `elements` reaches outside the tensor.
    pub fn runs(&self, elements: Range<usize>) -> Runs<'_> {
        assert!(elements.end <= self.elements, "elements outside the tensor");
        Runs {
            blocks: self,
            rest: elements,
        }
    }
}

/// Iterator over [`Blocks::runs`].
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    blocks: &'a Blocks,
    rest: Range<usize>,
}

impl Iterator for Runs<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        if self.rest.is_empty() {
            return None;
        }
        let (&row, &block) = (self.blocks.dims.last()?, self.blocks.blocks.last()?);
        let start = self.rest.start;
        let in_row = start % row;
        let end_in_row = (in_row - in_row % block).saturating_add(block).min(row);
        let end = (start + (end_in_row - in_row)).min(self.rest.end);
        self.rest.start = end;
        Some(Run {
            elements: start..end,
            scale: scale_at(&self.blocks.dims, &self.blocks.blocks, start),
        })
    }
}

fn scale_at(dims: &[usize], blocks: &[usize], mut element: usize) -> usize {
    let (mut scale, mut stride) = (0, 1);
    for (&dim, &block) in dims.iter().zip(blocks).rev() {
        scale += element % dim / block * stride;
        stride *= dim.div_ceil(block);
        element /= dim;
    }
    scale
}

fn copy(axes: &[usize]) -> Result<Vec<usize>, GeometryError> {
    let mut copy = room(axes.len())?;
    copy.extend_from_slice(axes);
    Ok(copy)
}

fn room(axes: usize) -> Result<Vec<usize>, GeometryError> {
    let mut room = Vec::new();
    let made = room.try_reserve_exact(axes);
    made.map_err(|_| GeometryError::NoMemory)?;
    Ok(room)
}

/// The block size per axis.
fn block_sizes(shape: &[usize], granularity: &Granularity) -> Result<Vec<usize>, GeometryError> {
    let rank = shape.len();
    let resolve = |axis: isize| {
        let from_front = if axis < 0 {
            axis.checked_add_unsigned(rank)
        } else {
            Some(axis)
        };
        from_front
            .and_then(|axis| usize::try_from(axis).ok())
            .filter(|&axis| axis < rank)
            .ok_or(GeometryError::AxisOutOfRange { axis, rank })
    };
    let mut sizes = copy(shape)?;
    match granularity {
        Granularity::PerTensor => {}
        Granularity::PerChannel { axis } => sizes[resolve(*axis)?] = 1,
        Granularity::PerBlock {
            axis,
            block_axis,
            block_size,
        } => {
            let (axis, block_axis) = (resolve(*axis)?, resolve(*block_axis)?);
            if axis == block_axis {
                return Err(GeometryError::SameAxis { axis });
            }
            if *block_size == 0 {
                return Err(GeometryError::ZeroBlock);
            }
            sizes[axis] = 1;
            sizes[block_axis] = *block_size;
        }
        Granularity::Blocks(given) => {
            if given.len() > rank {
                return Err(GeometryError::TooManyBlocks {
                    given: given.len(),
                    rank,
                });
            }
            for (size, &block) in sizes.iter_mut().zip(given) {
                if block != 0 {
                    *size = block;
                }
            }
        }
    }
    for (axis, (&block, &dim)) in sizes.iter().zip(shape).enumerate() {
        if block > dim.max(1) {
            return Err(GeometryError::BlockTooLarge { axis, block, dim });
        }
    }
    Ok(sizes)
}

/// Joins neighbouring axes wherever the mapping from elements to scales stays the same.
fn collapse(
    shape: &[usize],
    sizes: &[usize],
    elements: usize,
) -> Result<(Vec<usize>, Vec<usize>), GeometryError> {
    let (mut dims, mut blocks) = (room(shape.len() + 1)?, room(shape.len() + 1)?);
    dims.push(1);
    blocks.push(1);
    if elements == 0 {
        return Ok((dims, blocks));
    }
    for (&dim, &block) in shape.iter().zip(sizes) {
        let last = dims.len() - 1;
        if dim == 1 {
            continue;
        }
        if block == dim {
            dims[last] *= dim;
            blocks[last] *= dim;
        } else if blocks[last] == 1 && dim % block == 0 {
            dims[last] *= dim;
            blocks[last] = block;
        } else {
            dims.push(dim);
            blocks.push(block);
        }
    }
    Ok((dims, blocks))
}
