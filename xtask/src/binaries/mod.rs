//! `cargo xtask release`: what is given to people who install instead of compiling: wheels of the
//! Python package, its sources, the command and the C library, for Linux and macOS, all of it made on
//! Linux.
//!
//! Zig links for each of these systems; it comes as a Python package, as do maturin and cargo-zigbuild.

mod bill;
mod build;
mod check;
mod mach_o;
mod pack;
mod pythons;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::dist::{fresh_folder, publish, run};
use crate::python;
use crate::toolchain::{HOST, Target};

/// What builds them.
const REQUIREMENTS: [&str; 3] = ["cargo-zigbuild>=0.24", "maturin>=1.16,<2", "ziglang>=0.15"];

/// The oldest glibc that wheels run with.
const MANYLINUX: &str = "manylinux_2_17";

/// A system and processor that files are for.
struct System {
    /// In names of files.
    name: &'static str,
    /// For wheels.
    wheel: &'static Target,
    /// For the command.
    command: &'static Target,
}

const SYSTEMS: [System; 3] = [
    System {
        name: "linux-x86_64",
        wheel: &Target::zig("x86_64-unknown-linux-gnu"),
        command: &Target::zig("x86_64-unknown-linux-musl"),
    },
    System {
        name: "linux-aarch64",
        wheel: &Target::zig("aarch64-unknown-linux-gnu"),
        command: &Target::zig("aarch64-unknown-linux-musl"),
    },
    System {
        name: "macos-arm64",
        wheel: &Target::zig("aarch64-apple-darwin"),
        command: &Target::zig("aarch64-apple-darwin"),
    },
];

/// Builds and checks what is wanted: `sdist`; `libraries`; all for a system, by its name; or one part
/// of that, such as `macos-arm64-wheel` or `macos-arm64-command`. Everything where `only` is empty; and
/// a formula for Homebrew, for archives that people get from below `address`.
pub fn release(only: &[String], address: Option<&str>) -> Outcome {
    let wanted = Wanted::new(only)?;
    let tools = python::environment("release-tools", &REQUIREMENTS)?;
    let name = match only.is_empty() {
        true => "release".to_owned(),
        false => format!("release-{}", only.join("-")),
    };
    let folder = fresh_folder(&name)?;
    let notices = build::Notices::write()?;
    if wanted.has("sdist", "") {
        let sources = build::sdist(&tools, &folder)?;
        check::sources(&sources)?;
    }
    for system in &SYSTEMS {
        if wanted.has(system.name, "-command") {
            let program = build::command(&tools, system)?;
            let archive = pack::command(system, &program, &folder)?;
            check::command(system, &archive)?;
        }
        if wanted.has(system.name, "-wheel") {
            let wheel = build::wheel(&tools, system.wheel, &folder)?;
            check::wheel(system, &wheel)?;
        }
    }
    drop(notices);
    if wanted.has("libraries", "") {
        pack::libraries(&folder)?;
    }
    bill::write(&folder)?;
    let sums = sums(&folder)?;
    match address {
        Some(address) => pack::formula(address, &sums, &folder)?,
        None => println!("no formula for Homebrew: that takes --address"),
    }
    crate::paths::check(&folder)?;
    publish(&name)
}

/// What is to be built.
struct Wanted<'a> {
    only: &'a [String],
}

impl<'a> Wanted<'a> {
    /// # Errors
    /// A name that nothing has.
    fn new(only: &'a [String]) -> Result<Self, Box<dyn Error>> {
        let parts = ["", "-command", "-wheel"];
        let names = SYSTEMS
            .iter()
            .flat_map(|system| parts.map(|part| format!("{}{part}", system.name)));
        let others = ["sdist", "libraries"].map(str::to_owned);
        let names: Vec<String> = names.chain(others).collect();
        match only.iter().find(|it| !names.contains(it)) {
            Some(unknown) => Err(format!("no {unknown}; there are {}", names.join(", ")).into()),
            None => Ok(Self { only }),
        }
    }

    fn has(&self, name: &str, part: &str) -> bool {
        let whole = format!("{name}{part}");
        self.only.is_empty() || self.only.iter().any(|it| it == name || *it == whole)
    }
}

/// `SHA256SUMS`, as `sha256sum --check` reads it; a list for people; and the digests by names of files.
fn sums(folder: &Path) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder)? {
        files.push(entry?.file_name().into());
    }
    files.sort();
    let text = run(Command::new("sha256sum").args(&files).current_dir(folder))?;
    for file in &files {
        let size = fs::metadata(folder.join(file))?.len();
        println!("{:>12} {}", size, file.display());
    }
    fs::write(folder.join("SHA256SUMS"), &text)?;
    let lines = text.lines().filter_map(|line| line.split_once("  "));
    Ok(lines
        .map(|(sum, file)| (file.to_owned(), sum.to_owned()))
        .collect())
}

/// The only file of a folder that was not there before.
fn new_file(folder: &Path, before: &[PathBuf]) -> Result<PathBuf, Box<dyn Error>> {
    let mut new = files(folder)?;
    new.retain(|path| !before.contains(path));
    match new.as_slice() {
        [path] => Ok(path.clone()),
        _ => Err(format!("{} files where one is made: {new:?}", new.len()).into()),
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let entries = fs::read_dir(folder)?;
    Ok(entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?)
}

/// Whether this machine runs what is for a system.
fn is_host(system: &System) -> bool {
    system.wheel.triple == HOST
}
