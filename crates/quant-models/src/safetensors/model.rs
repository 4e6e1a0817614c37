//! A model: one safetensors file, or an index and its shards.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use quant_core::FloatType;
use quant_simd::{Backend, TensorQuantizer};
use serde_json::Value;

use crate::io::read_bounded;
use crate::scheme_record::{KEY, Records};
use crate::{Entry, Error, SafetensorsFile, SchemeRecord};

pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// More than any index takes: one of a million tensors has 100 MB.
const LARGEST_INDEX: u64 = 256 << 20;

/// A model's files, mapped and checked.
#[derive(Debug)]
pub struct Model {
    pub(crate) files: Vec<SafetensorsFile>,
    pub(crate) index: Option<Index>,
    records: HashMap<String, SchemeRecord>,
    places: HashMap<String, (usize, usize)>,
}

#[derive(Debug)]
pub(crate) struct Index {
    pub path: PathBuf,
    pub content: serde_json::Map<String, Value>,
}

/// A tensor of a model: float, integer, or quantized.
#[derive(Debug)]
pub struct Tensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// The file that holds it.
    pub file: &'a SafetensorsFile,
    /// Its entry there; a quantized tensor's codes.
    pub entry: &'a Entry,
    /// Its scheme and its parts, if it is quantized.
    pub quantized: Option<Quantized<'a>>,
}

/// The parts of a quantized tensor.
#[derive(Debug)]
pub struct Quantized<'a> {
    pub(crate) quantizer: TensorQuantizer,
    pub(crate) codes: &'a [u8],
    pub(crate) scales: &'a [u8],
    pub(crate) zero_points: &'a [u8],
    /// How it was quantized.
    pub record: &'a SchemeRecord,
}

impl Model {
    /// Opens a `.safetensors` file, a folder with an index, or an index.
    ///
    /// # Errors
    /// A file that cannot be read or is not whole; an index that does not fit its shards.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (files, index) = if path.is_dir() {
            let index = path.join(INDEX);
            if !index.is_file() {
                let problem =
                    format!("no {INDEX} in this folder; give the .safetensors file itself");
                return Err(Error::file(path, problem));
            }
            open_index(&index)?
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            open_index(path)?
        } else {
            (vec![SafetensorsFile::open(path)?], None)
        };
        let (mut records, mut places) = (HashMap::new(), HashMap::new());
        for (i, file) in files.iter().enumerate() {
            for (j, (name, _)) in file.entries().iter().enumerate() {
                if places.insert(name.clone(), (i, j)).is_some() {
                    let problem = "stands in two shards; remove one of them";
                    return Err(Error::tensor(file.path(), name, problem));
                }
            }
            if let Some(text) = file.metadata().get(KEY) {
                let parsed: Records = serde_json::from_str(text).map_err(|error| {
                    Error::file(
                        file.path(),
                        format!("the metadata `{KEY}` is damaged: {error}"),
                    )
                })?;
                if parsed.version != 1 {
                    let problem = format!(
                        "written by a newer version of quant (format {}); update quant",
                        parsed.version
                    );
                    return Err(Error::file(file.path(), problem));
                }
                records.extend(parsed.tensors);
            }
        }
        Ok(Self {
            files,
            index,
            records,
            places,
        })
    }

    /// Whether some tensor was quantized by us.
    pub fn is_quantized(&self) -> bool {
        !self.records.is_empty()
    }

    /// The files, in the order of their names.
    pub fn files(&self) -> &[SafetensorsFile] {
        &self.files
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// The tensors; scales and zero points stand with the tensor that they belong to.
    ///
    /// # Errors
    /// A quantized tensor whose parts do not fit its record.
    pub fn tensors(&self) -> Result<Vec<Tensor<'_>>, Error> {
        let parts: std::collections::HashSet<String> = self
            .records
            .keys()
            .flat_map(|name| [format!("{name}.scale"), format!("{name}.zero_point")])
            .collect();
        if let Some(name) = self.records.keys().find(|name| !self.contains(name)) {
            let problem = "the metadata describes it, but it is missing; the file is damaged";
            return Err(Error::tensor(self.files[0].path(), name, problem));
        }
        let mut tensors = Vec::new();
        for file in &self.files {
            for (name, entry) in file.entries() {
                if !parts.contains(name) {
                    let quantized = self.quantized(file, name, entry)?;
                    tensors.push(Tensor {
                        name,
                        file,
                        entry,
                        quantized,
                    });
                }
            }
        }
        Ok(tensors)
    }

    fn quantized<'a>(
        &'a self,
        file: &'a SafetensorsFile,
        name: &str,
        entry: &'a Entry,
    ) -> Result<Option<Quantized<'a>>, Error> {
        let Some(record) = self.records.get(name) else {
            return Ok(None);
        };
        let bad = |problem: String| Error::tensor(file.path(), name, problem);
        let quantizer = record.quantizer(Backend::detect()).map_err(bad)?;
        let part = |suffix: &str, len: usize| {
            if len == 0 {
                return Ok(&[][..]);
            }
            let name = format!("{name}.{suffix}");
            let place = self.places.get(&name);
            let place =
                place.ok_or_else(|| bad(format!("`{name}` is missing; the file is damaged")))?;
            let file = &self.files[place.0];
            Ok(file.data(&file.entries()[place.1].1))
        };
        let quantized = Quantized {
            codes: file.data(entry),
            scales: part("scale", quantizer.scales_len())?,
            zero_points: part("zero_point", quantizer.zero_points_len())?,
            record,
            quantizer,
        };
        let quantizer = &quantized.quantizer;
        if quantized.codes.len() != quantizer.codes_len()
            || quantized.scales.len() != quantizer.scales_len()
            || quantized.zero_points.len() != quantizer.zero_points_len()
        {
            return Err(bad(
                "its codes, scales or zero points do not fit its record; the file is damaged"
                    .into(),
            ));
        }
        Ok(Some(quantized))
    }

    /// A tensor's shape and values, dequantized if it is quantized.
    ///
    /// # Errors
    /// No such tensor, one that is not of floats, or a damaged one.
    pub fn read_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), Error> {
        let tensors = self.tensors()?;
        let Some(tensor) = tensors.into_iter().find(|tensor| tensor.name == name) else {
            return Err(Error::tensor(
                self.files[0].path(),
                name,
                "there is no such tensor",
            ));
        };
        let tensor = tensor.into_stored();
        let mut values = vec![0.0; tensor.element_count()];
        tensor.values(0..values.len(), &mut values)?;
        Ok((tensor.shape, values))
    }
}

