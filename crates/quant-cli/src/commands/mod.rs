//! The subcommands, a file each: its arguments and its run.

mod activations;
mod auto;
mod backends;
mod calibrate;
mod completions;
mod convert;
mod dequantize;
mod diff;
#[cfg(feature = "run")]
mod evaluate;
#[cfg(feature = "run")]
mod gptq;
#[cfg(feature = "run")]
mod importance;
mod index;
mod inspect;
mod man;
#[cfg(feature = "run")]
mod observing;
mod plan;
mod plot;
mod quantize;
#[cfg(feature = "run")]
mod run;
#[cfg(feature = "run")]
mod running;

use std::ffi::OsString;

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use quant_models::{Error, columns};

use crate::status;
use crate::terminal::help_width;

const EXAMPLES: &str = "\
Examples:
  quant quantize model.safetensors --dtype int4 --granularity per-block
  quant inspect model.int4.safetensors
  quant diff model.safetensors model.int4.safetensors";

/// Linear quantization of model files, with the arithmetic of coremltools.
#[derive(Parser)]
#[command(name = "quant", version, after_long_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Quantize(quantize::Quantize),
    Plan(plan::Plan),
    Activations(activations::Activations),
    Calibrate(calibrate::Calibrate),
    Plot(plot::Plot),
    #[cfg(feature = "run")]
    Run(run::Run),
    #[cfg(feature = "run")]
    Evaluate(evaluate::Evaluate),
    Dequantize(dequantize::Dequantize),
    Convert(convert::Convert),
    Inspect(inspect::Inspect),
    Index(index::Index),
    Diff(diff::Diff),
    Backends(backends::Backends),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Arguments {
    /// Those of the command line, and which of them were given.
    pub fn read(
        line: impl IntoIterator<Item = OsString>,
    ) -> Result<(Self, ArgMatches), clap::Error> {
        let line: Vec<OsString> = line.into_iter().collect();
        // A tenth of the time that a small model takes would go into help that nobody asked for.
        let matches = Self::command()
            .try_get_matches_from(&line)
            .or_else(|_| with_status(Self::command(), help_width()).try_get_matches_from(&line))?;
        Ok((Self::from_arg_matches(&matches)?, matches))
    }

    /// Whether the exit status is that of diff(1).
    pub fn is_diff(&self) -> bool {
        matches!(self.command, Command::Diff(_))
    }

    /// Does what was asked; the exit status says how it went.
    pub fn run(self) -> Result<u8, Error> {
        match self.command {
            Command::Quantize(command) => command.run()?,
            Command::Plan(command) => command.run()?,
            Command::Activations(command) => command.run()?,
            Command::Calibrate(command) => command.run()?,
            Command::Plot(command) => command.run()?,
            #[cfg(feature = "run")]
            Command::Run(command) => command.run()?,
            #[cfg(feature = "run")]
            Command::Evaluate(command) => command.run()?,
            Command::Dequantize(command) => command.run()?,
            Command::Convert(command) => command.run()?,
            Command::Inspect(command) => command.run()?,
            Command::Index(command) => command.run()?,
            Command::Diff(command) => return command.run(),
            Command::Backends(command) => command.run()?,
            Command::Completions(command) => command.run(&mut Self::command())?,
            Command::Man(command) => command.run(with_status(Self::command(), usize::MAX))?,
        }
        Ok(status::DONE)
    }
}

/// Every help text, and so every manual page, ends with the exit statuses; help is so wide.
fn with_status(command: clap::Command, width: usize) -> clap::Command {
    let help = match command.get_after_long_help() {
        Some(help) => format!("{help}\n\n{}", status::TABLE),
        None => status::TABLE.to_owned(),
    };
    let command = command
        .term_width(width)
        .after_long_help(fitted(&help, width));
    command.mut_subcommands(|command| with_status(command, width))
}

/// Examples and exit statuses in lines that clap need not wrap: a command goes on behind a backslash, and
/// text below text.
fn fitted(help: &str, width: usize) -> String {
    let fitted = |line: &str| {
        if columns(line) <= width {
            return line.to_owned();
        }
        let text = line.trim_start();
        let indent = &line[..line.len() - text.len()];
        let is_command = ["quant ", "python "]
            .iter()
            .any(|name| text.starts_with(name));
        let (hanging, end) = match (is_command, line.rfind("  ")) {
            (true, _) => (indent.len() + 4, " \\\n"),
            (false, Some(gap)) => (gap + 2, "\n"),
            (false, None) => (0, "\n"),
        };
        let hanging = " ".repeat(hanging);
        let options = textwrap::Options::new(width.saturating_sub(end.len() - 1))
            .initial_indent(indent)
            .subsequent_indent(&hanging)
            .word_splitter(textwrap::WordSplitter::NoHyphenation)
            .break_words(false);
        textwrap::wrap(text, options).join(end)
    };
    help.lines().map(fitted).collect::<Vec<_>>().join("\n")
}
