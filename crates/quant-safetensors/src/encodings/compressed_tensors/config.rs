//! The `quantization_config` of a model.

use std::collections::BTreeMap;
use std::path::Path;

use quant_core::{Dialect, IntType, Mode};
use quant_model::options::QuantizeOptions;
use quant_model::report::Decision;
use quant_model::settings::Grouping;
use quant_model::{Error, SchemeRecord};
use quant_simd::TensorQuantizer;
use serde_json::{Map, Value, json};

use super::{Document, Format, WEIGHT, WORD};
use crate::Entry;
use crate::model_config::CONFIG;
use crate::model_files::ModelFiles;

const KEY: &str = "quantization_config";
const METHOD: &str = "compressed-tensors";
/// The version whose convention this is.
const VERSION: &str = "0.20.0";
/// Formats whose integers lie as this convention says. In others the same names hold something else.
const READ: [&str; 4] = [
    "pack-quantized",
    "int-quantized",
    "naive-quantized",
    "mixed-precision",
];

/// A model's configuration, and where it is.
fn of(model: &ModelFiles) -> Result<(&Path, &Map<String, Value>), Error> {
    let config = &model.config;
    match config.get()? {
        Some(content) => Ok((config.path(), content)),
        None => Err(Error::file(
            config.path(),
            "is missing: compressed-tensors wants the folder of a model, with its configuration",
        )),
    }
}

/// Refuses a model that is no folder, or quantized already.
pub(super) fn check(model: &ModelFiles) -> Result<(), Error> {
    if model.folder.is_none() {
        let problem = "one file: compressed-tensors wants the folder of a model, with its config.json; give the folder";
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
    options: &QuantizeOptions,
) -> Result<Document, Error> {
    let (path, content) = of(model)?;
    let asked = match (&options.plan, &options.granularity) {
        (None, Grouping::Groups(size)) => Some(*size),
        _ => None,
    };
    let mut groups: Vec<Group> = Vec::new();
    let mut ignored = vec!["lm_head".to_owned()];
    for ((_, name, entry), decision) in model.entries().zip(decisions) {
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

/// The tensors that lie as the configuration says: packed words, or bytes, beside scales.
///
/// # Errors
/// A configuration, or a shape, that cannot be read; words that do not have the shape.
// Long: one tensor after the other, and the places that it may have.
pub(super) fn find(files: &ModelFiles) -> Result<BTreeMap<String, SchemeRecord>, Error> {
    let all = || {
        let files = files.files.iter();
        files.flat_map(|file| {
            file.entries()
                .iter()
                .map(move |(name, it)| (file, name, it))
        })
    };
    let mut found = BTreeMap::new();
    if !all().any(|(_, name, _)| name.ends_with("_scale")) {
        return Ok(found);
    }
    if !is_read(files)? {
        return Ok(found);
    }
    let places: BTreeMap<&str, _> = all()
        .map(|(file, name, it)| (name.as_str(), (file, it)))
        .collect();
    for (file, name, codes) in all() {
        let weight = name.strip_suffix("_packed").unwrap_or(name);
        let part = |what: &str| places.get(&*format!("{weight}_{what}")).copied();
        let (true, Some((_, scales)), None) =
            (weight.ends_with(WEIGHT), part("scale"), part("g_idx"))
        else {
            continue;
        };
        let mode = match part("zero_point") {
            Some(_) => Mode::Affine,
            None => Mode::Symmetric,
        };
        let record = match part("shape") {
            _ if weight == name => match (codes.dtype.as_str(), codes.shape.as_slice(), mode) {
                ("I8", &[rows, row], Mode::Symmetric) => {
                    record(IntType::Int8, mode, [rows, row], scales)
                }
                _ => None,
            },
            Some((shape_file, shape)) => {
                // Two numbers: what is longer is not read.
                let bytes = match shape.len() {
                    16 => shape_file.read(shape)?,
                    _ => Vec::new(),
                };
                let record = packed_record(codes, scales, mode, &bytes);
                Some(record.ok_or_else(|| {
                    let problem = "its words, scales and `_shape` do not fit one another; the file is damaged, or of a scheme that quant does not know";
                    Error::tensor(file.path(), weight, problem)
                })?)
            }
            None => None,
        };
        if let Some(record) = record {
            found.insert(weight.to_owned(), record);
        }
    }
    Ok(found)
}

/// Whether the configuration says that tensors lie as they are read here.
fn is_read(files: &ModelFiles) -> Result<bool, Error> {
    let config = files.config.get()?.and_then(|it| it.get(KEY));
    let said = |key: &str| config?.get(key)?.as_str();
    let is_known = said("format").is_none_or(|format| READ.contains(&format));
    Ok(said("quant_method") == Some(METHOD) && is_known)
}

/// That of words, by the shape that the weight had.
fn packed_record(words: &Entry, scales: &Entry, mode: Mode, shape: &[u8]) -> Option<SchemeRecord> {
    let (&[rows, count], "I32") = (words.shape.as_slice(), words.dtype.as_str()) else {
        return None;
    };
    let (&[first, second], []) = shape.as_chunks::<8>() else {
        return None;
    };
    let row = usize::try_from(u64::from_le_bytes(second)).ok()?;
    if u64::from_le_bytes(first) != rows as u64 || row == 0 {
        return None;
    }
    let bits = count.checked_mul(WORD)?;
    let dtype = match bits.is_multiple_of(row).then(|| bits / row)? {
        4 => IntType::Uint4,
        8 => IntType::Uint8,
        _ => return None,
    };
    record(dtype, mode, [rows, row], scales)
}

fn record(dtype: IntType, mode: Mode, shape: [usize; 2], scales: &Entry) -> Option<SchemeRecord> {
    let &[rows, groups] = scales.shape.as_slice() else {
        return None;
    };
    if rows != shape[0] || groups == 0 || !shape[1].is_multiple_of(groups) || shape[1] == 0 {
        return None;
    }
    Some(SchemeRecord {
        dtype: dtype.name().into(),
        mode: mode.name().into(),
        dialect: Dialect::CompressedTensors.name().into(),
        shape: shape.to_vec(),
        blocks: vec![1, shape[1] / groups],
        source: scales.float_type()?.name().into(),
        search: None,
    })
}
