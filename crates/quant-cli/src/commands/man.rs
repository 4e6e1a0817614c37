//! `quant man`.

use clap::{Args, Command};
use quant_models::Error;

use crate::terminal::{print, stdout_error};

/// Print the manual page
#[derive(Args)]
pub struct Man;

impl Man {
    pub fn run(&self, command: Command) -> Result<(), Error> {
        let mut text = Vec::new();
        let page = clap_mangen::Man::new(command);
        page.render(&mut text).map_err(stdout_error)?;
        print(&String::from_utf8_lossy(&text))
    }
}
