//! The `quantization_config` of a model.

use std::collections::HashSet;
use std::path::Path;

use quant_core::Mode;
use quant_model::report::Decision;
use quant_model::{Asked, Error};
use quant_simd::TensorQuantizer;
use serde_json::{Map, Value, json};

use super::{Document, Format, WEIGHT, stack};
use crate::model_config::CONFIG;
use crate::model_files::ModelFiles;

pub(super) const KEY: &str = "quantization_config";
pub(super) const METHOD: &str = "compressed-tensors";
/// The version whose convention this is.
const VERSION: &str = "0.20.0";

/// A model's configuration, and where it is.
fn of(model: &ModelFiles) -> Result<(&Path, &Map<String, Value>), Error> {
    let config = &model.config;
    match config.get()? {
        Some(content) => Ok((config.path(), content)),
        None => Err(Error::file(
            config.path(),
            "is missing: compressed-tensors needs the folder of a model, with its configuration",
        )),
    }
}

/// Refuses a model that is no folder, or quantized already.
pub(super) fn check(model: &ModelFiles) -> Result<(), Error> {
    if model.folder.is_none() {
        let problem = "one file: compressed-tensors needs the folder of a model, with its config.json; give the folder";
        return Err(Error::file(model.files[0].path(), problem));
    }
    let (path, content) = of(model)?;
    if content.contains_key(KEY) {
        let problem =
            format!("has `{KEY}`: the model is already quantized; start from the float model");
        return Err(Error::file(path, problem));
    }
    Ok(())
}

/// How weights are quantized, as the configuration says it; with groups of the size that was asked for
/// where a row is one of them.
fn weights(quantizer: &TensorQuantizer, asked: Option<usize>) -> Value {
    let row = quantizer.blocks.shape().last().copied().unwrap_or(0);
    let group = quantizer.blocks.block_sizes().last().copied();
    let group = group.filter(|&size| size != 0 && size < row || Some(size) == asked);
    json!({
        "dynamic": false,
        "group_size": group,
        "num_bits": quantizer.scheme.dtype.bits(),
        "strategy": if group.is_some() { "group" } else { "channel" },
        "symmetric": quantizer.scheme.mode == Mode::Symmetric,
        "type": "int",
    })
}

fn activations() -> Value {
    json!({
        "dynamic": true,
        "group_size": null,
        "num_bits": 8,
        "strategy": "token",
        "symmetric": true,
        "type": "int",
    })
}

/// The name that the scheme has in llm-compressor.
fn scheme_name(quantizer: &TensorQuantizer) -> String {
    let scheme = quantizer.scheme;
    match (Format::from_type(scheme.dtype), scheme.mode) {
        (Format::Int, _) => "W8A8".into(),
        (Format::Packed, Mode::Symmetric) => format!("W{}A16", scheme.dtype.bits()),
        (Format::Packed, Mode::Affine) => format!("W{}A16_ASYM", scheme.dtype.bits()),
    }
}

/// A scheme, and the modules that have it.
struct Group {
    name: String,
    format: Format,
    weights: Value,
    modules: Vec<String>,
}

impl Group {
    fn json(&self, targets: Value) -> Value {
        let activations = match self.format {
            Format::Packed => Value::Null,
            Format::Int => activations(),
        };
        json!({
            "format": self.format.name(),
            "input_activations": activations,
            "output_activations": null,
            "targets": targets,
            "weights": self.weights,
        })
    }
}

