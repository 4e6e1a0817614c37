//! `cargo xtask dist`: what is given to people who link the library, under `target/dist`.
//!
//! cargo-c would install the host's part, but leaves every symbol of Rust's in the static library
//! and knows neither CMake nor Apple's bundles: a page of code does all of it alike.

mod apple;
mod host;
mod programs;
mod symbols;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::toolchain::target_dir;

pub use host::install;

/// Builds and checks the host's part, and Apple's.
pub fn dist(only_host: bool) -> Outcome {
    let prefix = host::install()?;
    programs::check(&prefix)?;
    match only_host {
        true => Ok(()),
        false => apple::bundle(),
    }
}

/// `target/dist/name`, empty.
fn fresh_folder(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let folder = target_dir().join("dist").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Writes a file, and the folders that it is in.
fn write(path: &Path, text: &str) -> Outcome {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(fs::write(path, text)?)
}

/// Runs a command, which must succeed; returns what it prints.
fn run(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let output = command.output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}\n{text}{errors}", output.status).into());
    }
    Ok(text)
}

/// Copies what is in a folder, but for what Swift built there.
pub fn copy_folder(from: &Path, to: &Path) -> Outcome {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true if entry.file_name() == ".build" => {}
            true => copy_folder(&entry.path(), &target)?,
            false => {
                fs::copy(entry.path(), target)?;
            }
        }
    }
    Ok(())
}
