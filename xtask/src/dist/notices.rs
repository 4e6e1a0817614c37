//! Our licences, and those of everything that the C library is made of.
//!
//! cargo-about would write them, too, but is compiled for minutes, and looks up what a package does
//! not carry on the network: here, that is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::run;
use crate::Outcome;
use crate::toolchain::{cargo, root};

/// What is given to others.
const PACKAGE: &str = "quant-capi";
/// How the names of files with a licence, or a notice that goes with it, begin.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// `None` for what ends up in the library, and not only helps to build or test it.
    kind: Option<String>,
}

/// Writes `LICENSE-APACHE`, `LICENSE-MIT` and `THIRD-PARTY-NOTICES` into a folder, for the library
/// that is built for a target.
///
/// # Errors
/// If a package has no licence, or does not carry its text.
pub fn write(folder: &Path, triple: &str) -> Outcome {
    fs::create_dir_all(folder)?;
    for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
        fs::copy(root().join(name), folder.join(name))?;
    }
    let mut metadata = cargo("metadata");
    metadata.args(["--format-version", "1", "--filter-platform", triple]);
    let metadata: Metadata = serde_json::from_str(&run(&mut metadata)?)?;
    let (text, count) = notices(&metadata)?;
    fs::write(folder.join("THIRD-PARTY-NOTICES"), text)?;
    println!("THIRD-PARTY-NOTICES: {count} packages, and Rust's standard library");
    Ok(())
}

fn notices(metadata: &Metadata) -> Result<(String, usize), Box<dyn Error>> {
    let mut text = String::from(
        "The library contains parts of the following packages, under their own licences.\n\n\
         Rust's standard library (The Rust Project Developers): MIT OR Apache-2.0, the texts of\n\
         which stand beside this file. Copyright (c) The Rust Project Contributors\n",
    );
    // The same text is written once, with all packages that it is of.
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let packages = linked(metadata)?;
    for package in &packages {
        let Package { name, version, .. } = package;
        let license = package.license.as_deref();
        let license = license.ok_or_else(|| format!("{name} {version} names no licence"))?;
        writeln!(text, "{name} {version}: {license}")?;
        let found = license_texts(package)?;
        if found.is_empty() {
            return Err(format!("{name} {version} carries no text of its licence").into());
        }
        for license in found {
            let of = texts.entry(license).or_default();
            of.insert(format!("{name} {version}"));
        }
    }
    for (license, of) in texts {
        let of: Vec<String> = of.into_iter().collect();
        let rule = "-".repeat(80);
        write!(text, "\n{rule}\n{}\n\n{}\n", of.join(", "), license.trim())?;
    }
    Ok((text, packages.len()))
}

/// Other people's packages that end up in the library.
fn linked(metadata: &Metadata) -> Result<Vec<&Package>, Box<dyn Error>> {
    let of_name = |it: &&Package| it.name == PACKAGE;
    let first = metadata.packages.iter().find(of_name);
    let mut waiting = vec![first.ok_or("the C library is no package")?.id.as_str()];
    let mut reached = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !reached.insert(id) {
            continue;
        }
        let node = metadata.resolve.nodes.iter().find(|node| node.id == id);
        for dependency in &node.ok_or("a package is not resolved")?.deps {
            if dependency.dep_kinds.iter().any(|it| it.kind.is_none()) {
                waiting.push(&dependency.pkg);
            }
        }
    }
    let is_linked = |it: &&Package| reached.contains(it.id.as_str()) && it.source.is_some();
    let mut packages: Vec<&Package> = metadata.packages.iter().filter(is_linked).collect();
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(packages)
}

fn license_texts(package: &Package) -> Result<Vec<String>, Box<dyn Error>> {
    let folder = package.manifest_path.parent().ok_or("a folder")?;
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if NAMES.iter().any(|it| name.starts_with(it)) {
            match entry.file_type()?.is_dir() {
                false => paths.push(entry.path()),
                true => {
                    for inner in fs::read_dir(entry.path())? {
                        paths.push(inner?.path());
                    }
                }
            }
        }
    }
    paths.sort();
    let read = |path: &PathBuf| Ok(fs::read_to_string(path)?.replace("\r\n", "\n"));
    paths.iter().map(read).collect()
}
