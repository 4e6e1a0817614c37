//! What each subcommand does.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::CommandFactory;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use quant_core::Scheme;
use quant_models::{
    ActivationOptions, ComputeUnit, Config, Error, Job, QuantizeOptions, Report, WholeFile,
};
use quant_simd::Backend;
use regex::Regex;
use serde_json::{Value, json};

use crate::activations::{activation_scheme, activations, lines};
use crate::arguments::{
    Arguments, Command, Dequantize, Dialect, Dtype, Granularity, Mode, NonFinite, Quantize, Target,
};
use crate::calibrate::calibrate;
use crate::plot::plot;

pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    match arguments.command {
        Command::Quantize(arguments) => quantize(&arguments)?,
        Command::Activations(arguments) => activations(&arguments)?,
        Command::Calibrate(arguments) => calibrate(&arguments)?,
        Command::Plot(arguments) => plot(&arguments)?,
        Command::Dequantize(arguments) => dequantize(&arguments)?,
        Command::Inspect { file, values, json } => inspect(&file, values, json)?,
        Command::Diff { a, b, json } => return diff(&a, &b, json),
        Command::Backends { json } => backends(json)?,
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "quant", &mut text);
            print(&String::from_utf8_lossy(&text))?;
        }
        Command::Man => {
            let mut text = Vec::new();
            let page = clap_mangen::Man::new(Arguments::command());
            page.render(&mut text).map_err(stdout_error)?;
            print(&String::from_utf8_lossy(&text))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn stdout_error(source: io::Error) -> Error {
    Error::Io {
        file: "standard output".into(),
        doing: "write to it",
        source,
    }
}

/// A reader that has seen enough, such as `head`, is no error.
pub fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(stdout_error(error)),
        _ => Ok(()),
    }
}

/// A name may hold anything; not all of it may stand in a line, or in XML.
pub fn printable(text: &str) -> String {
    let mut printable = String::new();
    for char in text.chars() {
        match char.is_control() || ('\u{fffe}'..='\u{ffff}').contains(&char) {
            true => printable.extend(char.escape_default()),
            false => printable.push(char),
        }
    }
    printable
}

pub fn print_json(value: &Value) -> Result<(), Error> {
    print(&format!("{value:#}\n"))
}

pub fn regexes(patterns: &[String], option: &str) -> Result<Vec<Regex>, Error> {
    let compile = |pattern: &String| {
        Regex::new(pattern).map_err(|error| {
            let error = error.to_string().replace('\n', " ");
            Error::Option(format!(
                "{option} '{pattern}' is not a regular expression: {error}"
            ))
        })
    };
    patterns.iter().map(compile).collect()
}

/// The backend of that name, or the default.
pub fn backend(name: Option<&str>) -> Result<Backend, Error> {
    let Some(name) = name else {
        return Ok(Backend::detect());
    };
    Backend::by_name(name).ok_or_else(|| {
        Error::Option(format!(
            "no backend `{name}` on this machine; `quant backends` lists them"
        ))
    })
}

