//! A plan: what is to happen to each tensor of a model, and why, as data that a program or a person
//! can change.

use std::path::{Path, PathBuf};

use quant_core::{Dialect, GgmlType, IntType, Mode, Search};
use serde::{Deserialize, Serialize};

use crate::error::{command, one_line, shortened};
use crate::io::read_bounded;
use crate::{Encoding, Error, HintCommand, Note, sniff};

/// The format of plans.
pub const VERSION: u32 = 1;
/// More than a plan of a million tensors takes.
const LARGEST: u64 = 1 << 30;

/// What is to happen to each tensor of a model, and why.
///
/// `quant_models::plan` makes one; as JSON it can be read, changed and given to
/// `quant_models::quantize` as [`QuantizeOptions::plan`](crate::QuantizeOptions::plan). Tensors
/// that it does not name stay as they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Plan {
    /// 1.
    pub version: u32,
    /// How quantized tensors lie in the files; `native` where it is not given.
    #[serde(default, with = "by_name", skip_serializing_if = "is_native")]
    pub format: Encoding,
    /// The file by which errors were weighed as it was made. It is not read when the plan is carried out:
    /// without [`QuantizeOptions::importance`](crate::QuantizeOptions::importance) errors count alike then, and
    /// a warning says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance: Option<String>,
    /// What was asked of all tensors alike, where that was groups: `config.json` says it of the whole model in
    /// the formats of MLX and compressed-tensors. It quantizes nothing: tensors say themselves what they become.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
    /// Per tensor, in the order of the model.
    pub tensors: Vec<PlannedTensor>,
    /// The file that it comes from, for messages.
    #[serde(skip)]
    pub path: PathBuf,
}

/// Codes and groups that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Asked {
    /// Type of the codes.
    pub dtype: IntType,
    /// Elements per scale along the last axis.
    pub group_size: usize,
}

/// What is to happen to one tensor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PlannedTensor {
    /// Its name.
    pub name: String,
    /// Its type in the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// Its shape in the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Vec<usize>>,
    /// How it is quantized; `None` leaves it as it is.
    pub quantize: Option<TensorSpec>,
    /// Why it is left as it is. Not looked at when the plan is carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How a tensor is quantized. What is not given is as the format has it by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TensorSpec {
    /// GGUF: the type of the blocks, in place of all else.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub block_type: Option<GgmlType>,
    /// Type of the codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<IntType>,
    /// In place of the type: bits per code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<u32>,
    /// Symmetric or affine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Whose arithmetic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<Dialect>,
    /// A block size per axis; 0 or missing means the whole axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Vec<usize>>,
    /// In place of the blocks: elements per scale along the last axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_size: Option<usize>,
    /// How scales are chosen; `none` where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<Search>,
}

/// What a user should know of a plan, a line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Remarks {
    /// What may not be meant so.
    pub warnings: Vec<Note>,
    /// What was chosen where the options leave a choice.
    pub notes: Vec<Note>,
}

fn is_native(encoding: &Encoding) -> bool {
    *encoding == Encoding::Native
}

mod by_name {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::Encoding;

    pub fn serialize<S: Serializer>(value: &Encoding, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(value.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Encoding, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl Plan {
    /// Reads a plan from a file.
    ///
    /// # Errors
    /// A file that cannot be read, or is no plan.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let expected = format!("give a plan, as {} writes it", command(HintCommand::Plan));
        let text = read_bounded(path, LARGEST, &expected)?;
        let mut plan: Self = serde_json::from_slice(&text).map_err(|error| {
            let error = error.to_string();
            // Of an unknown field all names that there are follow: these are ours, and none too long.
            let (what, names) = error.split_at(error.find(", expected ").unwrap_or(error.len()));
            let problem = format!("not a plan: {}{names}", shortened(what));
            Error::file(path, sniff::instead(&text, one_line(problem)))
        })?;
        if plan.version != VERSION {
            let problem = format!(
                "a plan of version {}; this quant knows version {VERSION}",
                plan.version
            );
            return Err(Error::file(path, problem));
        }
        path.clone_into(&mut plan.path);
        Ok(plan)
    }

    /// The file that it comes from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What messages name.
    pub(crate) fn shown(&self) -> &Path {
        match self.path.as_os_str().is_empty() {
            true => Path::new("the plan"),
            false => &self.path,
        }
    }

    /// An error about a tensor of the plan.
    #[doc(hidden)]
    pub fn bad(&self, tensor: &str, problem: impl Into<String>) -> Error {
        Error::tensor(self.shown(), tensor, one_line(problem.into()))
    }
}
