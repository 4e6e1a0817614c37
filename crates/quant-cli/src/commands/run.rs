//! `quant run`.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use clap::{Args, ValueHint};
use quant_models::{AtomicFile, Error, Inputs, Job, printable};
use quant_run::{ImageFit, Model, NonFinite, Samples, Tensor, Watch};
use quant_run::{is_image, npy_to, npz_to, read_arrays, read_image};
use serde_json::json;

use super::running::{RunningOptions, at_model, image_fit};
use crate::options::{ForceOption, JsonOption, QuietOption, ThreadsOption};
use crate::progress::with_progress;
use crate::terminal::{print, print_json, shown, warn};

const EXAMPLE: &str = "\
Example:
  quant run Model.mlpackage --input x=x.npy -o y.npz";

/// Run a Core ML package once
///
/// The model's operations run on the CPU, one after the other, on any system. An input is an npy array,
/// NAME=FILE.npy; a model with one input takes FILE.npy, too. An npz or safetensors file has an array
/// for each input; `-` reads the first npz archive of standard input. An input that the model declares as an
/// image may be a png or jpeg file. Outputs go to an npz file; to an npy file, where there is one.
///
/// Models of float16 run in float32 arithmetic, unless --round-f16 is given. States begin as zeros.
#[derive(Args)]
#[command(after_long_help = EXAMPLE)]
pub struct Run {
    /// A .mlpackage
    #[arg(value_hint = ValueHint::AnyPath)]
    model: PathBuf,
    /// An input; repeatable
    #[arg(short, long, value_name = "NAME=FILE", value_hint = ValueHint::AnyPath)]
    input: Vec<String>,
    /// The outputs: .npz, or .npy for a model with one output
    #[arg(short, long, value_name = "OUTPUT", value_hint = ValueHint::FilePath)]
    output: PathBuf,
    /// What happens to images of another size than the model's
    #[arg(long, value_parser = image_fit(), value_name = "HOW", default_value = "crop")]
    image_fit: ImageFit,
    #[command(flatten)]
    running: RunningOptions,
    #[command(flatten)]
    threads: ThreadsOption,
    #[command(flatten)]
    force: ForceOption,
    #[command(flatten)]
    quiet: QuietOption,
    #[command(flatten)]
    json: JsonOption,
}

/// Looks for values that are not finite until the user asks to stop.
struct Watching<'a> {
    non_finite: NonFinite,
    job: &'a Job<'a>,
}

impl Watch for Watching<'_> {
    fn value(
        &mut self,
        kind: &str,
        operation: &str,
        name: &str,
        value: &Tensor,
    ) -> Result<(), quant_run::Error> {
        self.non_finite.value(kind, operation, name, value)
    }

    fn go_on(&mut self) -> bool {
        !self.job.cancelled.load(Ordering::Relaxed)
    }
}

/// Arrays by the names of inputs, and the files that they come from.
type Given = (Vec<(String, Tensor)>, Vec<PathBuf>);

impl Run {
    pub fn run(&self) -> Result<(), Error> {
        let model = self.running.open_once(&self.model)?;
        let single = self.is_single(&model)?;
        let (inputs, files) = self.inputs(&model)?;
        self.check(&inputs)?;
        let mut used = Inputs::of_model(&self.model);
        files.iter().for_each(|file| used.file(file, "an input"));
        let file = AtomicFile::create(&self.output, "output", self.force.force, &used)?;
        let file = file.as_closed_as(&files)?;
        warn(file.warnings());
        let (threads, force) = (self.threads.threads, self.force.force);
        let (outputs, found) = with_progress(threads, true, force, 0, |job| {
            let mut watch = Watching {
                non_finite: NonFinite::default(),
                job,
            };
            let given: Vec<(&str, Tensor)> = inputs
                .iter()
                .map(|(name, tensor)| (name.as_str(), tensor.clone()))
                .collect();
            let states = model.states();
            let outputs = states.and_then(|mut states| model.run(&given, &mut states, &mut watch));
            let outputs = outputs.map_err(|error| at_model(&self.model, error))?;
            Ok((outputs, watch.non_finite))
        })?;
        file.commit_with(|file| self.write(&outputs, single, file))?;
        let warnings: Vec<String> = [found.nan, found.infinity].into_iter().flatten().collect();
        warn(&warnings);
        if self.json.json {
            let outputs = outputs.iter().map(|(name, tensor)| {
                json!({"name": name, "shape": tensor.shape(), "dtype": tensor.element().to_string()})
            });
            return print_json(&json!({
                "version": 1,
                "output": self.output.to_string_lossy(),
                "outputs": outputs.collect::<Vec<_>>(),
                "warnings": warnings,
            }));
        }
        if self.quiet.quiet {
            return Ok(());
        }
        let lines = outputs.iter().map(|(name, tensor)| {
            let (name, element, shape) = (printable(name), tensor.element(), tensor.shape());
            format!("{name}  {element} {shape:?}\n")
        });
        print(&format!(
            "{}{}\n",
            lines.collect::<String>(),
            shown(&self.output)
        ))
    }

