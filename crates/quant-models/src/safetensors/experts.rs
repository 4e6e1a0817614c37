//! Stacked experts: the weights of all experts of a layer in one tensor of rank 3.
//!
//! Most models have them as `[experts, output, input]`, the way of `torch.nn.functional.linear`
//! (Mixtral, Qwen3-MoE and DeepSeek in transformers, Granite, MLX). gpt-oss, Llama 4 and Qwen3-VL-MoE
//! have `[experts, input, output]`, under the same names.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use quant_core::Granularity as Blocks;
use regex::Regex;

use crate::error::{one_line, shortened};
use crate::options::{ExpertAxes, Experts};
use crate::unmatched::{Known, Unmatched};
use crate::{Granularity, Model, SafetensorsFile};

/// Part of a name that only experts have.
static PARENTS: LazyLock<Regex> = LazyLock::new(|| {
    let names = "experts?|local_experts|switch_mlp|switch_glu|moe|block_sparse_moe";
    Regex::new(&format!("(^|[._/])({names})([._/]|$)")).expect("a pattern of our own")
});

/// Names of their weights, which other layers have, too.
static WEIGHTS: LazyLock<Regex> = LazyLock::new(|| {
    let names = "(gate_up|up_gate|gate|up|down)_proj|w13|w13_weight|w2_weight";
    Regex::new(&format!(r"(^|[._/])({names})([._/]weight)?$")).expect("a pattern of our own")
});

/// A convolution's kernel, which is of rank 3 too, has fewer columns.
const SMALLEST: usize = 16;

/// The first projection, which is twice as wide, and the second, of one layer.
const PAIRS: [(&str, &str); 5] = [
    ("gate_up_proj", "down_proj"),
    ("up_gate_proj", "down_proj"),
    ("w13_weight", "w2_weight"),
    ("w13", "w2"),
    ("input_linear", "output_linear"),
];

/// How a model's experts lie, and which ones were found.
pub(crate) struct Stacks<'o, 'm> {
    options: &'o Experts,
    model: &'m Model,
    /// Per layout: how many, the first one's name.
    found: BTreeMap<&'static str, (usize, String)>,
}

impl<'o, 'm> Stacks<'o, 'm> {
    pub fn new(options: &'o Experts, model: &'m Model) -> Self {
        Self {
            options,
            model,
            found: BTreeMap::new(),
        }
    }

    /// The blocks of a tensor: those of its experts, if it is a stack of them and the options leave its
    /// axes open.
    pub fn blocks(&mut self, name: &str, shape: &[usize], wanted: &Granularity) -> Blocks {
        let others = || wanted.with_axes(shape.len(), 0, 1);
        let size = match wanted {
            Granularity::PerChannel { axis: None } => 0,
            Granularity::PerBlock {
                axis: None,
                block_axis: None,
                block_size,
            } => *block_size,
            _ => return others(),
        };
        if !self.is_stack(name, shape) {
            return others();
        }
        let axes = self.options.axes.or_else(|| self.by_pair(name, shape));
        let axes = axes.unwrap_or(ExpertAxes::OutputInput);
        let found = self.found.entry(axes.name()).or_default();
        if found.0 == 0 {
            found.1 = name.into();
        }
        found.0 += 1;
        Blocks::Blocks(match axes {
            ExpertAxes::OutputInput => vec![1, 1, size],
            ExpertAxes::InputOutput => vec![1, size, 1],
        })
    }

    fn is_stack(&self, name: &str, shape: &[usize]) -> bool {
        let [_, rows, columns] = shape else {
            return false;
        };
        match &self.options.names[..] {
            [] if *rows.min(columns) < 2 => false,
            [] => {
                PARENTS.is_match(name) || *rows.min(columns) >= SMALLEST && WEIGHTS.is_match(name)
            }
            names => names.iter().any(|pattern| pattern.is_match(name)),
        }
    }

    /// Told by the lengths of both projections of a layer: what one gives, the other takes.
    fn by_pair(&self, name: &str, shape: &[usize]) -> Option<ExpertAxes> {
        PAIRS.iter().find_map(|(first, second)| {
            let (first, second) = if let Some(at) = name.rfind(first) {
                let other = replaced(name, at, first, second);
                (shape, self.shape(&other)?)
            } else {
                let at = name.rfind(second)?;
                let other = replaced(name, at, second, first);
                (self.shape(&other)?, shape)
            };
            let ([_, a, b], [_, c, d]) = (first, second) else {
                return None;
            };
            let output_input = b == c && d.checked_mul(2) == Some(*a);
            let input_output = a == d && c.checked_mul(2) == Some(*b);
            match (output_input, input_output) {
                (true, false) => Some(ExpertAxes::OutputInput),
                (false, true) => Some(ExpertAxes::InputOutput),
                _ => None,
            }
        })
    }

    fn shape(&self, name: &str) -> Option<&'m [usize]> {
        self.model.entry(name).map(|entry| &entry.shape[..])
    }

    /// What was chosen, a line per layout.
    pub fn notes(&self) -> Vec<String> {
        let other = |axes: &str| match axes {
            "output-input" => "input-output",
            _ => "output-input",
        };
        let note = |(axes, (count, first)): (&&'static str, &(usize, String))| {
            let shape = axes.replace('-', ", ");
            one_line(format!(
                "{count} stacked experts as [experts, {shape}], such as `{}`: a scale per expert and output row, blocks along the input (--expert-axes {} where they are the other way round)",
                shortened(first),
                other(axes)
            ))
        };
        self.found.iter().map(note).collect()
    }

    /// Patterns of the options that match no tensor of rank 3.
    pub fn unmatched(&self) -> Vec<Unmatched> {
        let entries = self.model.files.iter().flat_map(SafetensorsFile::entries);
        let stacks = entries.filter(|(_, entry)| entry.shape.len() == 3);
        let known = Known::new("tensor of rank 3", stacks.map(|(name, _)| name.as_str()));
        known.patterns("--experts", &self.options.names)
    }
}

fn replaced(name: &str, at: usize, from: &str, to: &str) -> String {
    format!("{}{to}{}", &name[..at], &name[at + from.len()..])
}
