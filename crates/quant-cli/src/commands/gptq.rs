//! Options of GPTQ: codes that make up for each other's errors in what a layer gives.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::{Args, ValueEnum, ValueHint};
use quant_models::{Entry, Error, GivenCodes, Inputs, Job, QuantizeOptions, SafetensorsFile};
use quant_run::{GptqOptions, Moments, WeightMatrix};
use quant_simd::TensorQuantizer;

use super::running::{MeasuringOptions, at_model, free_memory};
use crate::terminal::{count, warn};

#[derive(Args)]
pub struct GptqFlags {
    /// How codes are found: the nearest ones, or by GPTQ, with samples
    ///
    /// GPTQ quantizes a layer's weights one input after the other and lets those that follow make up for
    /// what each has lost, as the samples say. It takes a pass of all samples through the model side by
    /// side, and the products of all inputs of each layer.
    #[arg(long, value_enum, default_value = "nearest")]
    method: Method,
    #[command(flatten)]
    measuring: MeasuringOptions,
    /// With --method gptq, of safetensors: second moments of the inputs of each weight, by its name
    ///
    /// A safetensors file: for a weight of n inputs per output, which is its first axis, a matrix of
    /// n times n in f32 or f64, the sum of the products of inputs; for a convolution in groups, a
    /// matrix for each group.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    hessians: Option<PathBuf>,
    /// With --method gptq: what is added to the diagonal of the inputs' products, as a part of its mean
    #[arg(long, value_name = "PART", default_value_t = 0.01, value_parser = damping, value_hint = ValueHint::Other)]
    damping: f64,
    /// With --method gptq: quantize the inputs of a layer in the order of their size, the largest first
    #[arg(long)]
    act_order: bool,
}

/// How codes are found.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// The code nearest to each value
    Nearest,
    /// GPTQ: for what goes into each layer, as samples show it
    Gptq,
}

fn damping(given: &str) -> Result<f64, String> {
    let number: Option<f64> = given.parse().ok();
    let number = number.filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "give a number from 0 to 1".into())
}

impl GptqFlags {
    /// Whether a model has to run.
    pub fn is_wanted(&self) -> bool {
        self.method == Method::Gptq
    }

    /// Adds the samples to what no output may be.
    pub fn add_inputs(&self, inputs: &mut Inputs) {
        self.measuring.add_inputs(inputs);
        if let Some(file) = &self.hessians {
            inputs.file(file, "the moments");
        }
    }

    /// Finds the codes, and puts them into the options.
    ///
    /// # Errors
    /// No samples; a model that cannot run; what GPTQ says.
    pub fn find(
        &self,
        path: &Path,
        options: &mut QuantizeOptions,
        job: &Job<'_>,
    ) -> Result<(), Error> {
        let gptq = GptqOptions::default()
            .with_damping(self.damping)
            .with_by_size(self.act_order);
        let found = match &self.hessians {
            Some(hessians) => with_moments(path, hessians, options, gptq, job)?,
            None if self.measuring.samples.is_empty() => {
                return Err(Error::Option(
                    "--method gptq needs --samples (Core ML) or --hessians (safetensors); give files like those that the model will see"
                        .into(),
                ));
            }
            None => self.with_samples(path, options, gptq, job)?,
        };
        if let (true, Some((name, reason))) = (options.strict, found.left.first()) {
            return Err(Error::strict(format!(
                "`{name}` would be rounded, not by GPTQ: {reason}"
            )));
        }
        warn(&left(&found.left));
        if found.codes.is_empty() && !found.left.is_empty() {
            return Err(Error::File {
                file: path.to_owned(),
                problem: "GPTQ quantizes no weight of it; leave --method out to round all".into(),
            });
        }
        options.codes = Some(Arc::new(found.codes));
        Ok(())
    }

    fn with_samples(
        &self,
        path: &Path,
        options: &QuantizeOptions,
        gptq: GptqOptions,
        job: &Job<'_>,
    ) -> Result<Found, Error> {
        let mut wanted = BTreeMap::new();
        quant_models::visit_quantized(path, options, job, &mut |name, quantizer, _| {
            wanted.insert(name.to_owned(), quantizer.clone());
            Ok(())
        })?;
        let (mut model, samples) = self.measuring.open(path)?;
        let go_on = || !job.cancelled.load(Ordering::Relaxed);
        let found = quant_run::gptq(&mut model, &samples, &wanted, gptq, &go_on, job.progress);
        let found = found.map_err(|error| at_model(path, error))?;
        Ok(Found {
            codes: found.codes,
            left: found.left,
        })
    }
}

/// Codes, and weights without, with the reason.
struct Found {
    codes: GivenCodes,
    left: Vec<(String, String)>,
}

