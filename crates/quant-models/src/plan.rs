//! A plan: what is to happen to each tensor of a model, and why, as data that a program or a person
//! can change.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use quant_core::{Blocks, Dialect, IntType, Mode, Scheme};
use quant_simd::TensorQuantizer;
use serde::{Deserialize, Serialize};

use crate::error::{one_line, shortened};
use crate::facts::{Axes, Facts, Storage};
use crate::format::{self, Inserted, OpenModel, Unsupported};
use crate::io::read_bounded;
use crate::options::Settings;
use crate::policy::Decided;
use crate::quantize::decide;
use crate::report::Decision;
use crate::unmatched::Known;
use crate::{Encoding, Error, Granularity, Job, QuantizeOptions};

/// The format of plans.
const VERSION: u32 = 1;
/// More than a plan of a million tensors takes.
const LARGEST: u64 = 1 << 30;

/// What is to happen to each tensor of a model, and why.
///
/// [`plan`] makes one; as JSON it can be read, changed and given to
/// [`quantize`](crate::quantize) as [`QuantizeOptions::plan`]. Tensors that it does not name stay as
/// they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Plan {
    /// 1.
    pub version: u32,
    /// How quantized tensors lie in safetensors files; `native` where it is not given.
    #[serde(default, with = "by_name", skip_serializing_if = "is_native")]
    pub format: Encoding,
    /// Per tensor, in the order of the model.
    pub tensors: Vec<PlannedTensor>,
    /// The file that it comes from, for messages.
    #[serde(skip)]
    path: PathBuf,
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

/// Says what [`quantize`](crate::quantize) would do with a model, tensor by tensor; and what the user
/// should know, a line each.
///
/// ```no_run
/// use quant_models::{Job, QuantizeOptions, plan, quantize};
///
/// let model = "model.safetensors".as_ref();
/// let (mut plan, _) = plan(model, &QuantizeOptions::default(), &Job::UNWATCHED)?;
/// for tensor in &mut plan.tensors {
///     if tensor.name.contains("embed") {
///         tensor.quantize = None;
///     }
/// }
/// let options = QuantizeOptions { plan: Some(plan), ..QuantizeOptions::default() };
/// quantize(model, "small.safetensors".as_ref(), &options, &Job::UNWATCHED)?;
/// # Ok::<(), quant_models::Error>(())
/// ```
///
/// # Errors
/// As [`quantize`](crate::quantize), but for what is about the output or about values.
pub fn plan(
    input: &Path,
    options: &QuantizeOptions,
    job: &Job<'_>,
) -> Result<(Plan, Vec<String>), Error> {
    format::open(input, job, |model| {
        let (decided, report) = decide(model, Inserted::default(), options, job)?;
        let tensors = report.tensors.into_iter().zip(&decided.decisions);
        let tensors = tensors.map(|(report, decision)| PlannedTensor {
            name: report.name,
            dtype: Some(report.dtype),
            shape: Some(report.shape),
            quantize: match decision {
                Decision::Quantize(quantizer) => Some(TensorSpec::of(quantizer)),
                Decision::LeaveAlone(_) | Decision::Skip(_) => None,
            },
            reason: report.reason,
        });
        let plan = Plan {
            version: VERSION,
            format: options.encoding(),
            tensors: tensors.collect(),
            path: PathBuf::new(),
        };
        let mut warnings = report.warnings;
        warnings.extend(report.notes);
        Ok((plan, warnings))
    })
}

impl TensorSpec {
    fn of(quantizer: &TensorQuantizer) -> Self {
        Self {
            dtype: Some(quantizer.scheme.dtype),
            mode: Some(quantizer.scheme.mode),
            dialect: Some(quantizer.scheme.dialect),
            blocks: Some(quantizer.blocks.block_sizes().to_vec()),
            bits: None,
            group_size: None,
        }
    }

    /// With what the format has by default where nothing is given.
    fn settings(&self, defaults: &QuantizeOptions) -> Result<Settings, String> {
        let dtype = match (self.dtype, self.bits) {
            (Some(_), Some(_)) => {
                return Err("`dtype` and `bits` exclude each other; give one of them".into());
            }
            (Some(dtype), None) => dtype,
            (None, Some(bits)) => {
                let dtype = IntType::new(bits, defaults.scheme.dtype.is_signed());
                dtype.ok_or_else(|| format!("`bits` {bits}; give 2, 3, 4, 5, 6 or 8"))?
            }
            (None, None) => defaults.scheme.dtype,
        };
        let granularity = match (&self.blocks, self.group_size) {
            (Some(_), Some(_)) => {
                return Err(
                    "`blocks` and `group_size` exclude each other; give one of them".into(),
                );
            }
            (Some(blocks), None) => Granularity::Blocks(blocks.clone()),
            (None, Some(0)) => return Err("`group_size` 0; give a number of elements".into()),
            (None, Some(size)) => Granularity::Groups(size),
            (None, None) => defaults.granularity.clone(),
        };
        Ok(Settings {
            scheme: Scheme {
                dtype,
                mode: self.mode.unwrap_or(defaults.scheme.mode),
                dialect: self.dialect.unwrap_or(defaults.scheme.dialect),
            },
            granularity,
            min_elements: 0,
            all_axes: false,
        })
    }
}

