//! Configuration files in the form of `coremltools.optimize.coreml.OptimizationConfig`.

use std::path::{Path, PathBuf};

use quant_core::{Dialect, IntType, Mode, Scheme};
use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::io::read_bounded;
use crate::options::Settings;
use crate::unmatched::{Known, Unmatched};
use crate::{Consumer, Error, Granularity};

const TYPE: &str = "OpLinearQuantizerConfig";
/// More than any configuration holds, and little enough to read.
const LARGEST: u64 = 16 << 20;

/// What a configuration file says of each tensor: by its name, by the operation that it feeds, or
/// of all. `None` in one of these places leaves a tensor in float.
#[derive(Clone, Debug)]
pub struct Config {
    path: PathBuf,
    global: Option<Settings>,
    types: Vec<(String, Option<Settings>)>,
    names: Vec<(String, Option<Settings>)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    config_type: String,
    #[serde(default)]
    global_config: Option<Value>,
    #[serde(default)]
    op_type_configs: Option<Map<String, Value>>,
    #[serde(default)]
    op_name_configs: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    config_type: Option<String>,
    #[serde(default = "symmetric")]
    mode: String,
    #[serde(default = "int8")]
    dtype: String,
    #[serde(default = "per_channel")]
    granularity: String,
    #[serde(default = "block_of_32")]
    block_size: BlockSize,
    #[serde(default = "threshold")]
    weight_threshold: usize,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum BlockSize {
    One(usize),
    PerAxis(Vec<usize>),
}

fn symmetric() -> String {
    "linear_symmetric".into()
}

fn int8() -> String {
    "int8".into()
}

fn per_channel() -> String {
    "per_channel".into()
}

fn block_of_32() -> BlockSize {
    BlockSize::One(32)
}

fn threshold() -> usize {
    2048
}

impl Config {
    /// Reads a YAML or JSON file. `dialect` is what the file cannot say.
    ///
    /// # Errors
    /// A file that cannot be read, or is no configuration of a linear quantization.
    pub fn open(path: &Path, dialect: Dialect) -> Result<Self, Error> {
        let bad = |problem: String| Error::file(path, problem);
        let text = read_bounded(path, LARGEST, "give a configuration, a YAML or JSON file")?;
        let text = String::from_utf8(text)
            .map_err(|_| bad("not a configuration: it is not text in UTF-8".into()))?;
        let json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        let document: Result<Document, String> = match json {
            true => serde_json::from_str(&text).map_err(|error| error.to_string()),
            false => serde_saphyr::from_str(&text).map_err(|error| error.to_string()),
        };
        let document =
            document.map_err(|error| bad(format!("not a configuration: {}", one_line(&error))))?;
        let settings = |place: &str, value: &Value| {
            settings(&document.config_type, value, dialect)
                .map_err(|problem| bad(format!("{place}: {}", one_line(&problem))))
        };
        let table = |place: &str, table: &Option<Map<String, Value>>| {
            let entries = table.iter().flatten();
            entries
                .map(|(key, value)| {
                    Ok((key.clone(), settings(&format!("{place}: `{key}`"), value)?))
                })
                .collect::<Result<Vec<_>, Error>>()
        };
        Ok(Self {
            path: path.to_owned(),
            global: match &document.global_config {
                Some(value) => settings("global_config", value)?,
                None => None,
            },
            types: table("op_type_configs", &document.op_type_configs)?,
            names: table("op_name_configs", &document.op_name_configs)?,
        })
    }

    /// The file that it comes from.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// For a constant of a Core ML package: by its own name, else as its consumers ask, by their
    /// names or types.
    pub(crate) fn of_constant(
        &self,
        name: &str,
        consumers: &[Consumer],
    ) -> Result<Option<&Settings>, String> {
        if let Some(settings) = find(&self.names, name) {
            return Ok(settings);
        }
        let of = |consumer: &Consumer| self.of_operation(&consumer.name, &consumer.operation);
        let Some(first) = consumers.first() else {
            return Ok(None);
        };
        match consumers.iter().find(|other| of(other) != of(first)) {
            Some(other) => Err(format!(
                "{} `{}` and {} `{}`, which it feeds, are configured differently",
                first.operation, first.name, other.operation, other.name
            )),
            None => Ok(of(first)),
        }
    }

    /// For an operation: by its name, else by its type, else as for all.
    pub(crate) fn of_operation(&self, name: &str, kind: &str) -> Option<&Settings> {
        find(&self.names, name)
            .or_else(|| find(&self.types, kind))
            .unwrap_or(self.global.as_ref())
    }

    /// Names and types that are not among those of a model's operations and weights.
    pub(crate) fn unmatched(&self, names: &Known<'_>, types: &Known<'_>) -> Vec<Unmatched> {
        let keys = |table: &str, known: &Known<'_>, entries: &[(String, Option<Settings>)]| {
            let keys = entries.iter().map(|(key, _)| key.as_str());
            known.keys(&format!("{}: {table}:", self.path.display()), keys)
        };
        let mut found = keys("op_name_configs", names, &self.names);
        found.extend(keys("op_type_configs", types, &self.types));
        found
    }

