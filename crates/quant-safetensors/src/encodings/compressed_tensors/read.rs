//! The tensors of a model whose configuration is that of compressed-tensors: what is read, and why the
//! others are not.

use quant_core::{Dialect, IntType, Mode};
use quant_model::error::shortened;
use quant_model::{Error, Job, SchemeRecord};
use serde_json::Value;

use super::config::{KEY, METHOD};
use super::scheme::{LayerLayout, Schemes};
use super::{WEIGHT, WORD};
use crate::encodings::{Found, Unread};
use crate::model_files::ModelFiles;
use crate::{Entry, SafetensorsFile};

/// What belongs to a weight that is quantized, the codes first. A tensor of floats called `weight` may
/// be whatever it likes, one with these names may not.
const PARTS: [&str; 6] = [
    "weight_packed",
    "weight_scale",
    "weight_shape",
    "weight_zero_point",
    "weight_g_idx",
    "weight_global_scale",
];

const DAMAGED: &str = "the file is damaged, fetch it again";
const FOREIGN: &str = "quant does not undo this, restore the model with compressed-tensors";

/// The layers that a configuration and names say are quantized.
///
/// # Errors
/// A configuration, or a shape, that cannot be read.
pub(super) fn find(files: &ModelFiles, job: &Job<'_>) -> Result<Found, Error> {
    let mut found = Found::default();
    let all = || files.entries().filter_map(Layer::finder(files));
    let Some(first) = all().next() else {
        return Ok(found);
    };
    // Bytes alone are no reason to refuse a configuration that nobody asked for.
    let config = match first.is_marked() || all().any(|layer| layer.is_marked()) {
        true => files.config.get()?,
        false => files.config.get().ok().flatten(),
    };
    let Some(config) = config.and_then(|it| it.get(KEY)) else {
        return Ok(found);
    };
    if config.get("quant_method").and_then(Value::as_str) != Some(METHOD) {
        return Ok(found);
    }
    let schemes = Schemes::from_config(config);
    for layer in all().filter(Layer::is_leading) {
        job.check()?;
        if layer.is_left_alone(&schemes) {
            continue;
        }
        match layer.record(&schemes)? {
            Ok(record) => {
                let name = format!("{}{WEIGHT}", layer.module);
                found.records.insert(name, record);
            }
            Err(problem) => found.unread.push(Unread {
                file: layer.file.path().to_owned(),
                name: layer.name.to_owned(),
                problem,
            }),
        }
    }
    Ok(found)
}

/// A tensor that belongs to a layer, and the layer.
struct Layer<'m> {
    files: &'m ModelFiles,
    file: &'m SafetensorsFile,
    name: &'m str,
    entry: &'m Entry,
    module: &'m str,
    part: &'m str,
}

/// Codes, as far as the tensors say it.
struct Codes {
    dtype: IntType,
    shape: [usize; 2],
    is_packed: bool,
}