    fn write(&self, outputs: &[(String, Tensor)], single: bool, file: &File) -> Result<(), Error> {
        let mut out = BufWriter::new(file);
        let written = match outputs {
            [(_, only)] if single => npy_to(only, &mut out),
            all => npz_to(all, &mut out),
        };
        written
            .and_then(|()| out.flush())
            .map_err(|error| match error.kind() {
                ErrorKind::InvalidData => bad(&self.model, &error.to_string()),
                _ => Error::io(&self.output, "write it")(error),
            })
    }

    /// Whether the output is one array; checks that it can be.
    fn is_single(&self, model: &Model) -> Result<bool, Error> {
        let single = self.output.extension().is_some_and(|end| end == "npy");
        if !single && self.output.extension().is_none_or(|end| end != "npz") {
            let problem = "an output of a kind that is not known; give .npz or .npy";
            return Err(bad(&self.output, problem));
        }
        if single && model.outputs().len() != 1 {
            let outputs = model.outputs().join(", ");
            let problem = format!("one array, but the model gives {outputs}; give .npz");
            return Err(bad(&self.output, &problem));
        }
        Ok(single)
    }

    /// NaN makes NaN of all that it meets.
    fn check(&self, inputs: &[(String, Tensor)]) -> Result<(), Error> {
        for (name, tensor) in inputs {
            let floats = tensor.floats().unwrap_or_default();
            if let Some(at) = floats.iter().position(|value| value.is_nan()) {
                let problem = format!("input `{name}`: it is NaN at element {at}");
                return Err(bad(&self.model, &problem));
            }
        }
        Ok(())
    }

    fn inputs(&self, model: &Model) -> Result<Given, Error> {
        let (mut found, mut files) = (Vec::new(), Vec::new());
        for input in &self.input {
            let known = input.split_once('=').filter(|(name, _)| {
                // A path may have such a sign in it.
                !name.is_empty() && !Path::new(input).exists()
            });
            let (name, file) = match known {
                Some((name, file)) => (Some(name), Path::new(file)),
                None => (None, Path::new(input)),
            };
            if file == Path::new("-") {
                let samples = Samples::stream(BufReader::new(std::io::stdin()));
                let sample = samples.read(0, model.inputs());
                let sample = sample.map_err(|error| at_model(&self.model, error))?;
                found.extend(sample.unwrap_or_default());
                continue;
            }
            if file.as_os_str().is_empty() {
                let problem = format!("--input {input}: name a file behind the sign");
                return Err(Error::Option(problem));
            }
            files.push(file.to_owned());
            if is_image(file) {
                found.push(self.image(model, name, file)?);
                continue;
            }
            let arrays = read_arrays(file).map_err(|error| at_model(&self.model, error))?;
            let count = arrays.len();
            for (stored, tensor) in arrays {
                let only = match model.inputs() {
                    [only] if count == 1 => Some(only.name.clone()),
                    _ => None,
                };
                let name = match name {
                    Some(_) if count != 1 => {
                        let problem = format!("{count} arrays, where one is wanted");
                        return Err(bad(file, &problem));
                    }
                    Some(name) => Some(name.to_owned()),
                    None => stored.or(only),
                };
                let Some(name) = name else {
                    let problem = "an array without a name; give it as NAME=FILE";
                    return Err(bad(file, problem));
                };
                found.push((name, tensor));
            }
        }
        Ok((found, files))
    }

    /// An image, and the name of the input that it is for.
    fn image(
        &self,
        model: &Model,
        name: Option<&str>,
        file: &Path,
    ) -> Result<(String, Tensor), Error> {
        let inputs = model.inputs();
        let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
        let names = names.join(", ");
        let input = match (name, inputs) {
            (None, [only]) => only,
            (None, _) => {
                let problem = format!("for which input? give it as NAME=FILE; there are {names}");
                return Err(bad(file, &problem));
            }
            (Some(name), _) => inputs
                .iter()
                .find(|input| input.name == name)
                .ok_or_else(|| bad(file, &format!("no input `{name}`; there are {names}")))?,
        };
        let image = read_image(file, input, self.image_fit);
        let image = image.map_err(|error| at_model(&self.model, error))?;
        Ok((input.name.clone(), image))
    }
}

fn bad(file: &Path, problem: &str) -> Error {
    Error::File {
        file: file.to_owned(),
        problem: problem.into(),
    }
}
