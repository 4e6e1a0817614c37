//! Which option needs which others, or excludes them: an option without effect is an error. What a
//! default says counts as not given.

use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;
use quant_models::{
    Encoding, Error, Hint, HintCommand, HintKind, Note, encoding_of, has_activations,
    quantized_kind, result_kind,
};

use crate::called;

/// What an option of a command needs.
pub struct Need {
    command: &'static str,
    options: &'static [&'static str],
    rule: Rule,
}

enum Rule {
    /// Another option with one of these values, given or by default.
    Value(&'static str, &'static [&'static str]),
    /// Another option.
    Given(&'static str),
    /// None of these, which it takes the place of, or which have no effect beside it.
    Without(&'static [&'static str]),
    /// A Core ML package.
    Package,
    /// Safetensors.
    #[cfg_attr(not(feature = "run"), expect(dead_code))]
    Tensors,
    /// A folder of safetensors files, or its index.
    Folder,
    /// Files, not a stream.
    Files,
}

use Rule::{Files, Folder, Given, Package, Tensors, Value, Without};

const fn need(command: &'static str, options: &'static [&'static str], rule: Rule) -> Need {
    Need {
        command,
        options,
        rule,
    }
}

/// What candidates say in the place of.
const WITHOUT_TARGETS: &[&str] = &[
    "config",
    "bits",
    "group_size",
    "preset",
    "dtype",
    "mode",
    "granularity",
    "axis",
    "block_size",
    "block_axis",
    "block",
];

/// Options are named by their identifiers: `block_size` is `--block-size`.
pub const NEEDS: &[Need] = &[
    need(
        "quantize",
        &["axis"],
        Value("granularity", &["per-channel", "per-block"]),
    ),
    need(
        "quantize",
        &["block_size", "block_axis"],
        Value("granularity", &["per-block"]),
    ),
    need(
        "quantize",
        &["block"],
        Without(&["granularity", "axis", "block_size", "block_axis"]),
    ),
    need(
        "quantize",
        &["config"],
        Without(&[
            "dtype",
            "mode",
            "granularity",
            "axis",
            "block_size",
            "block_axis",
            "block",
            "min_elements",
        ]),
    ),
    need(
        "quantize",
        &["plan"],
        Without(&[
            "format",
            "type",
            "requantize",
            "bits",
            "group_size",
            "preset",
            "dtype",
            "mode",
            "granularity",
            "axis",
            "block_size",
            "block_axis",
            "block",
            "config",
            "dialect",
            "search",
            "min_elements",
            "include",
            "exclude",
            "experts",
            "expert_axes",
            "exact_selection",
        ]),
    ),
    need("quantize", &["auto"], Without(WITHOUT_TARGETS)),
    need(
        "quantize",
        &["auto"],
        Without(&["plan", "ranges", "search", "type", "requantize"]),
    ),
    need("quantize", &["quality"], Given("auto")),
    need(
        "plan",
        &["target_bits", "target_size", "target_sqnr"],
        Without(WITHOUT_TARGETS),
    ),
    #[cfg(feature = "run")]
    need("plan", &["samples"], Package),
    #[cfg(feature = "run")]
    need(
        "plan",
        &["samples_limit", "tensor_samples", "image_fit", "memory"],
        Given("samples"),
    ),
    need("plan", &["target_size"], Without(&["target_bits"])),
    need(
        "plan",
        &["target_sqnr"],
        Without(&["target_bits", "target_size"]),
    ),
    need(
        "quantize",
        &["activation_dtype", "activation_mode"],
        Given("ranges"),
    ),
    #[cfg(feature = "run")]
    need(
        "quantize",
        &[
            "samples",
            "samples_limit",
            "image_fit",
            "damping",
            "act_order",
            "memory",
            "hessians",
        ],
        Value("method", &["gptq"]),
    ),
    #[cfg(feature = "run")]
    need("quantize", &["samples"], Package),
    #[cfg(feature = "run")]
    need("quantize", &["hessians"], Without(&["samples"])),
    #[cfg(feature = "run")]
    need("quantize", &["hessians"], Tensors),
    #[cfg(feature = "run")]
    need(
        "quantize",
        &["samples_limit", "image_fit", "memory"],
        Given("samples"),
    ),
    #[cfg(feature = "run")]
    need("quantize", &["ranges"], Value("method", &["nearest"])),
    need(
        "quantize",
        &["ranges", "exact_selection", "target"],
        Package,
    ),
    need("quantize", &["weights_only"], Folder),
    need("dequantize", &["weights_only"], Folder),
    need("convert", &["weights_only"], Folder),
    need(
        "activations",
        &["list"],
        Without(&[
            "ranges", "output", "dtype", "mode", "dry_run", "force", "no_sync", "quiet",
        ]),
    ),
    need("activations", &["config"], Without(&["dtype", "mode"])),
    #[cfg(feature = "run")]
    need("calibrate", &["samples"], Without(&["merge", "name"])),
    #[cfg(feature = "run")]
    need(
        "calibrate",
        &["importance"],
        Without(&[
            "observer",
            "bins",
            "percentile",
            "averaging",
            "dtype",
            "mode",
            "backend",
            "record",
            "resume",
            "checkpoint",
        ]),
    ),
    #[cfg(feature = "run")]
    need(
        "calibrate",
        &[
            "record",
            "image_fit",
            "sequence",
            "samples_limit",
            "function",
            "round_f16",
            "memory",
            "max_iterations",
        ],
        Given("samples"),
    ),
    #[cfg(feature = "run")]
    need("calibrate", &["record"], Without(&["resume"])),
    #[cfg(feature = "run")]
    need("evaluate", &["force"], Given("report")),
    need(
        "calibrate",
        &["merge"],
        Without(&[
            "observer",
            "bins",
            "percentile",
            "averaging",
            "dtype",
            "mode",
            "name",
            "backend",
            "resume",
            "checkpoint",
        ]),
    ),
    need(
        "calibrate",
        &["bins"],
        Value("observer", &["percentile", "entropy", "mse"]),
    ),
    need(
        "calibrate",
        &["percentile"],
        Value("observer", &["percentile"]),
    ),
    need(
        "calibrate",
        &["averaging"],
        Value("observer", &["moving-average"]),
    ),
    need("calibrate", &["resume", "checkpoint"], Files),
];

/// Says what is wrong with the options of a command, if anything is.
///
/// # Errors
/// [`Error::Option`]; where it is the model that they do not fit, [`Error::File`].
pub fn check(matches: &ArgMatches) -> Result<(), Error> {
    let Some((command, matches)) = matches.subcommand() else {
        return Ok(());
    };
    let given = || needs(command).filter(|(option, _)| is_given(matches, option));
    // Two ways to say one thing come before what either needs, and the format before both.
    let excludes = |need: &Need| matches!(need.rule, Without(_));
    for (option, need) in given().filter(|(_, need)| excludes(need)) {
        need.check(option, matches)?;
    }
    check_encoding(matches)?;
    for (option, need) in given().filter(|(_, need)| !excludes(need)) {
        need.check(option, matches)?;
    }
    Ok(())
}

/// What the options of a command need; those of `quant plan` as they do in `quant quantize`, but for
/// those that mean something else there.
fn needs(command: &str) -> impl Iterator<Item = (&'static str, &'static Need)> {
    let alike = match command {
        "plan" => "quantize",
        other => other,
    };
    let has_own = move |option: &str| {
        let mut own = NEEDS.iter().filter(|need| need.command == command);
        own.any(|need| need.options.contains(&option))
    };
    let all = NEEDS
        .iter()
        .flat_map(|need| need.options.iter().map(move |&option| (option, need)));
    all.filter(move |(option, need)| {
        need.command == command || need.command == alike && !has_own(option)
    })
}

/// An encoding has a dialect of its own, or takes the options of the others.
fn check_encoding(matches: &ArgMatches) -> Result<(), Error> {
    let Ok(given) = matches.try_get_one::<Encoding>("format") else {
        return Ok(());
    };
    let of_model = || model(matches).map(|model| encoding_of(model));
    let encoding = given.copied().or_else(of_model).unwrap_or_default();
    let mut given = matches.ids().map(clap::Id::as_str);
    let useless = given.find(|id| is_given(matches, id) && !encoding.takes(id));
    match useless {
        None => Ok(()),
        Some(id) => {
            let other = match alike(id).iter().find(|other| encoding.takes(other)) {
                Some(other) => format!("; there it is {}", flag(other)),
                None => String::new(),
            };
            Err(Error::Option(format!(
                "{} has no effect with --format {encoding}{other}",
                flag(id)
            )))
        }
    }
}

/// What says the same in another format.
fn alike(id: &str) -> &'static [&'static str] {
    match id {
        "group_size" => &["block_size"],
        "granularity" | "block_size" | "block" => &["group_size"],
        "bits" | "dtype" => &["bits", "dtype", "type"],
        _ => &[],
    }
}

impl Need {
    fn check(&self, option: &str, matches: &ArgMatches) -> Result<(), Error> {
        let option = flag(option);
        match &self.rule {
            Value(other, values) => {
                let has = value(matches, other);
                if values.contains(&has.as_str()) {
                    return Ok(());
                }
                let (other, values) = (flag(other), values.join(" or "));
                Err(Error::Option(format!(
                    "{option} has no effect with {other} {has}; it needs {other} {values}"
                )))
            }
            Given(other) => match is_given(matches, other) {
                true => Ok(()),
                false => Err(Error::Option(format!(
                    "{option} has no effect without {}",
                    flag(other)
                ))),
            },
            Without(others) => match others.iter().find(|other| is_given(matches, other)) {
                Some(other) => Err(Error::Option(format!(
                    "{option} and {} exclude each other; give one of them",
                    flag(other)
                ))),
                None => Ok(()),
            },
            Package => fits(matches, "no Core ML package", &option, has_activations),
            // Which axis of a weight is that of the inputs, is known of these alone.
            Tensors => fits(matches, "no safetensors model", &option, |model| {
                result_kind(model).is_tensors
            }),
            Folder => fits(
                matches,
                "no folder of safetensors files",
                &option,
                |model| {
                    let is_tensors = result_kind(model).is_tensors;
                    is_tensors && !is_plain_file(model) && !is_one_file(matches, model)
                },
            ),
            Files => {
                let mut data = matches.get_many::<PathBuf>("data").into_iter().flatten();
                match data.any(|path| path == Path::new("-")) {
                    true => Err(Error::Option(format!(
                        "{option} has no effect on a stream, which does not come again; record to files instead"
                    ))),
                    false => Ok(()),
                }
            }
        }
    }
}

/// Refuses an option for a model of another kind. One that is not there is another error.
fn fits(
    matches: &ArgMatches,
    what: &str,
    option: &str,
    is_kind: impl Fn(&Path) -> bool,
) -> Result<(), Error> {
    match model(matches) {
        Some(model) if model.exists() && !is_kind(model) => {
            Err(without_effect(model, what, option))
        }
        _ => Ok(()),
    }
}

fn model(matches: &ArgMatches) -> Option<&PathBuf> {
    let ids = ["model", "file"];
    ids.iter()
        .find_map(|id| matches.try_get_one(id).ok().flatten())
}

/// Whether the result is one file, although the model may be a folder.
fn is_one_file(matches: &ArgMatches, model: &Path) -> bool {
    let encoding = matches.try_get_one::<Encoding>("format").ok().flatten();
    encoding.is_some_and(|encoding| !quantized_kind(model, *encoding).is_tensors)
}

/// A file that is no index.
fn is_plain_file(path: &Path) -> bool {
    path.is_file() && path.extension().is_none_or(|extension| extension != "json")
}

fn without_effect(model: &Path, what: &str, option: &str) -> Error {
    Error::File {
        file: model.to_owned(),
        problem: format!("{what}; {option} has no effect on any other model"),
    }
}

/// Lines for the user.
pub fn lines(notes: &[Note]) -> Vec<String> {
    notes.iter().map(|note| note.told(&said)).collect()
}

/// An option or command that a message speaks of: as it is typed, or as a program that has called this
/// command says it.
pub fn said(hint: &Hint) -> String {
    called::say().unwrap_or(told)(hint)
}

/// The same as it is typed.
pub fn told(hint: &Hint) -> String {
    if let HintKind::Command(command) = hint.kind {
        return format!("`quant {}`", typed(command));
    }
    let flag = match hint.option.as_str() {
        "output" => "-o".to_owned(),
        option => flag(option),
    };
    match &hint.value {
        Some(value) => format!("{flag} {value}"),
        None => flag,
    }
}

/// What is typed for a command behind the program's name.
fn typed(command: HintCommand) -> &'static str {
    match command {
        HintCommand::Activations => "activations",
        HintCommand::Calibrate => "calibrate",
        HintCommand::Dequantize => "dequantize",
        HintCommand::Inspect => "inspect",
        HintCommand::ListActivations => "activations --list",
        HintCommand::Plan => "plan",
        HintCommand::Quantize => "quantize",
    }
}

fn flag(option: &str) -> String {
    format!("--{}", option.replace('_', "-"))
}

/// Whether an option is given; one that the command does not have is not.
fn is_given(matches: &ArgMatches, option: &str) -> bool {
    matches.try_contains_id(option).is_ok()
        && matches.value_source(option) == Some(ValueSource::CommandLine)
}

/// A choice as it was written, by the name that it has in help.
fn value(matches: &ArgMatches, option: &str) -> String {
    let raw = matches
        .get_raw(option)
        .and_then(|mut values| values.next_back());
    let raw = raw.unwrap_or_default().to_string_lossy();
    // Aliases are coremltools' spelling.
    raw.replace('_', "-")
}

#[cfg(test)]
mod tests;