/// The configuration with what is quantized, and how.
///
/// # Errors
/// It cannot be read.
pub(super) fn quantized(
    model: &ModelFiles,
    decisions: &[Decision],
    asked: Option<Asked>,
) -> Result<Document, Error> {
    let (path, content) = of(model)?;
    let asked = asked.map(|it| it.group_size);
    let mut groups: Vec<Group> = Vec::new();
    let mut ignored = vec!["lm_head".to_owned()];
    let mut stacks = HashSet::new();
    for ((_, name, entry), decision) in model.entries().zip(decisions) {
        if let Some(pattern) = stack(name, entry).filter(|it| stacks.insert(it.clone())) {
            ignored.push(pattern);
        }
        let Some(module) = name.strip_suffix(WEIGHT) else {
            continue;
        };
        let Decision::Quantize(quantizer) = decision else {
            if entry.shape.len() == 2 && module != "lm_head" {
                ignored.push(module.to_owned());
            }
            continue;
        };
        let (name, weights) = (scheme_name(quantizer), weights(quantizer, asked));
        let known = groups
            .iter()
            .position(|it| (&it.name, &it.weights) == (&name, &weights));
        let place = known.unwrap_or_else(|| {
            groups.push(Group {
                name,
                format: Format::from_type(quantizer.scheme.dtype),
                weights,
                modules: Vec::new(),
            });
            groups.len() - 1
        });
        groups[place].modules.push(module.to_owned());
    }
    let mut content = content.clone();
    if !groups.is_empty() {
        content.insert(KEY.into(), quantization(&groups, ignored));
    }
    document(path, &mut content)
}

/// One scheme is that of all linear layers; of several, each names its modules.
fn quantization(groups: &[Group], ignored: Vec<String>) -> Value {
    let mut config_groups = Map::new();
    for (i, group) in groups.iter().enumerate() {
        let (name, targets) = match groups.len() {
            1 => (group.name.clone(), json!(["Linear"])),
            _ => (format!("{}_{i}", group.name), json!(group.modules)),
        };
        config_groups.insert(name, group.json(targets));
    }
    let mut formats = groups.iter().map(|group| group.format);
    let first = formats.next().unwrap_or(Format::Packed);
    let format = match formats.all(|it| it == first) {
        true => first.name(),
        false => "mixed-precision",
    };
    json!({
        "config_groups": config_groups,
        "format": format,
        "global_compression_ratio": null,
        "ignore": ignored,
        "kv_cache_scheme": null,
        "moe_sparsity_config": null,
        "quant_method": METHOD,
        "quantization_status": "compressed",
        "transform_config": {},
        "version": VERSION,
    })
}

/// The first group of a quantized model whose activations are quantized, too.
pub(super) fn group_with_activations(model: &ModelFiles) -> Option<String> {
    let config = model.config.get().ok()??;
    let groups = config.get(KEY)?.get("config_groups")?.as_object()?;
    let has = |group: &Value| {
        let mut said = ["input_activations", "output_activations"].iter();
        said.any(|key| group.get(key).is_some_and(|it| !it.is_null()))
    };
    // A preset's name says it: of 16 bits or not.
    let is_preset =
        |(name, group): (&String, &Value)| group.is_array() && !name.to_uppercase().contains("A16");
    let mut groups = groups.iter();
    let found = groups.find(|(name, group)| has(group) || is_preset((name, group)));
    found.map(|(name, _)| name.clone())
}

/// Whether a quantized model says how the cache of keys and values is quantized.
pub(super) fn has_quantized_cache(model: &ModelFiles) -> bool {
    let config = model.config.get().ok().flatten();
    let scheme = config.and_then(|it| it.get(KEY)?.get("kv_cache_scheme"));
    scheme.is_some_and(|scheme| !scheme.is_null())
}

/// The configuration without quantization.
///
/// # Errors
/// It cannot be read.
pub(super) fn restored(model: &ModelFiles) -> Result<Document, Error> {
    let (path, content) = of(model)?;
    let mut content = content.clone();
    content.remove(KEY);
    document(path, &mut content)
}

fn document(like: &Path, content: &mut Map<String, Value>) -> Result<Document, Error> {
    content.sort_keys();
    let text = serde_json::to_string_pretty(content);
    let text = text.map_err(|error| Error::file(like, format!("cannot write it anew: {error}")))?;
    Ok(Document {
        name: CONFIG.into(),
        text: text + "\n",
        like: Some(like.to_owned()),
    })
}
