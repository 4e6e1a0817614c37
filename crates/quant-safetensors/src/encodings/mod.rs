//! How quantized tensors lie in safetensors files: a file per convention.
//!
//! A convention says which tensors stand for a quantized one, what the rest of the model looks like
//! beside them, and finds both again. What reads, quantizes, writes and reports is the same for all
//! of them. A new one is a file, a variant of [`Encoding`] with its name, and a line in
//! [`convention`].

mod compressed_tensors;
mod mlx;
mod native;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use quant_core::FloatType;
use quant_model::error::option;
use quant_model::facts::Facts;
use quant_model::io::Data;
use quant_model::options::QuantizeOptions;
use quant_model::report::Decision;
use quant_model::settings::Settings;
use quant_model::{Asked, Encoding, Error, Job, SchemeRecord};
use quant_simd::{Backend, TensorQuantizer};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use super::index::{INDEX, Index};
use super::part::Part;
use crate::model_files::ModelFiles;
use crate::{Entry, SafetensorsFile};

/// The one list of what carries out each encoding.
const CONVENTIONS: [(Encoding, &dyn Convention); 3] = [
    (Encoding::Native, &native::Native),
    (Encoding::Mlx, &mlx::Mlx),
    (
        Encoding::CompressedTensors,
        &compressed_tensors::CompressedTensors,
    ),
];

/// The encodings of safetensors files.
pub(crate) fn encodings() -> impl Iterator<Item = Encoding> {
    CONVENTIONS.iter().map(|(encoding, _)| *encoding)
}

/// What carries out one of these encodings.
///
/// # Panics
/// Another format writes it.
pub(crate) fn convention(encoding: Encoding) -> &'static dyn Convention {
    let found = CONVENTIONS.iter().find(|(of, _)| *of == encoding);
    found.expect("an encoding of safetensors files").1
}

/// What one convention does otherwise than others. Tensors are numbered as in [`ModelFiles::entries`].
pub(crate) trait Convention: Sync {
    /// Why no tensor of the model can be written so, such as a file that is missing beside it, or
    /// options that the convention cannot say.
    ///
    /// # Errors
    /// That reason.
    fn check_model(&self, _model: &ModelFiles, _options: &QuantizeOptions) -> Result<(), Error> {
        Ok(())
    }

    /// Changes the settings of a tensor to what its loader wants for it.
    ///
    /// # Errors
    /// The loader wants it in float: why.
    fn adjust(
        &self,
        _model: &ModelFiles,
        _facts: &Facts,
        _settings: &mut Settings,
    ) -> Result<(), String> {
        Ok(())
    }

    /// Why it has no place for what a quantization makes.
    ///
    /// # Errors
    /// That reason.
    fn supports(&self, name: &str, quantizer: &TensorQuantizer) -> Result<(), String>;

    /// How it says what another convention wrote, with the same values.
    ///
    /// # Errors
    /// Why no model is converted to it, behind its name and a comma.
    fn recode(&self) -> Result<Recode, &'static str>;

    /// The tensors that stand for a quantized one.
    fn parts(&self, name: &str, quantizer: &TensorQuantizer) -> TensorParts;