/// Codes of a model's tensors by moments from a file.
fn with_moments(
    path: &Path,
    hessians: &Path,
    options: &QuantizeOptions,
    gptq: GptqOptions,
    job: &Job<'_>,
) -> Result<Found, Error> {
    let file = SafetensorsFile::open(hessians)?;
    let mut found = Found {
        codes: GivenCodes::new("gptq"),
        left: Vec::new(),
    };
    quant_models::visit_quantized(path, options, job, &mut |name, quantizer, values| {
        let Some((_, entry)) = file.entries().iter().find(|(other, _)| other == name) else {
            let reason = format!("{} has no moments for it", hessians.display());
            found.left.push((name.to_owned(), reason));
            return Ok(());
        };
        let bad = |problem: String| Error::Tensor {
            file: hessians.to_owned(),
            tensor: name.to_owned(),
            problem,
        };
        let (matrix, moments) = moments(&file, entry, quantizer).map_err(|error| match error {
            MomentsError::File(error) => error,
            MomentsError::Matrix(problem) => bad(problem),
        })?;
        if moments.is_zero() {
            let reason = format!("its moments in {} are all 0", hessians.display());
            found.left.push((name.to_owned(), reason));
            return Ok(());
        }
        let values = quant_simd::widen(&values()?, quantizer.source);
        // Quantizing refuses it, or leaves it in float, and says so.
        if values.iter().any(|value| !value.is_finite()) {
            return Ok(());
        }
        let go_on = || !job.cancelled.load(Ordering::Relaxed);
        let solved = quant_run::solve_while(quantizer, &values, matrix, &moments, gptq, &go_on);
        let solved = solved.map_err(bad)?.ok_or(Error::Interrupted)?;
        (job.progress)(values.len() as u64 * quantizer.source.size() as u64);
        found.codes.insert(name.to_owned(), solved.codes);
        Ok(())
    })?;
    Ok(found)
}

enum MomentsError {
    File(Error),
    Matrix(String),
}

/// The moments of a weight, and how it is a matrix for them.
fn moments(
    file: &SafetensorsFile,
    entry: &Entry,
    quantizer: &TensorQuantizer,
) -> Result<(WeightMatrix, Moments), MomentsError> {
    let shape = quantizer.blocks.shape();
    let outputs = shape[0];
    let inputs = quantizer.blocks.element_count() / outputs.max(1);
    let groups = match entry.shape[..] {
        [a, b] if (a, b) == (inputs, inputs) => 1,
        [groups, a, b]
            if (a, b) == (inputs, inputs) && groups > 0 && outputs.is_multiple_of(groups) =>
        {
            groups
        }
        _ => {
            return Err(MomentsError::Matrix(format!(
                "moments of shape {:?}, for a weight of shape {shape:?}; give [{inputs}, {inputs}]",
                entry.shape
            )));
        }
    };
    // As sums, twice while they are read, and what is made of those of a group.
    let bytes = (entry
        .shape
        .iter()
        .fold(8, |bytes: usize, &dim| bytes.saturating_mul(dim)))
    .saturating_mul(4);
    if bytes > free_memory() {
        return Err(MomentsError::Matrix(format!(
            "moments of {inputs} inputs, which take {} GB to quantize with, more than is free on this machine; leave it in float with --exclude",
            bytes / 1_000_000_000
        )));
    }
    let sums = sums(file, entry)?;
    let matrix = WeightMatrix {
        outputs,
        inputs,
        groups,
        inputs_first: false,
    };
    let moments = Moments::from_values(groups, inputs, sums);
    let moments = moments.map_err(|error| MomentsError::Matrix(error.to_string()))?;
    Ok((matrix, moments))
}

/// The values of a file, as they are added up.
fn sums(file: &SafetensorsFile, entry: &Entry) -> Result<Vec<f64>, MomentsError> {
    let bytes = file.read(entry).map_err(MomentsError::File)?;
    match entry.dtype.as_str() {
        "F64" => {
            let values = bytes.as_chunks::<8>().0.iter();
            Ok(values.map(|&value| f64::from_le_bytes(value)).collect())
        }
        "F32" => {
            let values = bytes.as_chunks::<4>().0.iter();
            let values = values.map(|&value| f32::from_le_bytes(value));
            Ok(values.map(f64::from).collect())
        }
        other => {
            let problem = format!("moments of type {other}; give f32 or f64");
            Err(MomentsError::Matrix(problem))
        }
    }
}

/// Lines about weights that are rounded all the same.
fn left(left: &[(String, String)]) -> Vec<String> {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, reason) in left {
        reasons.entry(reason).or_default().push(name);
    }
    let line = |(reason, names): (&str, Vec<&str>)| {
        let (weights, first) = (count(names.len(), "weight"), names[0]);
        format!("{weights} rounded, not by GPTQ, such as {first}: {reason}")
    };
    reasons.into_iter().map(line).collect()
}
