//! The small files of an MLX model: its configuration and its index.

use std::collections::BTreeMap;
use std::path::Path;

use quant_model::io::{Links, parent, read_bounded};
use quant_model::report::Decision;
use quant_model::{Asked, Error, Job};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};

use super::experts::stacked;
use super::families::{Family, Rule};
use super::{Document, WEIGHT, Written};
use crate::encodings::WeightMap;
use crate::index::INDEX;
pub(super) use crate::model_config::CONFIG;
use crate::model_files::ModelFiles;

pub(super) const QUANTIZATION: [&str; 2] = ["quantization", "quantization_config"];
/// Keys that mlx-lm leaves out.
const DROPPED: [&str; 2] = ["_name_or_path", "vision_config"];
const GENERATION: &str = "generation_config.json";

/// A model's configuration, and where it is.
///
/// # Errors
/// There is none, or it cannot be read.
pub(super) fn of(model: &ModelFiles) -> Result<(&Path, &Map<String, Value>), Error> {
    let config = &model.config;
    match config.get()? {
        Some(content) => Ok((config.path(), content)),
        None => Err(Error::file(
            config.path(),
            "is missing: MLX needs the folder of a model, with its configuration",
        )),
    }
}

/// The family that a model's configuration names.
///
/// # Errors
/// No configuration, or one of a family that is not known.
pub(super) fn family(model: &ModelFiles) -> Result<Family, Error> {
    let (path, content) = of(model)?;
    Family::from_config(content).map_err(|problem| Error::file(path, problem))
}

/// Refuses a model that is no folder, or of a family that is not known, or quantized already.
pub(super) fn check(model: &ModelFiles) -> Result<(), Error> {
    if model.folder.is_none() {
        let problem =
            "one file: MLX needs the folder of a model, with its config.json; give the folder";
        return Err(Error::file(model.files[0].path(), problem));
    }
    if model.entries().next().is_none() {
        return Err(Error::file(model.files[0].path(), "holds no tensor"));
    }
    let (path, content) = of(model)?;
    if let Some(key) = QUANTIZATION.iter().find(|key| content.contains_key(**key)) {
        let problem =
            format!("has `{key}`: the model is already quantized; start from the float model");
        return Err(Error::file(path, problem));
    }
    family(model).map(drop)
}

/// Bits and group size.
type Spec = (u32, usize);

fn spec_json((bits, group_size): Spec) -> Value {
    json!({"group_size": group_size, "bits": bits})
}

/// The configuration with what is quantized, and how.
pub(super) fn quantized(
    model: &ModelFiles,
    decisions: &[Decision],
    asked: Option<Asked>,
) -> Result<Document, Error> {
    let (path, content) = of(model)?;
    let family = family(model)?;
    let mut modules: Vec<(String, Spec)> = Vec::new();
    for ((_, name, _), decision) in model.entries().zip(decisions) {
        let Decision::Quantize(quantizer) = decision else {
            continue;
        };
        let name = match stacked(name) {
            Some((_, expert)) if expert > 0 => continue,
            Some((stack, _)) => stack,
            None => name.to_owned(),
        };
        let module = name.strip_suffix(WEIGHT).unwrap_or(&name).to_owned();
        let group = quantizer.blocks.block_sizes().last().copied().unwrap_or(0);
        modules.push((module, (quantizer.scheme.dtype.bits(), group)));
    }
    let asked = asked.map(|it| (it.dtype.bits(), it.group_size));
    let all = asked.unwrap_or_else(|| most_frequent(&modules));
    let mut quantization = Map::new();
    quantization.insert("group_size".into(), all.1.into());
    quantization.insert("bits".into(), all.0.into());
    quantization.insert("mode".into(), "affine".into());
    for (module, spec) in modules {
        // mlx-lm writes down whatever its predicate says.
        let is_ruled = family.rule(&module) == Some(Rule::Bits8);
        if spec != all || is_ruled {
            quantization.insert(module, spec_json(spec));
        }
    }
    let mut content = content.clone();
    for key in DROPPED {
        content.remove(key);
    }
    for key in QUANTIZATION {
        content.insert(key.into(), Value::Object(quantization.clone()));
    }
    if let Some(token) = end_token(model) {
        content.insert("eos_token_id".into(), token);
    }
    content.sort_keys();
    document(path, CONFIG, &content)
}

/// That of `generation_config.json` takes the place of the configuration's.
fn end_token(model: &ModelFiles) -> Option<Value> {
    let path = model.config.path().with_file_name(GENERATION);
    let real = Links::new(parent(&path)).ok()?.inside(&path).ok()??;
    let text = read_bounded(&real, 1 << 20, "").ok()?;
    let content: Value = serde_json::from_slice(&text).ok()?;
    let token = content.get("eos_token_id")?;
    let is_empty = match token {
        Value::Array(tokens) => tokens.is_empty(),
        token => token.is_null() || *token == json!(0) || *token == json!(false),
    };
    (!is_empty).then(|| token.clone())
}

fn most_frequent(modules: &[(String, Spec)]) -> Spec {
    let mut counts: BTreeMap<Spec, usize> = BTreeMap::new();
    for (_, spec) in modules {
        *counts.entry(*spec).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map_or((4, 64), |(spec, _)| spec)
}

/// The configuration without quantization.
pub(super) fn restored(model: &ModelFiles) -> Result<Document, Error> {
    let (path, content) = of(model)?;
    let mut content = content.clone();
    for key in QUANTIZATION {
        content.remove(key);
    }
    document(path, CONFIG, &content)
}

/// The index that mlx-lm writes beside one file, too.
pub(super) fn index(
    model: &ModelFiles,
    written: &Written,
    job: &Job<'_>,
) -> Result<Document, Error> {
    #[derive(Serialize)]
    struct Index<'a> {
        metadata: Value,
        weight_map: WeightMap<'a>,
    }
    let family = family(model)?;
    let kept = model
        .entries()
        .filter(|(_, name, _)| family.dropped(name).is_none());
    let elements: usize = kept
        .map(|(_, _, entry)| entry.shape.iter().product::<usize>())
        .sum();
    let like = model
        .index
        .as_ref()
        .map_or(model.config.path(), |index| &index.path);
    let content = Index {
        metadata: json!({
            "total_size": written.tensor_bytes,
            "total_parameters": elements,
        }),
        weight_map: WeightMap(written, job),
    };
    let found = document(like, INDEX, &content);
    job.check()?;
    found
}

/// JSON as Python indents it.
fn document(like: &Path, name: &str, content: &impl Serialize) -> Result<Document, Error> {
    let mut text = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"    ");
    let written = content.serialize(&mut Serializer::with_formatter(&mut text, formatter));
    let bad = |error: String| Error::file(like, format!("cannot write it anew: {error}"));
    written.map_err(|error| bad(error.to_string()))?;
    let text = String::from_utf8(text).map_err(|error| bad(error.to_string()))?;
    Ok(Document {
        name: name.into(),
        text,
        like: Some(like.to_owned()),
    })
}