    /// The files of the output.
    ///
    /// # Errors
    /// Decisions that do not go together.
    fn files<'m>(
        &self,
        model: &'m ModelFiles,
        decisions: &[Decision],
        job: &Job<'_>,
    ) -> Result<Vec<OutputFile<'m>>, Error>;

    /// Says in a file's metadata how its tensors are quantized, by the names that they had as floats.
    ///
    /// # Errors
    /// What cannot be written as text.
    fn describe(
        &self,
        file: &mut OutputFile<'_>,
        _records: BTreeMap<String, SchemeRecord>,
    ) -> Result<(), Error> {
        file.metadata.clear();
        Ok(())
    }

    /// The small files that it writes into the folder of a quantized model; `asked` says what all its
    /// tensors were to be, where that is known.
    ///
    /// # Errors
    /// A file beside the weights that cannot be read.
    fn documents(
        &self,
        model: &ModelFiles,
        _decisions: &[Decision],
        _asked: Option<Asked>,
        written: &Written,
        job: &Job<'_>,
    ) -> Result<Vec<Document>, Error> {
        let index = model.index.as_ref();
        index
            .map(|it| kept_index(it, written, job))
            .into_iter()
            .collect()
    }

    /// The tensors of a model that lie in its way.
    ///
    /// # Errors
    /// A description of them that is damaged; [`Error::Interrupted`].
    fn find(&self, files: &ModelFiles, job: &Job<'_>) -> Result<Found, Error>;

    /// What a record that it found says.
    ///
    /// # Errors
    /// A record that it cannot have written.
    fn quantizer(
        &self,
        record: &SchemeRecord,
        backend: Backend,
    ) -> Result<TensorQuantizer, String> {
        record.quantizer(backend)
    }

    /// Zero points or biases as the kernels take them, from the part that holds them, if there is one.
    ///
    /// # Errors
    /// A part that cannot be read.
    fn offsets<'m>(
        &self,
        _quantizer: &TensorQuantizer,
        stored: Option<Data<'m>>,
    ) -> Result<Data<'m>, Error> {
        Ok(stored.unwrap_or(Data::EMPTY))
    }

    /// Whether zero points or biases are stored otherwise than the kernels give them: all of a tensor's
    /// at once, by [`packed_offsets`](Self::packed_offsets).
    fn packs_offsets(&self, _quantizer: &TensorQuantizer) -> bool {
        false
    }

    /// The bytes of the part that holds these zero points or biases.
    fn packed_offsets(&self, _quantizer: &TensorQuantizer, offsets: &[u8]) -> Vec<u8> {
        offsets.to_vec()
    }

    /// Removes from a file's metadata what described its quantized tensors.
    fn restore_metadata(&self, metadata: &mut BTreeMap<String, String>);

    /// The small files that it writes into the folder of a restored model.
    ///
    /// # Errors
    /// A file beside the weights that cannot be read.
    fn restored_documents(
        &self,
        model: &ModelFiles,
        written: &Written,
        job: &Job<'_>,
    ) -> Result<Vec<Document>, Error> {
        let index = model.index.as_ref();
        index
            .map(|it| kept_index(it, written, job))
            .into_iter()
            .collect()
    }

    /// What its loaders make of a model otherwise than these decisions may seem to say, a line each.
    fn advice(&self, _model: &ModelFiles, _decisions: &[Decision]) -> Vec<String> {
        Vec::new()
    }

    /// What a model says beside its tensors that no other convention does, a line each.
    fn lost(&self, _model: &ModelFiles) -> Vec<String> {
        Vec::new()
    }

    /// Whether a tensor is a parameter of activations or of a cache, which means nothing where nobody
    /// says how these are quantized; `is_quantized` is whether the weight of a name is.
    fn is_of_activations(&self, _name: &str, _is_quantized: &dyn Fn(&str) -> bool) -> bool {
        false
    }

    /// Whether it writes a small file of this name itself, so that it is not copied.
    fn writes(&self, _name: &str) -> bool {
        false
    }
}

/// How a tensor of another convention is said in one: of what it is quantized by, its zero points or
/// biases, and whether it has scales below zero; or why it cannot be.
pub(crate) type Recode = fn(&TensorQuantizer, &[u8], bool) -> Result<Recoded, String>;

/// A quantized tensor in another convention; its scales stay as they are.
pub(crate) struct Recoded {
    pub quantizer: TensorQuantizer,
    /// What every byte of codes is changed by, bit for bit.
    pub flip: u8,
    /// Or biases, as the kernels take them.
    pub zero_points: Vec<u8>,
}

