//! What a `quantization_config` says of weights, and whether the tensors are so. What it may say is
//! what compressed-tensors 0.20 takes; what it must not say is what its loaders cannot load.

use std::fmt::Display;

use quant_model::error::shortened;
use serde_json::{Map, Value};

use super::targets::{Names, Targets};

/// What to do about a configuration that is wrong.
const REMEDY: &str = "correct config.json, or fetch the model again";
/// The groups of the presets that compressed-tensors names.
const GROUP: i64 = 128;

/// Groups that are looked at for each layer.
const MOST_GROUPS: usize = 256;
const STATUSES: [&str; 5] = [
    "initialized",
    "calibration",
    "frozen",
    "compressed",
    "decompressed",
];
const STRATEGIES: [&str; 7] = [
    "tensor",
    "channel",
    "group",
    "block",
    "token",
    "tensor_group",
    "attn_head",
];
const FORMATS: [&str; 12] = [
    PACKED,
    BYTES[0],
    BYTES[1],
    "dense",
    "sparse-bitmask",
    "sparse-24-bitmask",
    "float-quantized",
    "marlin-24",
    "nvfp4-pack-quantized",
    "mxfp4-pack-quantized",
    "mxfp6-pack-quantized",
    "mxfp8-quantized",
];
const PACKED: &str = "pack-quantized";
const BYTES: [&str; 2] = ["int-quantized", "naive-quantized"];
/// The format of a model whose groups have formats of their own.
const MIXED: &str = "mixed-precision";

const OF_GROUP: [&str; 5] = [
    "targets",
    "weights",
    "input_activations",
    "output_activations",
    "format",
];
const OF_WEIGHTS: [&str; 12] = [
    "num_bits",
    "type",
    "symmetric",
    "group_size",
    "strategy",
    "block_structure",
    "dynamic",
    "actorder",
    "scale_dtype",
    "zp_dtype",
    "observer",
    "observer_kwargs",
];

/// How a layer lies in the files.
pub(super) struct LayerLayout {
    pub bits: u32,
    pub is_packed: bool,
    /// Codes of a row.
    pub row: usize,
    /// Scales of a row.
    pub groups: usize,
    /// Whether there is one scale for all rows.
    pub is_whole: bool,
    pub has_zero_points: bool,
}

impl LayerLayout {
    /// How many scales there are, in words.
    fn scales(&self) -> impl Display {
        std::fmt::from_fn(|words| match self.groups {
            1 if self.is_whole => words.write_str("all rows have one scale"),
            1 => words.write_str("a row has one scale"),
            groups => write!(words, "a row of {} has {groups} scales", self.row),
        })
    }
}

/// The groups of a configuration.
pub(super) struct Schemes {
    groups: Vec<Group>,
    targets: Targets,
    ignore: Names,
    /// The format of groups that have none of their own.
    format: Option<String>,
}

struct Group {
    name: String,
    format: Option<String>,
    weights: Option<Weights>,
}

struct Weights {
    bits: i64,
    is_integer: bool,
    is_symmetric: bool,
    is_dynamic: bool,
    strategy: String,
    group_size: Option<i64>,
}

impl Schemes {
    /// Those of a `quantization_config`.
    ///
    /// # Errors
    /// What compressed-tensors does not take, by the group and the field.
    pub fn from_config(config: &Value) -> Result<Self, String> {
        let bad = |problem: String| Err(format!("config.json: {problem}; {REMEDY}"));
        let status = config.get("quantization_status").filter(|it| !it.is_null());
        if let Some(status) = status
            && !status.as_str().is_some_and(|it| STATUSES.contains(&it))
        {
            return bad(unknown("quantization_status", status, &STATUSES));
        }
        if let Err(problem) = check_transforms(config) {
            return bad(problem);
        }
        let Some(groups) = config.get("config_groups").and_then(Value::as_object) else {
            return bad("`config_groups` is missing, or no object".into());
        };
        if groups.len() > MOST_GROUPS {
            let count = groups.len();
            return bad(format!(
                "`config_groups` has {count} groups, more than {MOST_GROUPS}"
            ));
        }
        let mut targets = Targets::default();
        let groups = groups.iter().enumerate().map(|(index, (name, group))| {
            // A preset has its name, and its targets only.
            let list = group.get("targets").filter(|_| !group.is_array());
            targets.add(index, Names::from_list(list.or(Some(group)), index + 1));
            Group::from_config(name, group).map_err(|problem| {
                format!(
                    "config.json: group `{}`: {problem}; {REMEDY}",
                    shortened(name)
                )
            })
        });
        Ok(Self {
            groups: groups.collect::<Result<_, _>>()?,
            targets,
            ignore: Names::from_list(config.get("ignore"), 0),
            format: text(config.get("format")),
        })
    }

