//! Configuration files in the form of `coremltools.optimize.coreml.OptimizationConfig`.

use std::path::{Path, PathBuf};

use quant_core::{Dialect, IntType, Mode, Named, Scheme};
use regex::Regex;
use serde_json::{Map, Value};

use crate::io::read_bounded;
use crate::settings::Settings;
use crate::unmatched::{Known, Unmatched};
use crate::{Consumer, Error, Grouping, patterns, sniff};

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

impl Config {
    /// Reads a YAML or JSON file. `dialect` is what the file cannot say.
    ///
    /// # Errors
    /// A file that cannot be read, or is no configuration of a linear quantization.
    pub fn open(path: &Path, dialect: Dialect) -> Result<Self, Error> {
        let bytes = read_bounded(path, LARGEST, "give a configuration, a YAML or JSON file")?;
        let bad = |problem: String| match bytes.is_empty() {
            true => Error::file(path, problem + "; the file is empty"),
            false => Error::file(path, sniff::instead(&bytes, problem)),
        };
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| bad("not a configuration: it is not text in UTF-8".into()))?;
        let json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        let document: Result<Value, String> = match json {
            true => serde_json::from_str(text).map_err(|error| error.to_string()),
            false => yaml(text),
        };
        let document = document
            .map_err(|error| bad(format!("not a configuration: {}", first_line(&error))))?;
        let document = Document::new(&document).map_err(bad)?;
        let entry = |place: &str, value: &Value| {
            settings(document.config_type, value, dialect)
                .map_err(|problem| bad(format!("{place}: {problem}")))
        };
        let table = |place: &str, table: Option<&Map<String, Value>>| {
            let entries = table.into_iter().flatten();
            entries
                .map(|(key, value)| Ok((key.clone(), entry(&format!("{place}: `{key}`"), value)?)))
                .collect::<Result<Vec<_>, Error>>()
        };
        let config = Self {
            path: path.to_owned(),
            global: match document.global {
                Some(value) => entry("global_config", value)?,
                None => None,
            },
            types: table("op_type_configs", document.types)?,
            names: table("op_name_configs", document.names)?,
        };
        match find(&config.types, "const") {
            Some(_) => Err(bad(
                "op_type_configs: `const`: say it of the operations that weights feed, or in global_config".into(),
            )),
            None => Ok(config),
        }
    }

    /// The file that it comes from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For a constant of a Core ML package: by its own name, else as its consumers ask, by their
    /// names or types.
    #[doc(hidden)]
    pub fn of_constant(
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
    #[doc(hidden)]
    pub fn of_operation(&self, name: &str, kind: &str) -> Option<&Settings> {
        find(&self.names, name)
            .or_else(|| find(&self.types, kind))
            .unwrap_or(self.global.as_ref())
    }

    /// Names and types that are not among those of a model's operations and weights.
    #[doc(hidden)]
    pub fn unmatched(&self, names: &Known<'_>, types: &Known<'_>) -> Vec<Unmatched> {
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
    #[doc(hidden)]
    pub fn patterns(&self) -> Result<Patterns<'_>, Error> {
        if let Some((operation, _)) = self.types.first() {
            let problem = format!(
                "op_type_configs: `{operation}`: a safetensors file has no operations; say it by name in op_name_configs"
            );
            return Err(Error::file(&self.path, problem));
        }
        let whole = self.names.iter().map(|(name, _)| format!("^(?:{name})$"));
        let whole: Vec<_> = whole.collect();
        let texts = whole.iter().zip(&self.names);
        let texts: Vec<_> = texts
            .map(|(whole, (name, _))| (whole.as_str(), name.as_str()))
            .collect();
        let compiled = patterns::compile("op_name_configs:", &texts);
        let compiled = compiled.map_err(|problem| Error::file(&self.path, problem))?;
        let names = self.names.iter().zip(compiled);
        let names =
            names.map(|((name, settings), regex)| (name.as_str(), regex, settings.as_ref()));
        Ok(Patterns {
            path: &self.path,
            names: names.collect(),
            global: self.global.as_ref(),
        })
    }
}

/// See [`Config::patterns`].
pub struct Patterns<'a> {
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
    #[doc(hidden)]
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

/// YAML as coremltools' parser reads it: of a key that appears several times the last counts, as in
/// JSON.
fn yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    let read = serde_saphyr::from_str_with_options(text, options);
    read.map_err(|error| match error.to_string() {
        // The parser's own words are for programmers.
        message if message.contains("multiple") => "several documents in one file; give one".into(),
        message if message.contains("budget") => {
            "larger than any configuration, or its aliases make it so; write out what they stand for"
                .into()
        }
        message if message.contains("recursive") => "an alias stands within itself".into(),
        message => message,
    })
}

/// The parts of a document.
struct Document<'a> {
    config_type: &'a str,
    global: Option<&'a Value>,
    types: Option<&'a Map<String, Value>>,
    names: Option<&'a Map<String, Value>>,
}

impl<'a> Document<'a> {
    const KEYS: [&'static str; 4] = [
        "config_type",
        "global_config",
        "op_type_configs",
        "op_name_configs",
    ];

