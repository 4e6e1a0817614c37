//! `cargo xtask package`: what would be published builds from its archives alone, and the examples in
//! its documentation run from there.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use serde::Deserialize;

use crate::Outcome;
use crate::dist::run;
use crate::toolchain::{cargo, root, target_dir};

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    /// The registries it may go to; none of them where it is not to be published.
    publish: Option<Vec<String>>,
}

/// Packs all crates that are published, builds each from its archive, and runs their examples.
pub fn package() -> Outcome {
    let packages = published()?;
    let names: Vec<&str> = packages.iter().map(|it| it.name.as_str()).collect();
    println!("packed and built: {}", names.join(", "));
    let mut pack = cargo("package");
    pack.args(["--locked", "--allow-dirty"]);
    for name in &names {
        pack.args(["--package", name]);
    }
    if !pack.status()?.success() {
        return Err("an archive does not build".into());
    }

    // A workspace of the archives, in which they find one another.
    let folder = target_dir().join("package-examples");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut manifest = String::from("[workspace]\nresolver = \"3\"\nmembers = [\"quant-*\"]\n\n");
    manifest += "[patch.crates-io]\n";
    for Package { name, version, .. } in &packages {
        let archive = target_dir().join(format!("package/{name}-{version}.crate"));
        let mut unpack = Command::new("tar");
        unpack.arg("-xzf").arg(&archive).arg("-C").arg(&folder);
        run(&mut unpack)?;
        writeln!(manifest, "{name} = {{ path = \"{name}-{version}\" }}")?;
    }
    fs::write(folder.join("Cargo.toml"), manifest)?;
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock"))?;
    println!("the examples of their documentation are run");
    let mut examples = cargo("test");
    examples.current_dir(&folder).args(["--doc", "--workspace"]);
    examples.env("CARGO_TARGET_DIR", target_dir());
    match examples.status()?.success() {
        true => Ok(()),
        false => Err("an example in an archive fails".into()),
    }
}

fn published() -> Result<Vec<Package>, Box<dyn Error>> {
    let mut metadata = cargo("metadata");
    metadata.args(["--no-deps", "--format-version", "1"]);
    let metadata: Metadata = serde_json::from_str(&run(&mut metadata)?)?;
    let mut packages = metadata.packages;
    packages.retain(|it| {
        it.publish
            .as_ref()
            .is_none_or(|registries| !registries.is_empty())
    });
    Ok(packages)
}