    /// Whether a layer is quantized, by its name.
    pub fn targets(&self, module: &str) -> bool {
        !self.ignore.has(module) && !self.candidates(module).is_empty()
    }

    /// The groups whose targets a layer may be among.
    fn candidates(&self, module: &str) -> Vec<&Group> {
        let groups = self.targets.groups(module);
        groups.into_iter().map(|it| &self.groups[it]).collect()
    }

    /// Compares what is said of a layer with how it lies in the files.
    ///
    /// # Errors
    /// What contradicts it, by the group and the field.
    pub fn check(&self, module: &str, stored: &LayerLayout) -> Result<(), String> {
        let bad = |problem: &str| Err(format!("config.json: {problem}; {REMEDY}"));
        if self.ignore.has(module) {
            return bad("`ignore` names it, so that it should be of floats");
        }
        let candidates = self.candidates(module);
        let Some(first) = candidates.first() else {
            return bad("no group of `config_groups` targets it");
        };
        let format = self.format.as_deref();
        // Words are only made of the first problem.
        let check = |group: &Group, tell| group.check(stored, format, tell);
        if candidates.iter().any(|group| check(group, false).is_ok()) {
            return Ok(());
        }
        check(first, true).or_else(|problem| {
            let name = shortened(&first.name);
            bad(&format!("group `{name}`: {problem}"))
        })
    }
}

/// Refuses weights that are turned, and what may say so.
fn check_transforms(config: &Value) -> Result<(), String> {
    let Some(transforms) = config.get("transform_config").filter(|it| !it.is_null()) else {
        return Ok(());
    };
    let is = |what: &str, value: &Value| {
        let value = shortened(&value.to_string());
        Err(format!("`{what}` is {value}, and no object"))
    };
    let Some(transforms) = transforms.as_object() else {
        return is("transform_config", transforms);
    };
    only(transforms, &["config_groups"])
        .map_err(|problem| format!("`transform_config` {problem}"))?;
    match transforms.get("config_groups") {
        None => Ok(()),
        Some(Value::Object(groups)) if groups.is_empty() => Ok(()),
        Some(Value::Object(_)) => {
            Err("its `transform_config` turns weights, which quant does not undo".into())
        }
        Some(other) => is("transform_config.config_groups", other),
    }
}

impl Group {
    fn from_config(name: &str, group: &Value) -> Result<Self, String> {
        // A preset's name, and its targets.
        if group.is_array() {
            return Ok(Self {
                name: name.into(),
                format: None,
                weights: Some(Weights::of_preset(name)?),
            });
        }
        let group = group.as_object().ok_or("is no object")?;
        only(group, &OF_GROUP)?;
        let format = group.get("format").filter(|it| !it.is_null());
        if let Some(format) = format
            && !format.as_str().is_some_and(|it| FORMATS.contains(&it))
        {
            return Err(unknown("format", format, &FORMATS));
        }
        let weights = group.get("weights").filter(|it| !it.is_null());
        let weights = weights.map(|it| {
            let weights = it.as_object().ok_or("`weights` is no object")?;
            Weights::from_config(weights)
        });
        Ok(Self {
            name: name.into(),
            format: text(format),
            weights: weights.transpose()?,
        })
    }

    /// The problem is empty unless it is to be told.
    fn check(&self, stored: &LayerLayout, format: Option<&str>, tell: bool) -> Result<(), String> {
        let format = self.format.as_deref().or(format).filter(|it| *it != MIXED);
        let fits = |it| match stored.is_packed {
            true => it == PACKED,
            false => BYTES.contains(&it),
        };
        if let Some(other) = format.filter(|it| !fits(it)) {
            if !tell {
                return Err(String::new());
            }
            return Err(format!(
                "`format` is {}, and it lies in the files as {}",
                shortened(other),
                if stored.is_packed { PACKED } else { BYTES[0] }
            ));
        }
        match &self.weights {
            Some(weights) => weights.check(stored, tell),
            None if !tell => Err(String::new()),
            None => Err("it has no `weights`, and the layer's are quantized".into()),
        }
    }
}

impl Weights {
    /// As `preset_name_to_scheme` has them, of weights of integers.
    fn of_preset(name: &str) -> Result<Self, String> {
        let upper = name.to_uppercase();
        let (bits, is_symmetric, strategy) = match upper.as_str() {
            "W8A8" | "INT8" => (8, true, "channel"),
            "W4A16_ASYM" => (4, false, "group"),
            other => {
                let bits = ["A4", "A8", "A16", "AFP8"]
                    .iter()
                    .find_map(|end| other.strip_prefix('W')?.strip_suffix(end)?.parse().ok());
                let bits = bits.filter(|bits| (2..=8).contains(bits));
                (
                    bits.ok_or("a preset that quant does not know")?,
                    true,
                    "group",
                )
            }
        };
        Ok(Self {
            bits,
            is_integer: true,
            is_symmetric,
            is_dynamic: false,
            strategy: strategy.into(),
            group_size: (strategy == "group").then_some(GROUP),
        })
    }