/// What a convention finds in a model.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The tensors that are read, by the names that they had as floats.
    pub records: BTreeMap<String, SchemeRecord>,
    /// Those that the model says lie in its way, and that are not read.
    pub unread: Vec<Unread>,
}

/// A quantized tensor that is not read: nothing is restored as long as there is one.
#[derive(Debug)]
pub(crate) struct Unread {
    pub file: PathBuf,
    /// Of the tensor that shows it, as it is in the file.
    pub name: String,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

/// The tensors that stand for a quantized one.
#[derive(Clone, Debug)]
pub(crate) struct TensorParts {
    pub codes: Part,
    pub scales: Part,
    /// Zero points or biases.
    pub offsets: Option<Part>,
    /// What else belongs to it, with its bytes.
    pub constants: Vec<(Part, Vec<u8>)>,
}

impl TensorParts {
    /// All of them; and what messages call those that the float tensor's name does not say.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &Part)> {
        let codes = [("codes", &self.codes), ("scale", &self.scales)];
        let offsets = self.offsets.iter().map(|part| ("zero_point", part));
        let constants = self.constants.iter().map(|(part, _)| ("shape", part));
        codes.into_iter().chain(offsets).chain(constants)
    }
}

/// A file of the output, and what goes into it.
pub(crate) struct OutputFile<'m> {
    /// Its name in the folder, where the output is one.
    pub name: OsString,
    /// The input file that it comes from, whose permissions it has at most.
    pub like: &'m SafetensorsFile,
    pub metadata: BTreeMap<String, String>,
    pub parts: Vec<Part>,
    /// In order.
    pub steps: Vec<Step>,
}

/// What goes into a file.
pub(crate) enum Step {
    /// The bytes of a tensor, as they are.
    Copy { tensor: usize, to: PartOffset },
    /// A tensor's codes, scales and offsets; offsets that have no place are left out.
    Quantize {
        tensor: usize,
        codes: PartOffset,
        scales: PartOffset,
        offsets: Option<PartOffset>,
    },
    /// These bytes.
    Write { to: PartOffset, bytes: Vec<u8> },
}

/// A part, and where in it, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct PartOffset {
    pub part: String,
    pub offset: usize,
}

impl PartOffset {
    /// All of a part.
    pub fn whole(part: &Part) -> Self {
        Self {
            part: part.name.clone(),
            offset: 0,
        }
    }
}

/// What has been written, for those who describe it.
#[derive(Default)]
pub(crate) struct Written {
    /// Names of tensors, and the files that hold them; sorted.
    pub weight_map: Vec<(String, String)>,
    /// Bytes of all tensors.
    pub tensor_bytes: usize,
}

/// A small file of the output.
pub(crate) struct Document {
    pub name: OsString,
    pub text: String,
    /// The input's file of that kind, whose permissions it has at most.
    pub like: Option<PathBuf>,
}

/// A file for each one of the model, with the same tensors in the same order; quantized ones as the
/// convention has them.
///
/// # Errors
/// A part of a quantized tensor that would have the name of another tensor.
pub(crate) fn kept_files<'m>(
    convention: &dyn Convention,
    model: &'m ModelFiles,
    decisions: &[Decision],
    job: &Job<'_>,
) -> Result<Vec<OutputFile<'m>>, Error> {
    let mut files = Vec::new();
    let mut tensor = 0;
    for file in &model.files {
        let mut output = OutputFile {
            name: file.path().file_name().unwrap_or_default().to_owned(),
            like: file,
            metadata: file.metadata().clone(),
            parts: Vec::new(),
            steps: Vec::new(),
        };
        for (name, entry) in file.entries() {
            job.check()?;
            match &decisions[tensor] {
                Decision::Quantize(quantizer) => {
                    let parts = convention.parts(name, quantizer);
                    check_names(model, file.path(), name, &parts)?;
                    output.quantize(tensor, parts);
                }
                Decision::Blocks(_) => unreachable!("its files hold no blocks"),
                Decision::LeaveAlone(_) | Decision::Skip(_) => output.copy(tensor, name, entry),
            }
            tensor += 1;
        }
        files.push(output);
    }
    Ok(files)
}

