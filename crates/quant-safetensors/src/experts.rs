//! Stacked experts: the weights of all experts of a layer in one tensor of rank 3.
//!
//! Most models have them as `[experts, output, input]`, the way of `torch.nn.functional.linear`
//! (Mixtral, Qwen3-MoE and DeepSeek in transformers, Granite, MLX). gpt-oss, Llama 4 and Qwen3-VL-MoE
//! have `[experts, input, output]`, under the same names.

use std::sync::LazyLock;

use quant_model::error::option;
use quant_model::facts::Axes;
use quant_model::options::{ExpertAxes, Experts};
use quant_model::unmatched::{Known, Unmatched};
use regex::Regex;

use crate::{Model, SafetensorsFile};

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

/// How a model's experts lie.
pub(crate) struct Stacks<'o, 'm> {
    options: &'o Experts,
    model: &'m Model,
}

impl<'o, 'm> Stacks<'o, 'm> {
    pub fn new(options: &'o Experts, model: &'m Model) -> Self {
        Self { options, model }
    }

    /// The axes of a tensor's channels.
    pub fn axes(&self, name: &str, shape: &[usize]) -> Axes {
        if !self.is_stack(name, shape) {
            return Axes::Agreed {
                output: 0,
                input: 1,
            };
        }
        let axes = self.options.axes.or_else(|| self.by_pair(name, shape));
        Axes::Stack(axes.unwrap_or(ExpertAxes::OutputInput))
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
        self.model.base.entry(name).map(|entry| &entry.shape[..])
    }

    /// Patterns of the options that match no tensor of rank 3, and axes where there is no stack.
    pub fn unmatched(&self) -> Vec<Unmatched> {
        let entries = self
            .model
            .base
            .files
            .iter()
            .flat_map(SafetensorsFile::entries);
        let of_rank_3 = entries.filter(|(_, entry)| entry.shape.len() == 3);
        let of_rank_3: Vec<_> = of_rank_3.collect();
        let names = of_rank_3.iter().map(|(name, _)| name.as_str());
        let known = Known::new("tensor of rank 3", names);
        let mut unmatched = known.patterns("experts", &self.options.names);
        let stacks = of_rank_3.iter().map(|(name, entry)| (name, &entry.shape));
        if let Some(axes) = self.options.axes
            && !stacks
                .into_iter()
                .any(|(name, shape)| self.is_stack(name, shape))
        {
            let none = Known::new("stack of experts", []);
            unmatched.extend(none.tell(&option("expert_axes"), &[axes.name()]));
        }
        unmatched
    }
}

fn replaced(name: &str, at: usize, from: &str, to: &str) -> String {
    format!("{}{to}{}", &name[..at], &name[at + from.len()..])
}