    fn new(document: &'a Value) -> Result<Self, String> {
        let map = document.as_object();
        let map = map.ok_or("not a configuration; give a table with config_type in it")?;
        if let Some(key) = map.keys().find(|key| !Self::KEYS.contains(&key.as_str())) {
            // One of another type has other keys.
            if let Some(Value::String(config_type)) = map.get("config_type") {
                check_type(config_type)?;
            }
            return Err(format!(
                "unknown key `{key}`; there are {}",
                Self::KEYS.join(", ")
            ));
        }
        let given = |key: &str| map.get(key).filter(|value| !value.is_null());
        let table = |key: &str| match given(key) {
            None => Ok(None),
            Some(Value::Object(table)) => Ok(Some(table)),
            Some(_) => Err(format!("{key} is not a table of configurations")),
        };
        let config_type = given("config_type").and_then(Value::as_str);
        Ok(Self {
            config_type: config_type
                .ok_or_else(|| format!("no config_type; write `config_type: {TYPE}`"))?,
            global: given("global_config"),
            types: table("op_type_configs")?,
            names: table("op_name_configs")?,
        })
    }
}

const FIELDS: [&str; 5] = [
    "mode",
    "dtype",
    "granularity",
    "block_size",
    "weight_threshold",
];

/// One entry. Its type is looked at first: what else stands there depends on it.
// Long: one field after the other.
fn settings(
    config_type: &str,
    value: &Value,
    dialect: Dialect,
) -> Result<Option<Settings>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let entry = value.as_object();
    let entry = entry.ok_or_else(|| format!("`{value}` is not a table of settings"))?;
    let config_type = match entry.get("config_type") {
        None => config_type,
        Some(Value::String(own)) => own,
        Some(other) => return Err(format!("config_type `{other}`; give {TYPE}")),
    };
    check_type(config_type)?;
    let mut keys = entry.keys().filter(|key| *key != "config_type");
    if let Some(key) = keys.find(|key| !FIELDS.contains(&key.as_str())) {
        return Err(format!(
            "unknown field `{key}`; {TYPE} has {}",
            FIELDS.join(", ")
        ));
    }
    let dtype = text(entry, "dtype", "int8")?;
    // What coremltools has.
    let found = IntType::from_name(&dtype).filter(|dtype| [8, 4].contains(&dtype.bits()));
    let dtype = found.ok_or_else(|| format!("dtype `{dtype}`; give int8, uint8, int4 or uint4"))?;
    let mode = text(entry, "mode", "linear_symmetric")?;
    let mode = match mode.to_ascii_lowercase().as_str() {
        "linear_symmetric" => Mode::Symmetric,
        "linear" => Mode::Affine,
        _ => return Err(format!("mode `{mode}`; give linear_symmetric or linear")),
    };
    let blocks = block_size(entry.get("block_size"))?;
    let granularity = match (text(entry, "granularity", "per_channel")?.as_str(), blocks) {
        ("per_tensor", _) => Grouping::PerTensor,
        ("per_channel", _) => Grouping::PerChannel { axis: None },
        ("per_block", BlockSize::One(block_size)) => Grouping::PerBlock {
            axis: None,
            block_axis: None,
            block_size,
        },
        ("per_block", BlockSize::PerAxis(sizes)) => Grouping::Blocks(sizes),
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
        block_type: None,
        min_elements: weight_threshold(entry.get("weight_threshold"))?,
        all_axes: true,
    }))
}

fn text(entry: &Map<String, Value>, key: &str, default: &str) -> Result<String, String> {
    match entry.get(key) {
        None => Ok(default.to_owned()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(format!("{key} `{other}` is not text")),
    }
}

fn check_type(config_type: &str) -> Result<(), String> {
    let what = match config_type {
        TYPE => return Ok(()),
        "OpPalettizerConfig" => " (palettization)",
        "OpMagnitudePrunerConfig" | "OpThresholdPrunerConfig" => " (pruning)",
        _ => "",
    };
    Err(format!(
        "`{config_type}`{what} is not a linear quantization; only {TYPE} can be applied"
    ))
}

enum BlockSize {
    One(usize),
    PerAxis(Vec<usize>),
}

/// Whole numbers; 0 means all of an axis.
fn block_size(value: Option<&Value>) -> Result<BlockSize, String> {
    let one = |value: &Value| value.as_u64().and_then(|size| usize::try_from(size).ok());
    let found = match value {
        None => Some(BlockSize::One(32)),
        Some(Value::Array(sizes)) => {
            let sizes = sizes.iter().map(one).collect::<Option<Vec<_>>>();
            sizes.map(BlockSize::PerAxis)
        }
        Some(value) => one(value).map(BlockSize::One),
    };
    found.ok_or_else(|| {
        format!(
            "block_size `{}`; give a whole number, or one for each axis; 0 means all of the axis",
            value.unwrap_or(&Value::Null)
        )
    })
}

/// What Python's `int` makes of it.
fn weight_threshold(value: Option<&Value>) -> Result<usize, String> {
    let found = match value {
        None => Some(2048),
        Some(Value::Bool(value)) => Some(usize::from(*value)),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(Value::Number(number)) => match number.as_u64() {
            Some(whole) => usize::try_from(whole).ok(),
            // Towards 0, and no larger than any tensor.
            None => number
                .as_f64()
                .filter(|number| *number > -1.0)
                .map(|number| number as usize),
        },
        Some(_) => None,
    };
    found.ok_or_else(|| {
        format!(
            "weight_threshold `{}`; give a number of elements",
            value.unwrap_or(&Value::Null)
        )
    })
}

/// A message of a parser may show the place in several lines, and speak of its own settings.
fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}
