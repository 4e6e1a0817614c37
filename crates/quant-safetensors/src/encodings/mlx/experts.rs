//! Experts, each a tensor of its own, as the stacks that mlx-lm has of them.

use std::collections::HashMap;

use quant_core::{Blocks, Granularity};
use quant_model::Error;
use quant_model::error::shortened;
use quant_model::report::Decision;
use quant_simd::TensorQuantizer;

use super::{PartOffset, Step};
use crate::part::Part;
use crate::{Entry, SafetensorsFile};

const EXPERTS: &str = ".experts.";
/// What mlx-lm calls the projections of an expert.
const PROJECTIONS: [(&str, &str); 6] = [
    ("w1.weight", "gate_proj.weight"),
    ("w2.weight", "down_proj.weight"),
    ("w3.weight", "up_proj.weight"),
    ("gate_proj.weight", "gate_proj.weight"),
    ("down_proj.weight", "down_proj.weight"),
    ("up_proj.weight", "up_proj.weight"),
];

/// One projection of all experts of a layer.
#[derive(Debug)]
pub(super) struct Stack {
    /// What it is called in the result.
    pub name: String,
    /// Numbers of tensors, in order of the experts.
    pub members: Vec<usize>,
    numbers: Vec<usize>,
}

/// All of a model, by the names of single experts.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    stacks: Vec<Stack>,
    by_name: HashMap<String, usize>,
}

/// The name of a stack, and which expert a tensor is of, if it is of one.
pub(super) fn stacked(name: &str) -> Option<(String, usize)> {
    let at = name.find(EXPERTS)?;
    let (number, projection) = name[at + EXPERTS.len()..].split_once('.')?;
    let (_, projection) = PROJECTIONS.iter().find(|(own, _)| *own == projection)?;
    let prefix = &name[..at];
    Some((
        format!("{prefix}.switch_mlp.{projection}"),
        number.parse().ok()?,
    ))
}

impl Stacks {
    pub fn find<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let mut all = Self::default();
        let mut places: HashMap<String, usize> = HashMap::new();
        for (tensor, name) in names.enumerate() {
            let Some((stack, number)) = stacked(name) else {
                continue;
            };
            let place = *places.entry(stack.clone()).or_insert_with(|| {
                all.stacks.push(Stack {
                    name: stack,
                    members: Vec::new(),
                    numbers: Vec::new(),
                });
                all.stacks.len() - 1
            });
            all.stacks[place].members.push(tensor);
            all.stacks[place].numbers.push(number);
            all.by_name.insert(name.to_owned(), place);
        }
        for stack in &mut all.stacks {
            let mut pairs: Vec<_> = stack.numbers.iter().zip(&stack.members).collect();
            pairs.sort();
            let (numbers, members) = pairs.into_iter().unzip();
            (stack.numbers, stack.members) = (numbers, members);
        }
        all
    }

    pub fn of(&self, name: &str) -> Option<&Stack> {
        Some(&self.stacks[*self.by_name.get(name)?])
    }
}

impl Stack {
    /// The tensor in whose place it is written.
    pub fn first(&self) -> usize {
        self.members.iter().copied().min().unwrap_or(0)
    }

    /// Refuses experts that cannot be stacked.
    pub fn check(
        &self,
        entries: &[(&SafetensorsFile, &str, &Entry)],
        decisions: &[Decision],
    ) -> Result<(), Error> {
        let (file, _, first) = entries[self.members[0]];
        let bad = |problem: String| Err(Error::tensor(file.path(), &self.name, problem));
        for (expected, (&number, &tensor)) in self.numbers.iter().zip(&self.members).enumerate() {
            if number != expected {
                return bad(format!(
                    "the experts are to be stacked, and there is no expert {expected}; the model is not whole"
                ));
            }
            let (_, name, entry) = entries[tensor];
            if (&entry.dtype, &entry.shape) != (&first.dtype, &first.shape) {
                return bad(format!(
                    "the experts are to be stacked, and `{}` has another type or shape than the first",
                    shortened(name)
                ));
            }
            if !alike(&decisions[self.members[0]], &decisions[tensor]) {
                return bad(format!(
                    "the experts are to be stacked, and `{}` is quantized otherwise than the first; give all experts of a layer the same bits and group size",
                    shortened(name)
                ));
            }
        }
        Ok(())
    }

    /// What quantizes all of it as `one` does an expert.
    pub fn quantizer(&self, one: &TensorQuantizer) -> TensorQuantizer {
        let shape = [&[self.members.len()][..], one.blocks.shape()].concat();
        let sizes = [&[1][..], one.blocks.block_sizes()].concat();
        let blocks = Blocks::new(&shape, &Granularity::Blocks(sizes));
        TensorQuantizer {
            blocks: blocks.expect("what one expert has, as often as there are experts"),
            ..one.clone()
        }
    }
}

fn alike(a: &Decision, b: &Decision) -> bool {
    match (a, b) {
        (Decision::Quantize(a), Decision::Quantize(b)) => {
            (a.scheme, a.source, &a.blocks) == (b.scheme, b.source, &b.blocks)
        }
        (Decision::Quantize(_), _) | (_, Decision::Quantize(_)) => false,
        _ => true,
    }
}

/// The step of one expert of `count`, where `whole` is that of the stack.
pub(super) fn shifted(
    whole: &Step,
    tensor: usize,
    expert: usize,
    count: usize,
    parts: &[Part],
) -> Step {
    let part = |place: &PartOffset| {
        let len = parts.iter().find(|part| part.name == place.part);
        PartOffset {
            part: place.part.clone(),
            offset: len.map_or(0, |part| part.len / count * expert),
        }
    };
    match whole {
        Step::Quantize {
            codes,
            scales,
            offsets,
            ..
        } => Step::Quantize {
            tensor,
            codes: part(codes),
            scales: part(scales),
            offsets: offsets.as_ref().map(part),
        },
        Step::Copy { to, .. } => Step::Copy {
            tensor,
            to: part(to),
        },
        Step::Write { to, bytes } => Step::Write {
            to: part(to),
            bytes: bytes.clone(),
        },
    }
}