fn options(arguments: &Quantize) -> Result<QuantizeOptions, Error> {
    let scheme = Scheme {
        dtype: match arguments.dtype {
            Dtype::Int8 => quant_core::IntType::Int8,
            Dtype::Uint8 => quant_core::IntType::Uint8,
            Dtype::Int4 => quant_core::IntType::Int4,
            Dtype::Uint4 => quant_core::IntType::Uint4,
        },
        mode: match arguments.mode {
            Mode::Symmetric => quant_core::Mode::Symmetric,
            Mode::Affine => quant_core::Mode::Affine,
        },
        dialect: match arguments.dialect {
            Dialect::Coremltools => quant_core::Dialect::Coremltools,
            Dialect::Wide => quant_core::Dialect::Wide,
        },
    };
    let axis = arguments.axis;
    let granularity = match arguments.granularity {
        _ if !arguments.block.is_empty() => {
            quant_models::Granularity::Blocks(arguments.block.clone())
        }
        Granularity::PerTensor => quant_models::Granularity::PerTensor,
        Granularity::PerChannel => quant_models::Granularity::PerChannel { axis },
        Granularity::PerBlock => quant_models::Granularity::PerBlock {
            axis,
            block_axis: arguments.block_axis,
            block_size: arguments.block_size,
        },
    };
    let backend = backend(arguments.backend.as_deref())?;
    let activations = arguments.ranges.as_ref().map(|path| {
        let mut activations = ActivationOptions::open(path)?;
        activations.scheme =
            activation_scheme(arguments.activation_dtype, arguments.activation_mode);
        Ok::<_, Error>(activations)
    });
    let config = arguments.config.as_ref();
    let config = config.map(|path| Config::open(path, scheme.dialect));
    Ok(QuantizeOptions {
        scheme,
        granularity,
        min_elements: arguments.min_elements,
        config: config.transpose()?,
        include: regexes(&arguments.include, "--include")?,
        exclude: regexes(&arguments.exclude, "--exclude")?,
        non_finite: match arguments.non_finite {
            NonFinite::Error => quant_models::NonFinite::Error,
            NonFinite::Skip => quant_models::NonFinite::Skip,
        },
        activations: activations.transpose()?,
        exact_selection: arguments.exact_selection,
        target: arguments.target.map(|target| match target {
            Target::Ane => ComputeUnit::NeuralEngine,
            Target::Gpu => ComputeUnit::Gpu,
            Target::Cpu => ComputeUnit::Cpu,
        }),
        strict: arguments.strict,
        dry_run: arguments.dry_run,
        backend,
        // Nobody would see them.
        stats: !arguments.quiet || arguments.json || arguments.report.is_some(),
    })
}

/// `model.safetensors` becomes `model.WHAT.safetensors`, `Model.mlpackage` `Model.WHAT.mlpackage`, a
/// folder `model` becomes `model.WHAT`.
pub fn beside(model: &Path, what: &str) -> PathBuf {
    let model = match model.extension() {
        Some(extension) if extension == "json" => model.parent().unwrap_or(model),
        _ => model,
    };
    let whole = model.canonicalize().unwrap_or_else(|_| model.to_owned());
    let name =
        |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    match whole.is_dir() {
        true if quant_models::is_package(&whole) => {
            whole.with_file_name(format!("{}.{what}.mlpackage", name(whole.file_stem())))
        }
        true => whole.with_file_name(format!("{}.{what}", name(whole.file_name()))),
        false => model.with_file_name(format!("{}.{what}.safetensors", name(model.file_stem()))),
    }
}

/// Runs `work` on so many threads, with a progress bar of `bytes` (0: nobody knows), until it is done or the user
/// asks to stop.
pub fn watched<T: Send>(
    threads: u16,
    quiet: bool,
    force: bool,
    bytes: u64,
    work: impl FnOnce(&Job<'_>) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&cancelled);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
        .map_err(|error| Error::Option(format!("cannot watch for Ctrl-C: {error}")))?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.into())
        .build()
        .map_err(|error| Error::Option(format!("cannot start {threads} threads: {error}")))?;
    let bar = match quiet {
        true => ProgressBar::hidden(),
        false => ProgressBar::new(bytes),
    };
    let style = match bytes {
        0 => "{spinner} {bytes}, {bytes_per_sec}",
        _ => "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
    };
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    let job = Job {
        force,
        progress: &|bytes| bar.inc(bytes),
        cancelled: &cancelled,
    };
    let result = pool.install(|| work(&job));
    bar.finish_and_clear();
    result
}

/// Bytes of a file, or of all files in a folder: what a progress bar goes through.
pub fn size_of(model: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(model) else {
        return std::fs::metadata(model).map_or(0, |file| file.len());
    };
    let entries = entries.flatten().map(|entry| entry.path());
    entries
        .map(|path| if path.is_symlink() { 0 } else { size_of(&path) })
        .sum()
}

