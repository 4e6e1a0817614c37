//! Our licences, and those of everything that the C library, the command and the wheels are made of.
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
/// For packages without a text that may be taken under a licence which is the same for all.
const APACHE: &str = "Apache-2.0, the text of which is LICENSE-APACHE beside this file";
/// How the names of files with a licence, or a notice that goes with it, begin.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub license: Option<String>,
    repository: Option<String>,
    /// `None` for our own.
    source: Option<String>,
    manifest_path: PathBuf,
}

/// Writes `LICENSE-APACHE`, `LICENSE-MIT` and `THIRD-PARTY-NOTICES` into a folder, for the library
/// that is built for a target.
///
/// # Errors
/// If a package has no licence, or does not carry its text.
pub fn write(folder: &Path, triple: &str) -> Outcome {
    of(PACKAGE, triple, folder).map(drop)
}

/// The same for another of our packages; for all targets, where `triple` is `all`. Returns the names of
/// the files.
pub fn of(package: &str, triple: &str, folder: &Path) -> Result<[&'static str; 3], Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let names = ["LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY-NOTICES"];
    for name in &names[..2] {
        let (text, copy) = (root().join(name), folder.join(name));
        // In a package it is a link to the text, which a copy would empty.
        if copy.canonicalize().ok() != Some(text.canonicalize()?) {
            fs::copy(text, copy)?;
        }
    }
    let (text, count) = notices(&linked(package, triple)?)?;
    fs::write(folder.join(names[2]), text)?;
    println!("THIRD-PARTY-NOTICES: {count} packages, and Rust's standard library");
    Ok(names)
}

fn notices(packages: &[Package]) -> Result<(String, usize), Box<dyn Error>> {
    let mut text = String::from(
        "This contains parts of the following packages, under their own licences.\n\n\
         Rust's standard library (The Rust Project Contributors): MIT OR Apache-2.0, the texts of\n\
         which stand beside this file\n",
    );
    // The same text is written once, with all packages that it is of.
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages {
        let Package { name, version, .. } = package;
        let license = package.license.as_deref();
        let license = license.ok_or_else(|| format!("{name} {version} names no licence"))?;
        writeln!(text, "{name} {version}: {license}")?;
        for license in texts_for(package, packages)? {
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

/// Other people's packages that end up in one of ours; of all targets, where `triple` is `all`.
///
/// # Errors
/// If there are none.
pub fn linked(package: &str, triple: &str) -> Result<Vec<Package>, Box<dyn Error>> {
    let mut tree = cargo("tree");
    tree.args(["--package", package, "--edges", "normal,no-proc-macro"]);
    tree.args(["--target", triple, "--prefix", "none", "--format", "{p}"]);
    let tree = run(&mut tree)?;
    // A line: name, version with a `v`, and for our own the folder.
    let names: BTreeSet<(&str, &str)> = tree
        .lines()
        .filter_map(|line| line.split_once(" v"))
        .map(|(name, rest)| (name, rest.split(' ').next().unwrap_or(rest)))
        .collect();
    let mut metadata = cargo("metadata");
    metadata.args(["--format-version", "1"]);
    if triple != "all" {
        metadata.args(["--filter-platform", triple]);
    }
    let metadata: Metadata = serde_json::from_str(&run(&mut metadata)?)?;
    let mut packages = metadata.packages;
    packages.retain(|it| {
        it.source.is_some() && names.contains(&(it.name.as_str(), it.version.as_str()))
    });
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    match packages.is_empty() {
        true => Err(format!("cargo tree lists nothing that {package} is made of").into()),
        false => Ok(packages),
    }
}

/// The texts that a package carries, or those of another from the same repository; or where one stands
/// that it may be taken under.
fn texts_for(package: &Package, packages: &[Package]) -> Result<Vec<String>, Box<dyn Error>> {
    let repository = |it: &Package| {
        let address = it.repository.as_deref()?.trim_end_matches('/');
        Some(address.trim_end_matches(".git").to_owned())
    };
    let is_sibling = |it: &&Package| {
        it.license == package.license
            && repository(it).is_some()
            && repository(it) == repository(package)
    };
    let siblings = packages.iter().filter(is_sibling);
    for package in std::iter::once(package).chain(siblings) {
        let texts = license_texts(package)?;
        if !texts.is_empty() {
            return Ok(texts);
        }
    }
    let Package { name, version, .. } = package;
    let mut choices = package.license.iter().flat_map(|it| it.split(" OR "));
    match choices.any(|it| it == "Apache-2.0") {
        true => Ok(vec![APACHE.to_owned()]),
        false => Err(format!("{name} {version} carries no text of its licence").into()),
    }
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

#[cfg(test)]
mod tests {
    use super::{APACHE, Package, linked, notices};
    use crate::toolchain::HOST;

    #[test]
    fn what_is_linked_is_named_with_its_licence_and_nothing_else() {
        let (text, count) = notices(&linked(super::PACKAGE, HOST).unwrap()).unwrap();
        for name in ["half", "pulp", "rayon", "rayon-core"] {
            assert!(text.contains(&format!("\n{name} ")), "{name}");
        }
        // Macros and what tests need are not in the library.
        for name in ["proptest", "syn", "serde", "ndarray"] {
            assert!(!text.contains(&format!("\n{name} ")), "{name}");
        }
        assert!(count >= 10 && text.contains("Permission is hereby granted"));
    }

    #[test]
    fn a_package_without_a_licence_is_refused() {
        let folder = std::env::temp_dir().join(format!("quant-notices-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let package = |license: Option<&str>| Package {
            name: "thing".to_owned(),
            version: "1.0.0".to_owned(),
            license: license.map(str::to_owned),
            repository: None,
            source: None,
            manifest_path: folder.join("Cargo.toml"),
        };
        let refused = |license| notices(&[package(license)]).unwrap_err().to_string();
        assert_eq!(refused(None), "thing 1.0.0 names no licence");
        let without = "thing 1.0.0 carries no text of its licence";
        assert_eq!(refused(Some("MIT")), without);
        let (text, _) = notices(&[package(Some("MIT OR Apache-2.0"))]).unwrap();
        assert!(
            text.ends_with(&format!("\nthing 1.0.0\n\n{APACHE}\n")),
            "{text}"
        );
        assert!(notices(&[package(Some("MIT AND Apache-2.0"))]).is_err());
        std::fs::write(folder.join("LICENSE"), "as you like").unwrap();
        let (text, _) = notices(&[package(Some("MIT"))]).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(text.ends_with("\nthing 1.0.0\n\nas you like\n"), "{text}");
    }
}