impl OutputFile<'_> {
    /// Adds a tensor as it is.
    pub fn copy(&mut self, tensor: usize, name: &str, entry: &Entry) {
        let part = Part {
            name: name.into(),
            dtype: entry.dtype.clone(),
            shape: entry.shape.clone(),
            len: entry.len(),
        };
        let to = PartOffset::whole(&part);
        self.steps.push(Step::Copy { tensor, to });
        self.parts.push(part);
    }

    /// Adds a quantized tensor.
    pub fn quantize(&mut self, tensor: usize, parts: TensorParts) {
        self.steps.push(Step::Quantize {
            tensor,
            codes: PartOffset::whole(&parts.codes),
            scales: PartOffset::whole(&parts.scales),
            offsets: parts.offsets.as_ref().map(PartOffset::whole),
        });
        self.parts.extend([parts.codes, parts.scales]);
        self.parts.extend(parts.offsets);
        for (part, bytes) in parts.constants {
            let to = PartOffset::whole(&part);
            self.steps.push(Step::Write { to, bytes });
            self.parts.push(part);
        }
    }
}

/// Refuses parts that would have the name of another tensor.
pub(crate) fn check_names(
    model: &ModelFiles,
    file: &Path,
    name: &str,
    parts: &TensorParts,
) -> Result<(), Error> {
    for (what, part) in parts.all() {
        let part = &part.name;
        if part != name && model.contains(part) {
            let problem = format!(
                "its {what} would be named `{part}`, which exists already; rename that tensor or leave this one out with {}",
                option("exclude")
            );
            return Err(Error::tensor(file, name, problem));
        }
    }
    Ok(())
}

/// An index as it was, with the tensors and the sizes that there are now.
///
/// # Errors
/// [`Error::Interrupted`].
pub(crate) fn kept_index(
    index: &Index,
    written: &Written,
    job: &Job<'_>,
) -> Result<Document, Error> {
    let document = IndexDocument {
        content: &index.content,
        written,
        job,
    };
    let text = serde_json::to_string_pretty(&document);
    job.check()?;
    let text =
        text.map_err(|error| Error::file(&index.path, format!("cannot write it anew: {error}")))?;
    Ok(Document {
        name: index.path.file_name().unwrap_or(INDEX.as_ref()).to_owned(),
        text: text + "\n",
        like: Some(index.path.clone()),
    })
}

/// An index, written as long as nobody ends the job.
struct IndexDocument<'a> {
    content: &'a Map<String, Value>,
    written: &'a Written,
    job: &'a Job<'a>,
}

impl Serialize for IndexDocument<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in self.content {
            match key.as_str() {
                "weight_map" => map.serialize_entry(key, &WeightMap(self.written, self.job))?,
                "metadata" if value.get("total_size").is_some() => {
                    let mut value = value.clone();
                    value["total_size"] = self.written.tensor_bytes.into();
                    map.serialize_entry(key, &value)?;
                }
                _ => map.serialize_entry(key, value)?,
            }
        }
        map.end()
    }
}

/// From tensor to file.
pub(crate) struct WeightMap<'a>(pub &'a Written, pub &'a Job<'a>);

impl Serialize for WeightMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(written, job) = self;
        let mut map = serializer.serialize_map(None)?;
        for (tensor, file) in &written.weight_map {
            job.check().map_err(serde::ser::Error::custom)?;
            map.serialize_entry(tensor, file)?;
        }
        map.end()
    }
}

/// The name of a float type in a file.
pub(crate) fn type_name(float: FloatType) -> &'static str {
    match float {
        FloatType::F32 => "F32",
        FloatType::F16 => "F16",
        FloatType::Bf16 => "BF16",
    }
}
