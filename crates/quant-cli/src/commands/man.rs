//! `quant man`.

use clap::builder::PossibleValuesParser;
use clap::{Args, Command};
use quant_models::Error;

use crate::terminal::{print, stdout_error};

const EXAMPLE: &str = "\
Example:
  quant man quantize | man -l -";

/// Print a manual page
#[derive(Args)]
#[command(after_long_help = EXAMPLE)]
pub struct Man {
    /// The command that it is about [default: all of quant]
    #[arg(value_parser = PossibleValuesParser::new(COMMANDS.iter().copied()))]
    command: Option<String>,
}

/// Those that have a page.
const COMMANDS: &[&str] = &[
    "quantize",
    "plan",
    "activations",
    "calibrate",
    "plot",
    #[cfg(feature = "run")]
    "run",
    #[cfg(feature = "run")]
    "evaluate",
    "dequantize",
    "convert",
    "inspect",
    "index",
    "diff",
    "backends",
    "completions",
    "man",
];

impl Man {
    pub fn run(&self, mut command: Command) -> Result<(), Error> {
        command.build();
        let page = match &self.command {
            Some(name) => command.find_subcommand(name).cloned(),
            None => None,
        };
        let mut text = Vec::new();
        let page = clap_mangen::Man::new(page.unwrap_or(command));
        page.render(&mut text).map_err(stdout_error)?;
        print(&String::from_utf8_lossy(&text))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let command = crate::commands::Arguments::command();
        let names: Vec<_> = command.get_subcommands().map(Command::get_name).collect();
        assert_eq!(names, COMMANDS);
    }
}