    fn from_config(weights: &Map<String, Value>) -> Result<Self, String> {
        only(weights, &OF_WEIGHTS)?;
        let get = |key: &str| weights.get(key).filter(|it| !it.is_null());
        let number = |key: &str| get(key).map(|it| it.as_i64().ok_or_else(|| no(key, it)));
        let flag = |key: &str| get(key).map(|it| it.as_bool().ok_or_else(|| no(key, it)));
        let is_integer = match get("type").map(|it| (it.as_str().map(str::to_lowercase), it)) {
            None => true,
            Some((Some(name), _)) if name == "int" => true,
            Some((Some(name), _)) if name == "float" => false,
            Some((_, other)) => return Err(no("type", other)),
        };
        let is_dynamic = match get("dynamic") {
            Some(Value::String(local)) if local == "local" => true,
            _ => flag("dynamic").transpose()?.unwrap_or(false),
        };
        let group_size = number("group_size").transpose()?;
        let strategy = match (get("strategy"), group_size) {
            (None, None) => "tensor".into(),
            (None, Some(-1)) => "channel".into(),
            (None, Some(1..)) => "group".into(),
            (None, Some(size)) => return Err(no("group_size", &size.into())),
            (Some(strategy), _) => {
                let name = strategy.as_str().map(str::to_lowercase);
                let name = name.filter(|it| STRATEGIES.contains(&it.as_str()));
                name.ok_or_else(|| unknown("strategy", strategy, &STRATEGIES))?
            }
        };
        let is_group = matches!(strategy.as_str(), "group" | "tensor_group");
        match group_size {
            Some(1..) if is_group => {}
            None | Some(-1..=0) if !is_group => {}
            size => {
                return Err(format!(
                    "`weights.group_size` is {}, which does not go with the strategy {strategy}",
                    size.map_or("null".into(), |it| it.to_string())
                ));
            }
        }
        if let Some(order) = get("actorder")
            && !(order == false || order == "weight" || order == "static")
        {
            return Err(format!(
                "`weights.actorder` is {}: columns in another order, which quant does not undo",
                shortened(&order.to_string())
            ));
        }
        if get("block_structure").is_some() != (strategy == "block") {
            return Err(format!(
                "`weights.block_structure` does not go with the strategy {strategy}"
            ));
        }
        Ok(Self {
            bits: number("num_bits").transpose()?.unwrap_or(8),
            is_integer,
            is_symmetric: flag("symmetric").transpose()?.unwrap_or(true),
            is_dynamic,
            strategy,
            group_size,
        })
    }

    fn check(&self, stored: &LayerLayout, tell: bool) -> Result<(), String> {
        let differ = |field: &str, said: &dyn Display, is: &dyn Display| match tell {
            true => Err(format!("`weights.{field}` is {said}, and {is}")),
            false => Err(String::new()),
        };
        if !self.is_integer {
            return differ("type", &"float", &"the codes are integers");
        }
        if self.is_dynamic {
            return differ("dynamic", &"true", &"the scales are in the file");
        }
        // A byte holds codes of fewer bits, too.
        let fits = match stored.is_packed {
            true => self.bits == i64::from(stored.bits),
            false => (1..=8).contains(&self.bits),
        };
        if !fits {
            let is = format_args!("the codes are of {} bits", stored.bits);
            return differ("num_bits", &self.bits, &is);
        }
        if self.is_symmetric == stored.has_zero_points {
            let is = match stored.has_zero_points {
                true => "the layer has a `weight_zero_point`",
                false => "the layer has no `weight_zero_point`",
            };
            return differ("symmetric", &self.is_symmetric, &is);
        }
        match (self.strategy.as_str(), self.group_size) {
            ("tensor", _) if stored.is_whole => Ok(()),
            ("channel", _) if stored.groups == 1 && !stored.is_whole => Ok(()),
            ("group", Some(size)) if !stored.is_whole => {
                let length = stored.row / stored.groups;
                match usize::try_from(size) == Ok(length) {
                    true => Ok(()),
                    false => differ("group_size", &size, &stored.scales()),
                }
            }
            (strategy, _) => differ("strategy", &strategy, &stored.scales()),
        }
    }
}

fn text(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).map(str::to_owned)
}

fn no(field: &str, value: &Value) -> String {
    format!("`weights.{field}` is {}", shortened(&value.to_string()))
}

fn unknown(field: &str, value: &Value, known: &[&str]) -> String {
    format!(
        "`{field}` is {}, which is none of {}",
        shortened(&value.to_string()),
        known.join(", ")
    )
}

/// Refuses fields that compressed-tensors does not know: they may say anything.
fn only(fields: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("has an unknown field `{}`", shortened(key))),
        None => Ok(()),
    }
}