impl<'m> Layer<'m> {
    /// That of a tensor, if it is part of one.
    fn finder(
        files: &'m ModelFiles,
    ) -> impl Fn((&'m SafetensorsFile, &'m str, &'m Entry)) -> Option<Self> {
        move |(file, name, entry)| {
            let (module, part) = name.rsplit_once('.')?;
            let is_code = part == &WEIGHT[1..] && !entry.is_float();
            (is_code || PARTS.contains(&part)).then_some(Self {
                files,
                file,
                name,
                entry,
                module,
                part,
            })
        }
    }

    fn is_marked(&self) -> bool {
        self.part != &WEIGHT[1..]
    }

    fn find(&self, part: &str) -> Option<(&'m SafetensorsFile, &'m Entry)> {
        self.files.find(&format!("{}.{part}", self.module))
    }

    /// Whether it is the tensor that stands for its layer: the codes, or what is left without them.
    fn is_leading(&self) -> bool {
        if !self.is_marked() {
            return self.find(PARTS[0]).is_none();
        }
        let is_code = |(_, entry): (_, &Entry)| !entry.is_float();
        let others = PARTS.iter().take_while(|part| **part != self.part);
        self.part == PARTS[0]
            || !self.find(&WEIGHT[1..]).is_some_and(is_code)
                && others.into_iter().all(|part| self.find(part).is_none())
    }

    /// Whether nothing says that a tensor of integers, alone as it is, is a weight's codes.
    fn is_left_alone(&self, schemes: &Result<Schemes, String>) -> bool {
        let is_alone = !self.is_marked() && PARTS.iter().all(|part| self.find(part).is_none());
        let is_targeted = || match schemes {
            Ok(schemes) => schemes.targets(self.module),
            Err(_) => true,
        };
        is_alone && (self.entry.shape.len() != 2 || !is_targeted())
    }

    /// How it is quantized, or why it is not read.
    fn record(
        &self,
        schemes: &Result<Schemes, String>,
    ) -> Result<Result<SchemeRecord, String>, Error> {
        let shape = match self.find("weight_shape") {
            // Two numbers: what is longer is not read.
            Some((file, entry)) if matches!(entry.len(), 8 | 16) => Some(file.read(entry)?),
            Some(_) => Some(Vec::new()),
            None => None,
        };
        Ok(self.read(shape.as_deref(), schemes))
    }

    fn read(
        &self,
        shape: Option<&[u8]>,
        schemes: &Result<Schemes, String>,
    ) -> Result<SchemeRecord, String> {
        let missing = |part: &str| {
            let name = shortened(&format!("{}.{part}", self.module));
            Err(format!("`{name}` is missing; {DAMAGED}"))
        };
        self.check_others()?;
        let codes = match self.part {
            "weight_packed" => match shape {
                Some(shape) => self.words(shape)?,
                None => return missing("weight_shape"),
            },
            "weight" => self.bytes()?,
            _ => return missing("weight_packed"),
        };
        let Some((_, scales)) = self.find("weight_scale") else {
            return missing("weight_scale");
        };
        let (groups, is_whole) = scale_groups(scales, &codes)?;
        let has_zero_points = self.has_zero_points(&codes, groups)?;
        if is_whole && has_zero_points {
            return Err(format!(
                "has a `weight_zero_point` beside one scale for all; {FOREIGN}"
            ));
        }
        schemes.as_ref().map_err(String::clone)?.check(
            self.module,
            &LayerLayout {
                bits: codes.dtype.bits(),
                is_packed: codes.is_packed,
                row: codes.shape[1],
                groups,
                is_whole,
                has_zero_points,
            },
        )?;
        let (mode, source) = (
            match has_zero_points {
                true => Mode::Affine,
                false => Mode::Symmetric,
            },
            scales.float_type().ok_or("its scales are no floats")?,
        );
        Ok(SchemeRecord {
            dtype: codes.dtype.name().into(),
            mode: mode.name().into(),
            dialect: Dialect::CompressedTensors.name().into(),
            shape: codes.shape.to_vec(),
            blocks: vec![
                if is_whole { codes.shape[0] } else { 1 },
                codes.shape[1] / groups,
            ],
            source: source.name().into(),
            search: None,
        })
    }

    /// Refuses what does not belong to a layer that is read.
    fn check_others(&self) -> Result<(), String> {
        if let Some((_, weight)) = self.find(&WEIGHT[1..]).filter(|_| self.is_marked()) {
            return Err(format!(
                "stands beside `{}{WEIGHT}`, which is {}: a layer has floats or codes; {FOREIGN}",
                shortened(self.module),
                shortened(&weight.dtype)
            ));
        }
        for (part, what) in [
            ("weight_g_idx", "its columns are in another order"),
            ("weight_global_scale", "its scales have a scale"),
            ("compressed", "it is sparse, and its zeros are left out"),
        ] {
            if self.find(part).is_some() {
                return Err(format!("has a `{part}`: {what}; {FOREIGN}"));
            }
        }
        Ok(())
    }

    /// Codes in words, by the shape that the weight had.
    fn words(&self, shape: &[u8]) -> Result<Codes, String> {
        let bad =
            || format!("its words, scales and `weight_shape` do not fit one another; {DAMAGED}");
        let part = self.find("weight_shape").map(|(_, it)| it);
        let part = part.filter(|it| it.shape == [2]);
        let numbers = match part.map(|it| it.dtype.as_str()) {
            Some("I64") => numbers(shape.as_chunks().0, i64::from_le_bytes),
            // Of such numbers no package writes it, and compressed-tensors reads it.
            Some("I32") => numbers(shape.as_chunks().0, |it| i32::from_le_bytes(it).into()),
            _ => None,
        };
        let (first, row) = numbers.ok_or_else(bad)?;
        let (&[rows, count], "I32") = (self.entry.shape.as_slice(), self.entry.dtype.as_str())
        else {
            return Err(bad());
        };
        let bits = count.checked_mul(WORD).ok_or_else(bad)?;
        if first != rows || row == 0 || bits / row > 8 || bits < row {
            return Err(bad());
        }
        if !bits.is_multiple_of(row) {
            let fits = |width: usize| row.checked_mul(width).map(|it| it.div_ceil(WORD));
            return Err(match (1..=8).find(|width| fits(*width) == Some(count)) {
                Some(_) => format!("rows of {row} codes do not fit into whole words; {FOREIGN}"),
                None => bad(),
            });
        }
        let dtype = match bits / row {
            4 => IntType::Uint4,
            8 => IntType::Uint8,
            other => {
                return Err(format!(
                    "has codes of {other} bits, and quant reads 4 and 8; {FOREIGN}"
                ));
            }
        };
        Ok(Codes {
            dtype,
            shape: [rows, row],
            is_packed: true,
        })
    }

    /// Codes of a byte each.
    fn bytes(&self) -> Result<Codes, String> {
        match (self.entry.dtype.as_str(), self.entry.shape.as_slice()) {
            ("I8", &[rows, row]) if row > 0 => Ok(Codes {
                dtype: IntType::Int8,
                shape: [rows, row],
                is_packed: false,
            }),
            (dtype, shape) => Err(format!(
                "is {} {}, where quant reads words and matrices of I8; {FOREIGN}",
                shortened(dtype),
                shortened(&format!("{shape:?}"))
            )),
        }
    }

    /// Whether codes have zero points, as they are read.
    fn has_zero_points(&self, codes: &Codes, groups: usize) -> Result<bool, String> {
        let Some((_, entry)) = self.find("weight_zero_point") else {
            return Ok(false);
        };
        let per_word = WORD / codes.dtype.bits() as usize;
        let wanted = [codes.shape[0].div_ceil(per_word), groups];
        if codes.is_packed && entry.dtype == "I32" && entry.shape == wanted {
            return Ok(true);
        }
        let wanted = match codes.is_packed {
            true => format!("I32 {wanted:?} beside such words"),
            false => "none beside bytes".into(),
        };
        Err(format!(
            "its `weight_zero_point` is {} {}, and quant reads {wanted}; {FOREIGN}",
            shortened(&entry.dtype),
            shortened(&format!("{:?}", entry.shape))
        ))
    }
}

/// Two of them, as lengths.
fn numbers<const N: usize>(
    bytes: &[[u8; N]],
    number: impl Fn([u8; N]) -> i64,
) -> Option<(usize, usize)> {
    let &[first, second] = bytes else {
        return None;
    };
    let length = |it| usize::try_from(number(it)).ok();
    Some((length(first)?, length(second)?))
}

/// How many scales a row has, and whether all rows have the same.
fn scale_groups(scales: &Entry, codes: &Codes) -> Result<(usize, bool), String> {
    let [rows, row] = codes.shape;
    match scales.shape.as_slice() {
        [1] if scales.float_type().is_some() && rows > 1 => Ok((1, true)),
        &[first, groups]
            if scales.float_type().is_some()
                && first == rows
                && groups != 0
                && row.is_multiple_of(groups) =>
        {
            Ok((groups, false))
        }
        shape => Err(format!(
            "its `weight_scale` is {} {}, which does not fit codes of {:?}: scales are F32, F16 or BF16, one for each row or more, of as many codes each, or one of shape [1] for all rows; {DAMAGED}",
            shortened(&scales.dtype),
            shortened(&format!("{shape:?}")),
            codes.shape
        )),
    }
}