/// Whether both are one file, or will be.
pub fn is_same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

pub fn warn(warnings: &[String]) {
    for warning in warnings {
        let _ = writeln!(std::io::stderr(), "quant: warning: {warning}");
    }
}

fn quantize(arguments: &Quantize) -> Result<(), Error> {
    let options = options(arguments)?;
    let output = match &arguments.output {
        Some(output) => output.clone(),
        None if options.config.is_some() => beside(&arguments.model, "quantized"),
        None => beside(&arguments.model, options.scheme.dtype.name()),
    };
    // A report that cannot be written ends the work before it begins.
    let report_file = arguments.report.as_deref().map(|path| {
        if is_same(path, &arguments.model) || is_same(path, &output) {
            let problem = "the report is the model itself; choose another with --report";
            return Err(Error::File {
                file: path.to_owned(),
                problem: problem.into(),
            });
        }
        WholeFile::new(path, arguments.force)
    });
    let report_file = report_file.transpose()?;
    let start = Instant::now();
    let quiet = arguments.quiet || arguments.json;
    let bytes = size_of(&arguments.model);
    let report = watched(arguments.threads, quiet, arguments.force, bytes, |job| {
        quant_models::quantize(&arguments.model, &output, &options, job)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let value = json!({
        "version": 1,
        "input": arguments.model.to_string_lossy(),
        "output": (!arguments.dry_run).then(|| output.to_string_lossy()),
        "seconds": seconds,
        "bytes_before": report.bytes_before,
        "bytes_after": report.bytes_after,
        "warnings": report.warnings,
        "tensors": report.tensors,
        "operations": report.operations,
    });
    if !arguments.quiet && !arguments.json {
        warn(&report.warnings);
    }
    if let Some(file) = report_file {
        file.put(format!("{value:#}\n").as_bytes())?;
    }
    match (arguments.json, arguments.quiet) {
        (true, _) => print_json(&value),
        (false, true) => Ok(()),
        (false, false) => print(&summary(&report, &output, seconds)),
    }
}

fn summary(report: &Report, output: &Path, seconds: f64) -> String {
    let name = report.tensors.iter().map(|tensor| tensor.name.len()).max();
    let name = name.unwrap_or(0);
    let mut text = String::new();
    for tensor in &report.tensors {
        let shape = format!("{:?}", tensor.shape);
        text += &format!("{:<name$}  {:<4} {shape:<20} ", tensor.name, tensor.dtype);
        text += &match (&tensor.scheme, &tensor.reason) {
            (Some(scheme), _) => {
                let (before, after) = (
                    HumanBytes(tensor.bytes_before),
                    HumanBytes(tensor.bytes_after),
                );
                let sqnr = match (tensor.sqnr_db, tensor.max_abs_error) {
                    (Some(db), _) => format!("{db:.1} dB"),
                    (None, Some(_)) => "exact".into(),
                    (None, None) => String::new(),
                };
                let blocks = format!("{:?}", scheme.blocks);
                format!(
                    "{} {} blocks {blocks:<18} {before} -> {after}  {sqnr}\n",
                    scheme.dtype, scheme.mode
                )
            }
            (None, reason) => {
                let kind = if tensor.skipped {
                    "SKIPPED"
                } else {
                    "left alone"
                };
                format!("{kind}: {}\n", reason.as_deref().unwrap_or_default())
            }
        };
    }
    text += &lines(report);
    let before = report.bytes_before;
    text += &match report.bytes_after {
        None => "Nothing was written (--dry-run).\n".into(),
        Some(after) => format!(
            "{} -> {} ({:.2} times smaller) in {seconds:.2} s, {}/s\n{}\n",
            HumanBytes(before),
            HumanBytes(after),
            before as f64 / after as f64,
            HumanBytes((before as f64 / seconds) as u64),
            output.display()
        ),
    };
    text
}

fn dequantize(arguments: &Dequantize) -> Result<(), Error> {
    let output = match &arguments.output {
        Some(output) => output.clone(),
        None => beside(&arguments.file, "float"),
    };
    let bytes = size_of(&arguments.file);
    let quiet = arguments.quiet;
    let restored = watched(arguments.threads, quiet, arguments.force, bytes, |job| {
        quant_models::dequantize(&arguments.file, &output, job)
    })?;
    match quiet {
        true => Ok(()),
        false => {
            warn(&restored.warnings);
            print(&format!(
                "{}  {}\n",
                output.display(),
                HumanBytes(restored.bytes)
            ))
        }
    }
}

fn inspect(path: &Path, values: bool, json: bool) -> Result<(), Error> {
    let found = quant_models::inspect(path, values)?;
    if json {
        return print_json(&json!({
            "version": 1,
            "tensors": found.tensors,
            "bytes": found.bytes,
            "elements": found.elements,
            "bits_per_weight": found.bits_per_weight,
        }));
    }
    let mut text = String::new();
    for tensor in &found.tensors {
        text += &format!("{}  {} {:?}", tensor.name, tensor.dtype, tensor.shape);
        if let Some(scheme) = &tensor.scheme {
            text += &format!(" {} blocks {:?}", scheme.mode, scheme.blocks);
        }
        if let Some(kind) = &tensor.kind {
            text += &format!(" {kind}");
        }
        if let (Some(low), Some(high)) = (tensor.scale_min, tensor.scale_max) {
            text += &format!(" scales {low:e} to {high:e}");
        }
        let (bytes, bits) = (HumanBytes(tensor.bytes), tensor.bits_per_weight);
        text += &format!("  {bytes}  {bits:.2} bits per weight");
        if let (Some(zeros), Some(unique)) = (tensor.sparsity, tensor.unique_values) {
            text += &format!("  {:.1} % zeros, {unique} different values", 100.0 * zeros);
        }
        for consumer in &tensor.consumers {
            text += &format!(
                "  -> {} `{}` {}",
                consumer.operation, consumer.name, consumer.input
            );
        }
        text += "\n";
    }
    text += &format!(
        "{} tensors, {} elements, {}, {:.2} bits per weight\n",
        found.tensors.len(),
        found.elements,
        HumanBytes(found.bytes),
        found.bits_per_weight
    );
    print(&text)
}

fn diff(a: &Path, b: &Path, json: bool) -> Result<ExitCode, Error> {
    let found = quant_models::diff(a, b)?;
    if json {
        print_json(&json!({"version": 1, "equal": found.equal, "tensors": found.tensors}))?;
    } else {
        let mut text = String::new();
        for tensor in found.tensors.iter().filter(|tensor| !tensor.equal) {
            text += &tensor.name;
            if let Some(reason) = &tensor.reason {
                text += &format!("  {reason}");
            }
            for (what, equal) in [
                ("codes", tensor.codes_equal),
                ("scales", tensor.scales_equal),
            ] {
                if let Some(equal) = equal {
                    text += &format!("  {what} {}", if equal { "equal" } else { "differ" });
                }
            }
            if let Some(error) = tensor.max_abs_error {
                text += &match tensor.sqnr_db {
                    Some(db) => format!("  {db:.1} dB, largest difference {error:e}"),
                    None => "  stored differently, the values are equal".into(),
                };
            }
            text += "\n";
        }
        let differ = found.tensors.iter().filter(|tensor| !tensor.equal).count();
        text += &format!("{differ} of {} tensors differ\n", found.tensors.len());
        print(&text)?;
    }
    Ok(ExitCode::from(u8::from(!found.equal)))
}

fn backends(json: bool) -> Result<(), Error> {
    let names: Vec<&str> = Backend::available()
        .iter()
        .map(|backend| backend.name())
        .collect();
    match json {
        true => print_json(
            &json!({"version": 1, "available": names, "chosen": Backend::detect().name()}),
        ),
        false => print(&format!("{}\n", names.join("\n"))),
    }
}