    /// All schemes that it asks for.
    pub(crate) fn schemes(&self) -> impl Iterator<Item = Scheme> {
        let tables = self.types.iter().chain(&self.names);
        let settings = tables.filter_map(|(_, settings)| settings.as_ref());
        settings.chain(&self.global).map(|settings| settings.scheme)
    }

    /// The configuration with its names as patterns, for tensors without operations.
    ///
    /// # Errors
    /// Types of operations, which nothing can match, or a name that is no pattern.
    pub(crate) fn patterns(&self) -> Result<Patterns<'_>, Error> {
        if let Some((operation, _)) = self.types.first() {
            let problem = format!(
                "op_type_configs: `{operation}`: a safetensors file has no operations; say it by name in op_name_configs"
            );
            return Err(Error::file(&self.path, problem));
        }
        let names = self.names.iter().map(|(name, settings)| {
            let pattern = Regex::new(&format!("^(?:{name})$")).map_err(|error| {
                let problem = format!(
                    "op_name_configs: `{name}`: {}",
                    one_line(&error.to_string())
                );
                Error::file(&self.path, problem)
            })?;
            Ok((name.as_str(), pattern, settings.as_ref()))
        });
        Ok(Patterns {
            path: &self.path,
            names: names.collect::<Result<_, Error>>()?,
            global: self.global.as_ref(),
        })
    }
}

/// See [`Config::patterns`].
pub(crate) struct Patterns<'a> {
    path: &'a Path,
    names: Vec<(&'a str, Regex, Option<&'a Settings>)>,
    global: Option<&'a Settings>,
}

impl<'a> Patterns<'a> {
    /// The name itself, else the first pattern that matches all of the name, else what is for all.
    pub fn of(&self, name: &str) -> Option<&'a Settings> {
        let exact = self.names.iter().find(|(plain, ..)| *plain == name);
        let found = exact.or_else(|| self.names.iter().find(|(_, regex, _)| regex.is_match(name)));
        found.map_or(self.global, |(.., settings)| *settings)
    }

    /// Names that match none of these.
    pub fn unmatched(&self, known: &Known<'_>) -> Vec<Unmatched> {
        let matches = |(plain, regex): (&str, &Regex)| {
            known.contains(plain) || known.any(|name| regex.is_match(name))
        };
        let names = self.names.iter().map(|(plain, regex, _)| (*plain, regex));
        let missing: Vec<_> = names
            .filter(|name| !matches(*name))
            .map(|name| name.0)
            .collect();
        known.tell(
            &format!("{}: op_name_configs:", self.path.display()),
            &missing,
        )
    }
}

fn find<'a>(table: &'a [(String, Option<Settings>)], key: &str) -> Option<Option<&'a Settings>> {
    let (_, settings) = table.iter().find(|(name, _)| name == key)?;
    Some(settings.as_ref())
}

fn settings(
    config_type: &str,
    value: &Value,
    dialect: Dialect,
) -> Result<Option<Settings>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let entry = Entry::deserialize(value).map_err(|error| error.to_string())?;
    let config_type = entry.config_type.as_deref().unwrap_or(config_type);
    if config_type != TYPE {
        return Err(format!(
            "`{config_type}` is not a linear quantization; only {TYPE} can be applied"
        ));
    }
    let dtype = IntType::ALL
        .into_iter()
        .find(|dtype| dtype.name() == entry.dtype);
    let dtype =
        dtype.ok_or_else(|| format!("dtype `{}`; give int8, uint8, int4 or uint4", entry.dtype))?;
    let mode = match entry.mode.to_ascii_lowercase().as_str() {
        "linear_symmetric" => Mode::Symmetric,
        "linear" => Mode::Affine,
        other => return Err(format!("mode `{other}`; give linear_symmetric or linear")),
    };
    let granularity = match (entry.granularity.as_str(), entry.block_size) {
        ("per_tensor", _) => Granularity::PerTensor,
        ("per_channel", _) => Granularity::PerChannel { axis: None },
        ("per_block", BlockSize::One(block_size)) => Granularity::PerBlock {
            axis: None,
            block_axis: None,
            block_size,
        },
        ("per_block", BlockSize::PerAxis(sizes)) => Granularity::Blocks(sizes),
        (other, _) => {
            return Err(format!(
                "granularity `{other}`; give per_tensor, per_channel or per_block"
            ));
        }
    };
    Ok(Some(Settings {
        scheme: Scheme {
            dtype,
            mode,
            dialect,
        },
        granularity,
        min_elements: entry.weight_threshold,
    }))
}

/// A message of a parser may show the place in several lines.
fn one_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}
