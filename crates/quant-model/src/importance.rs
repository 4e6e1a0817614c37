//! How large the inputs of a model's weights are: what errors in them are weighed by.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::Error;

/// The mean squares of the inputs of weights, by the weights' names, from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct InputImportance {
    path: PathBuf,
    means: BTreeMap<String, Vec<f64>>,
}

impl InputImportance {
    /// Mean squares, and the file that they are from.
    ///
    /// # Errors
    /// None at all; a mean that is negative or not finite.
    pub fn new(path: &Path, means: BTreeMap<String, Vec<f64>>) -> Result<Self, Error> {
        if means.is_empty() {
            return Err(Error::file(path, "holds the importance of no tensor"));
        }
        for (name, means) in &means {
            let bad = means.iter().position(|it| !(it.is_finite() && *it >= 0.0));
            if let Some(bad) = bad {
                let problem = format!(
                    "the mean square of input {bad} is {}, no finite number of at least 0",
                    means[bad]
                );
                return Err(Error::tensor(path, name, problem));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            means,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names that there are.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.means.keys().map(String::as_str)
    }

    /// The mean squares of the inputs of a weight that goes by one of these names, in the names of
    /// llama.cpp too.
    pub(crate) fn find(&self, names: &[&str]) -> Option<&[f64]> {
        let found = names.iter().find_map(|name| {
            let own = self.means.get(*name);
            own.or_else(|| self.means.get(&in_llama_cpp(name)?))
        });
        found.map(Vec::as_slice)
    }
}

/// A name of a Hugging Face model as llama.cpp has it.
fn in_llama_cpp(name: &str) -> Option<String> {
    let other = match name {
        "lm_head.weight" => return Some("output.weight".into()),
        name => name.strip_prefix("model.layers.")?,
    };
    let (layer, rest) = other.split_once('.')?;
    let own = match rest.strip_suffix(".weight").unwrap_or(rest) {
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.qkv_proj" => "attn_qkv",
        "self_attn.o_proj" => "attn_output",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" | "mlp.gate_up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        "mlp.gate" | "block_sparse_moe.gate" => "ffn_gate_inp",
        _ => return None,
    };
    Some(format!("blk.{layer}.{own}.weight"))
}
