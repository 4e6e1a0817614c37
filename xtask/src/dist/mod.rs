//! `cargo xtask dist`: what is given to people who link the library, under `target/dist`.
//!
//! cargo-c would install the host's part, but leaves every symbol of Rust's in the static library
//! and knows neither CMake nor Apple's bundles: a page of code does all of it alike.

mod apple;
mod host;
mod notices;
mod programs;
mod reproduce;
mod symbols;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::paths;
use crate::toolchain::{HOST, root, target_dir};

pub use notices::{linked, of as notices_of};
pub use reproduce::reproduce;

/// How the host's libraries are compiled.
#[derive(Clone, Copy)]
pub enum BuildKind {
    /// All crates as one, for others.
    Whole,
    /// Of crates that are compiled for other tasks too, each for itself.
    Checked,
}

/// Builds and checks the host's part, and Apple's; copies the host's part to `wanted`.
pub fn dist(kind: BuildKind, only_host: bool, wanted: Option<&Path>) -> Outcome {
    let prefix = install(HOST, kind)?;
    println!("C and C++ programs find it by pkg-config and CMake, and are run");
    programs::check(&prefix)?;
    if matches!(kind, BuildKind::Checked) {
        println!("not for others: {}", prefix.display());
        return Ok(());
    }
    publish(HOST)?;
    if let Some(wanted) = wanted {
        fs::create_dir_all(wanted)?;
        copy_links(&target_dir().join("dist").join(HOST), wanted)?;
        println!("installed: {}", wanted.display());
    }
    if !only_host {
        apple::bundle()?;
    }
    Ok(())
}

/// Builds the host's part into a folder of this name among the unfinished ones, and checks what is
/// in it.
pub fn install(name: &str, kind: BuildKind) -> Result<PathBuf, Box<dyn Error>> {
    let prefix = host::install(name, kind)?;
    notices::write(&prefix.join("share/doc/quant"), HOST)?;
    paths::check(&prefix)?;
    Ok(prefix)
}

/// An empty folder of this name, for what is not finished yet.
pub fn fresh_folder(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let folder = unfinished().join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn unfinished() -> PathBuf {
    target_dir().join("dist-unfinished")
}

/// A finished folder takes the place of an earlier one under `target/dist`, whole.
pub fn publish(name: &str) -> Outcome {
    let to = target_dir().join("dist").join(name);
    fs::create_dir_all(to.parent().unwrap_or(root()))?;
    if to.exists() {
        let old = fresh_folder("old")?;
        fs::rename(&to, old.join(name))?;
        fs::rename(unfinished().join(name), &to)?;
        fs::remove_dir_all(old)?;
    } else {
        fs::rename(unfinished().join(name), &to)?;
    }
    println!("finished: {}", to.display());
    Ok(())
}

/// Writes a file, and the folders that it is in.
fn write(path: &Path, text: &str) -> Outcome {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(fs::write(path, text)?)
}

/// Runs a command, which must succeed; returns what it prints.
pub fn run(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let output = command.output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}\n{text}{errors}", output.status).into());
    }
    Ok(text)
}

/// Copies what is in a folder, links as links, over what is there.
fn copy_links(from: &Path, to: &Path) -> Outcome {
    let told = |error: std::io::Error, to: &Path| format!("{}: {error}", to.display());
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&to).map_err(|error| told(error, &to))?;
            copy_links(&from, &to)?;
            continue;
        }
        // A program that uses the old library keeps it.
        if to.symlink_metadata().is_ok() {
            fs::remove_file(&to).map_err(|error| told(error, &to))?;
        }
        match entry.file_type()?.is_symlink() {
            true => std::os::unix::fs::symlink(fs::read_link(&from)?, &to),
            false => fs::copy(&from, &to).map(|_| ()),
        }
        .map_err(|error| told(error, &to))?;
    }
    Ok(())
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