impl Tensor<'_> {
    /// The shape of the values.
    pub fn shape(&self) -> &[usize] {
        match &self.quantized {
            Some(quantized) => &quantized.record.shape,
            None => &self.entry.shape,
        }
    }

    /// Number of elements.
    pub fn element_count(&self) -> usize {
        self.shape().iter().product()
    }

    /// The float type of the values; `None` for tensors of integers and unknown types.
    pub fn float_type(&self) -> Option<FloatType> {
        match &self.quantized {
            Some(quantized) => Some(quantized.quantizer.source),
            None => self.entry.float_type(),
        }
    }
}

fn open_index(path: &Path) -> Result<(Vec<SafetensorsFile>, Option<Index>), Error> {
    let text = read_bounded(path, LARGEST_INDEX, "give an index of safetensors files")?;
    let bad = |problem: String| Error::file(path, problem);
    let content: serde_json::Map<String, Value> = serde_json::from_slice(&text)
        .map_err(|error| bad(format!("not an index of safetensors files: {error}")))?;
    let map: BTreeMap<String, String> = content
        .get("weight_map")
        .and_then(|map| serde_json::from_value(map.clone()).ok())
        .ok_or_else(|| bad("no `weight_map` from tensor to file; this is not an index".into()))?;
    let mut by_file: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, file) in &map {
        by_file.entry(file).or_default().push(tensor);
    }
    if by_file.is_empty() {
        return Err(bad("the `weight_map` names no file".into()));
    }
    let mut files = Vec::new();
    for (name, tensors) in by_file {
        if Path::new(name)
            .file_name()
            .is_none_or(|plain| plain != name)
        {
            return Err(bad(format!("`{name}` is not a plain file name")));
        }
        let file = SafetensorsFile::open(&path.with_file_name(name))?;
        let held: std::collections::HashSet<_> =
            file.entries().iter().map(|(n, _)| n.as_str()).collect();
        if let Some(missing) = tensors.into_iter().find(|tensor| !held.contains(tensor)) {
            let problem = format!("the index expects it in `{name}`, which does not hold it");
            return Err(Error::tensor(path, missing, problem));
        }
        files.push(file);
    }
    let path = path.to_owned();
    Ok((files, Some(Index { path, content })))
}
