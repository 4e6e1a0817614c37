//! Parameters of quantized activations beside the weights: what a model of floats, or one in a format
//! of weights alone, has no use for.

use std::collections::HashSet;

use quant_model::error::shortened;

use super::encodings::convention;
use crate::{Model, Tensor};

impl Model {
    /// Their names, sorted.
    fn of_activations(&self) -> Vec<&str> {
        let has = |name: &str| self.record(name).is_some();
        let is_one = |name: &str| {
            let mut encodings = self.encodings();
            encodings.any(|encoding| convention(encoding).is_of_activations(name, &has))
        };
        let names = self.base.entries().map(|(_, name, _)| name);
        let mut found: Vec<&str> = names.filter(|name| is_one(name)).collect();
        found.sort_unstable();
        found
    }

    /// Its tensors without them.
    pub(crate) fn without_activations<'a>(&self, tensors: Vec<Tensor<'a>>) -> Vec<Tensor<'a>> {
        let left_out: HashSet<&str> = self.of_activations().into_iter().collect();
        let kept = tensors.into_iter();
        kept.filter(|tensor| !left_out.contains(tensor.name))
            .collect()
    }

    /// That they are left out, if there are any.
    pub(crate) fn activations_left_out(&self) -> Option<String> {
        let found = self.of_activations();
        let first = shortened(found.first()?);
        Some(match found.len() {
            1 => format!(
                "`{first}` is left out: it says how activations or a cache are quantized, and the result does not say that they are"
            ),
            more => format!(
                "{more} tensors, such as `{first}`, are left out: they say how activations or a cache are quantized, and the result does not say that they are"
            ),
        })
    }
}
