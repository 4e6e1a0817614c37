//! What mlx-lm's model files say of each family of models, where a file of weights does not: which
//! modules its predicates treat otherwise, and what its loader drops.

use quant_model::error::shortened;
use serde_json::{Map, Value};

/// What a predicate says of some modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// 8 bits in groups of 64.
    Bits8,
    /// No layer that can be quantized.
    Float,
}

/// A family of models. The name is the `model_type` of the configuration.
#[derive(Debug)]
pub(super) struct Known {
    pub name: &'static str,
    /// Whether the embeddings are tied where the configuration does not say so.
    tied: bool,
    /// Ends of names of modules.
    rules: &'static [(&'static str, Rule)],
}

const fn plain(name: &'static str) -> Known {
    Known {
        name,
        tied: false,
        rules: &[],
    }
}

const fn tied(name: &'static str) -> Known {
    Known {
        tied: true,
        ..plain(name)
    }
}

const GRANITE: &[(&str, Rule)] = &[
    ("self_attn.o_proj", Rule::Bits8),
    ("mlp.down_proj", Rule::Bits8),
    ("lm_head", Rule::Bits8),
];

/// Those whose weights mlx-lm takes under the names that they have on Hugging Face.
pub(super) const FAMILIES: &[Known] = &[
    tied("llama"),
    tied("mistral"),
    tied("qwen2"),
    plain("qwen3"),
    plain("gemma"),
    plain("gemma2"),
    plain("phi3"),
    tied("olmo2"),
    tied("starcoder2"),
    plain("stablelm"),
    tied("smollm3"),
    tied("seed_oss"),
    Known {
        rules: GRANITE,
        ..tied("granite")
    },
    plain("mixtral"),
    plain("qwen2_moe"),
    Known {
        rules: &[("mlp.gate", Rule::Bits8)],
        ..plain("qwen3_moe")
    },
    tied("olmoe"),
    plain("phimoe"),
    Known {
        rules: &[("mlp.gate", Rule::Float)],
        ..plain("deepseek_v2")
    },
];

/// The family of one model.
pub(super) struct Family {
    known: &'static Known,
    is_tied: bool,
}

impl Family {
    /// As a model's configuration says.
    ///
    /// # Errors
    /// No family, or one that is not known.
    pub fn from_config(content: &Map<String, Value>) -> Result<Self, String> {
        let name = content.get("model_type").and_then(Value::as_str);
        let name = name.ok_or("no `model_type`")?;
        let known = FAMILIES.iter().find(|known| known.name == name);
        let known = known.ok_or_else(|| {
            let names: Vec<_> = FAMILIES.iter().map(|known| known.name).collect();
            format!(
                "quant does not know how mlx-lm wants models of the type `{}`; it knows {}",
                shortened(name),
                names.join(", ")
            )
        })?;
        let said = content.get("tie_word_embeddings").and_then(Value::as_bool);
        Ok(Self {
            known,
            is_tied: said.unwrap_or(known.tied),
        })
    }

    /// Why mlx-lm drops a tensor, if it does.
    pub fn dropped(&self, name: &str) -> Option<&'static str> {
        if name.contains("self_attn.rotary_emb.inv_freq") {
            return Some("mlx-lm computes it");
        }
        (self.is_tied && name == "lm_head.weight")
            .then_some("the output layer is tied to the embeddings")
    }

    /// What the predicate says of a module.
    pub fn rule(&self, module: &str) -> Option<Rule> {
        let mut rules = self.known.rules.iter();
        rules
            .find(|(end, _)| module.ends_with(end))
            .map(|(_, rule)| *rule)
    }
}