impl Plan {
    /// Reads a plan from a file.
    ///
    /// # Errors
    /// A file that cannot be read, or is no plan.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let text = read_bounded(path, LARGEST, "give a plan, as `quant plan` writes it")?;
        let mut plan: Self = serde_json::from_slice(&text).map_err(|error| {
            let problem = format!("not a plan: {}", shortened(&error.to_string()));
            Error::file(path, one_line(problem))
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
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What messages name.
    fn shown(&self) -> &Path {
        match self.path.as_os_str().is_empty() {
            true => Path::new("the plan"),
            false => &self.path,
        }
    }

    fn bad(&self, tensor: &str, problem: impl Into<String>) -> Error {
        Error::tensor(self.shown(), tensor, one_line(problem.into()))
    }

    /// One decision per tensor of a model.
    ///
    /// # Errors
    /// A plan that does not fit the model, or that the format cannot carry out.
    pub(crate) fn apply(
        &self,
        model: &dyn OpenModel,
        tensors: &[Facts],
        options: &QuantizeOptions,
    ) -> Result<Decided, Error> {
        let mut places: HashMap<&str, VecDeque<usize>> = HashMap::new();
        for (index, facts) in tensors.iter().enumerate() {
            places.entry(&facts.name).or_default().push_back(index);
        }
        let unplanned = || Decision::LeaveAlone("not in the plan".into());
        let mut decisions: Vec<_> = tensors.iter().map(|_| unplanned()).collect();
        let defaults = QuantizeOptions::for_encoding(self.format);
        for planned in &self.tensors {
            let name = &planned.name;
            let index = match places.get_mut(name.as_str()).map(VecDeque::pop_front) {
                Some(Some(index)) => index,
                Some(None) => return Err(self.bad(name, "is in the plan twice; remove one")),
                None => return Err(self.unknown(name, tensors)),
            };
            let decided = self.decide(model, &tensors[index], planned, &defaults, options);
            decisions[index] = decided?;
        }
        Ok(Decided {
            decisions,
            ..Decided::default()
        })
    }

    fn unknown(&self, name: &str, tensors: &[Facts]) -> Error {
        let known = Known::new("tensor", tensors.iter().map(|facts| facts.name.as_str()));
        let told = known.tell("the plan's", &[name]);
        self.bad(
            name,
            told.first().map_or(String::new(), ToString::to_string),
        )
    }

    fn decide(
        &self,
        model: &dyn OpenModel,
        facts: &Facts,
        planned: &PlannedTensor,
        defaults: &QuantizeOptions,
        options: &QuantizeOptions,
    ) -> Result<Decision, Error> {
        let bad = |problem: String| self.bad(&planned.name, problem);
        if let Some(shape) = &planned.shape
            && *shape != facts.shape
        {
            return Err(bad(format!(
                "shape {shape:?} in the plan, {:?} in the model; make the plan again",
                facts.shape
            )));
        }
        if let Some(dtype) = &planned.dtype
            && *dtype != facts.dtype
        {
            return Err(bad(format!(
                "type {dtype} in the plan, {} in the model; make the plan again",
                facts.dtype
            )));
        }
        let Some(spec) = &planned.quantize else {
            let reason = planned.reason.as_deref().unwrap_or("left out by the plan");
            return Ok(Decision::LeaveAlone(reason.into()));
        };
        let source = match (&facts.storage, facts.pinned) {
            (Storage::Float(source), None) => *source,
            (Storage::Other(why), _) => return Err(bad(format!("cannot be quantized: {why}"))),
            (_, Some(why)) => return Err(bad(format!("cannot be quantized: {why}"))),
        };
        let (rank, elements) = (facts.shape.len(), facts.element_count());
        if rank < 2 || elements < model.least_elements() {
            return Err(bad(format!(
                "cannot be quantized: rank {rank}, {elements} elements"
            )));
        }
        let mut settings = spec.settings(defaults).map_err(bad)?;
        let cut = match &facts.axes {
            Axes::Agreed { output, input } => settings.granularity.with_axes(rank, *output, *input),
            _ if settings.granularity.needs_no_axis() => settings.granularity.with_axes(rank, 0, 1),
            _ => return Err(bad("its axes are not known; give `blocks`".into())),
        };
        let blocks = Blocks::new(&facts.shape, &cut).map_err(|error| bad(error.to_string()))?;
        settings.granularity = granularity(&blocks);
        model.check(facts, &settings)?;
        let quantizer = TensorQuantizer {
            backend: options.backend,
            scheme: settings.scheme,
            source,
            blocks,
        };
        match model.supports(facts, &quantizer, options) {
            Ok(()) => Ok(Decision::Quantize(quantizer)),
            Err(Unsupported::Fail(error)) => Err(error),
            Err(Unsupported::Skip(problem)) => Err(bad(problem)),
        }
    }
}

/// The plainest words for some blocks.
fn granularity(blocks: &Blocks) -> Granularity {
    let counts = blocks.scale_shape();
    let mut axes = counts.iter().enumerate().filter(|(_, count)| **count > 1);
    match (axes.next(), axes.next()) {
        (None, _) => Granularity::PerTensor,
        (Some((axis, _)), None) if blocks.block_sizes()[axis] == 1 => Granularity::PerChannel {
            axis: Some(axis as isize),
        },
        _ => Granularity::Blocks(blocks.block_sizes().to_vec()),
    }
}
