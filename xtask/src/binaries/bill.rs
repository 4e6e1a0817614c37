//! Bills of materials in the form of CycloneDX: every package that is in what is given to others, by
//! CycloneDX's own subcommand of cargo.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Outcome;
use crate::dist::{linked, run};
use crate::toolchain::{cargo, root, stdout};

/// The packages that are given to others, and what each is.
const GIVEN: [(&str, &str); 3] = [
    ("quant-capi", "libquant"),
    ("quant-cli", "quant"),
    ("quant-python", "linquant"),
];

/// What the subcommand's files are called while they stand beside each package's manifest.
const FILE: &str = "bill-of-materials";

/// Writes `NAME.cdx.json` for the C library, the command and the Python package.
///
/// # Errors
/// If a bill leaves out what cargo says is linked.
pub fn write(folder: &Path) -> Outcome {
    let mut bills = cargo("cyclonedx");
    bills.args([
        "--format",
        "json",
        "--spec-version",
        "1.5",
        "--target",
        "all",
    ]);
    bills.args(["--no-build-deps", "--override-filename", FILE]);
    // No time of day: the same sources give the same bills.
    run(bills.env("SOURCE_DATE_EPOCH", "0"))?;
    let done = GIVEN.iter().try_for_each(|(package, name)| {
        let text = fs::read_to_string(file_of(package)?)?;
        let text = text.replace(&root().display().to_string(), "/quant");
        check(package, &serde_json::from_str(&text)?)?;
        Ok(fs::write(folder.join(format!("{name}.cdx.json")), text)?)
    });
    for manifest in manifests()? {
        fs::remove_file(manifest.with_file_name(format!("{FILE}.json")))?;
    }
    done
}

fn file_of(package: &str) -> Result<PathBuf, Box<dyn Error>> {
    let manifests = manifests()?;
    let is_it = |it: &&PathBuf| it.parent().is_some_and(|folder| folder.ends_with(package));
    let manifest = manifests.iter().find(is_it);
    let manifest = manifest.ok_or_else(|| format!("no package {package}"))?;
    Ok(manifest.with_file_name(format!("{FILE}.json")))
}

/// Those of our packages.
fn manifests() -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut metadata = cargo("metadata");
    metadata.args(["--format-version", "1", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&stdout(&mut metadata).ok_or("cargo metadata")?)?;
    let packages = metadata["packages"].as_array().ok_or("no packages")?;
    let paths = packages
        .iter()
        .filter_map(|it| it["manifest_path"].as_str());
    Ok(paths.map(PathBuf::from).collect())
}

fn check(package: &str, bill: &Value) -> Outcome {
    let listed = bill["components"].as_array().ok_or("a bill of nothing")?;
    let linked = linked(package, "all")?;
    for one in &linked {
        let is_it = |it: &&Value| it["name"] == *one.name && it["version"] == *one.version;
        if listed
            .iter()
            .find(is_it)
            .is_none_or(|it| it["licenses"].is_null())
        {
            let (name, version) = (&one.name, &one.version);
            return Err(
                format!("the bill of {package} lacks {name} {version}, or its licence").into(),
            );
        }
    }
    println!("{package}: a bill of {} packages", listed.len());
    Ok(())
}
