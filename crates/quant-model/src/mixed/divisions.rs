//! Blocks of all sizes that divide a tensor's output channels.

use quant_core::{Blocks, Granularity};
use quant_simd::TensorQuantizer;

use crate::ExpertAxes;
use crate::facts::{Axes, Facts};

/// A size that is nearer to the one before than by this part of it is not worth a pass over the weights.
const STEP: usize = 256;

/// The same codes in larger blocks, the fewest bytes first: as many sizes as differ by more than a hair,
/// up to those whose scales take as much as the codes.
pub(super) fn quantizers(
    facts: &Facts,
    smallest: &TensorQuantizer,
    bytes: &dyn Fn(&TensorQuantizer) -> usize,
) -> Vec<TensorQuantizer> {
    let mut all: Vec<TensorQuantizer> = Vec::new();
    for sizes in divisions(facts).into_iter().rev() {
        let Ok(blocks) = Blocks::new(&facts.shape, &Granularity::Blocks(sizes)) else {
            continue;
        };
        let mut next = smallest.clone();
        next.blocks = blocks;
        let (size, codes) = (bytes(&next), next.codes_len());
        let before = all.last().map_or(0, bytes);
        if size <= 2 * codes && size > before + before / STEP {
            all.push(next);
        }
    }
    all
}

/// Blocks within an output channel that lie side by side in it, the smallest first: parts of the last axis,
/// then all of that and parts of the one before, and the input channels in the end.
fn divisions(facts: &Facts) -> Vec<Vec<usize>> {
    let rank = facts.shape.len();
    let from_front = |axis: isize| match usize::try_from(axis) {
        Ok(axis) => axis,
        Err(_) => rank.saturating_sub(axis.unsigned_abs()),
    };
    let (kept, input) = match &facts.axes {
        Axes::Agreed { output, input } => (vec![from_front(*output)], from_front(*input)),
        Axes::Stack(ExpertAxes::OutputInput) => (vec![0, 1], 2),
        Axes::Stack(ExpertAxes::InputOutput) => (vec![0, 2], 1),
        Axes::Conflicting(_) => return Vec::new(),
    };
    let mut axes: Vec<usize> = (0..rank).rev().filter(|&axis| axis != input).collect();
    axes.push(input);
    axes.retain(|axis| *axis < rank && !kept.contains(axis));
    let mut sizes = vec![1; rank];
    let mut found = Vec::new();
    for axis in axes {
        let dim = facts.shape[axis];
        for size in (1..dim).filter(|&size| dim.is_multiple_of(size)) {
            sizes[axis] = size;
            found.push(sizes.clone());
        }
        sizes[axis] = dim;
    }
    found
}

#[cfg(test)]
mod tests {
    use quant_core::{FloatType, IntType, Mode, Scheme, Search};

    use super::*;
    use crate::facts::Storage;

    fn facts(shape: &[usize], axes: Axes) -> Facts {
        Facts {
            index: 0,
            name: "w".into(),
            alias: None,
            file: "model".into(),
            dtype: "F16".into(),
            shape: shape.into(),
            bytes: 0,
            storage: Storage::Float(FloatType::F16),
            axes,
            consumers: Vec::new(),
            pinned: None,
        }
    }

    const LINEAR: Axes = Axes::Agreed {
        output: 0,
        input: 1,
    };

    #[test]
    fn blocks_are_parts_of_the_kernel_and_then_of_the_inputs() {
        let conv = divisions(&facts(&[8, 6, 1, 4], LINEAR));
        let expected = [
            [1, 1, 1, 1],
            [1, 1, 1, 2],
            [1, 1, 1, 4],
            [1, 2, 1, 4],
            [1, 3, 1, 4],
        ];
        assert_eq!(conv, expected);
        let transposed = Axes::Agreed {
            output: -1,
            input: -2,
        };
        assert_eq!(divisions(&facts(&[4, 9], transposed)), [[1, 1], [2, 1]]);
        let experts = Axes::Stack(ExpertAxes::OutputInput);
        assert_eq!(
            divisions(&facts(&[3, 8, 9], experts)),
            [[1, 1, 1], [1, 1, 3]]
        );
        let unknown = Axes::Conflicting("nobody knows".into());
        assert!(divisions(&facts(&[8, 8], unknown)).is_empty());
    }

    #[test]
    fn sizes_rise_up_to_that_of_the_codes() {
        let facts = facts(&[10, 1440], LINEAR);
        let smallest = TensorQuantizer {
            backend: quant_simd::Backend::Scalar,
            scheme: Scheme::new(IntType::Int4, Mode::Symmetric),
            source: FloatType::F16,
            blocks: Blocks::new(&facts.shape, &Granularity::Blocks(vec![1, 1])).unwrap(),
            search: Search::None,
            importance: None,
        };
        let bytes = |one: &TensorQuantizer| one.codes_len() + one.scales_len();
        let all = quantizers(&facts, &smallest, &bytes);
        let sizes: Vec<usize> = all.iter().map(|one| one.blocks.block_sizes()[1]).collect();
        assert_eq!(sizes[..2], [720, 360]);
        assert_eq!(sizes[sizes.len() - 8..], [15, 12, 10, 9, 8, 6, 5, 4]);
        assert!(all.windows(2).all(|two| bytes(&two[0]) < bytes(&two[1])));
        assert_eq!(bytes(all.last().unwrap()), 10 * 1440);
    }
}
