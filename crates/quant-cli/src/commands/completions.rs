//! `quant completions`.

use clap::{Args, Command};
use clap_complete::Shell;
use quant_models::Error;

use crate::terminal::print;

/// Print completions for a shell
#[derive(Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub fn run(&self, command: &mut Command) -> Result<(), Error> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, command, "quant", &mut text);
        print(&String::from_utf8_lossy(&text))
    }
}
