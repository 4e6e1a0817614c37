//! Archives, with licences and notices, and the formula by which Homebrew finds them.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{SYSTEMS, System};
use crate::Outcome;
use crate::codegen::version;
use crate::dist::{self, copy_folder, fresh_folder, run};
use crate::toolchain::{HOST, target_dir};

/// Where a formula leaves room for what a release knows.
const FORMULA: &str = include_str!("../../../packaging/homebrew/quant.rb.in");

/// The command's archive: the program, our licences, and those of what it is made of.
pub fn command(system: &System, program: &Path, folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let name = format!("quant-{}-{}", version(), system.name);
    let work = fresh_folder("archive")?;
    let content = work.join(&name);
    dist::notices_of("quant-cli", system.command.triple, &content)?;
    fs::copy(program, content.join("quant"))?;
    let archive = archive(&work, &name, folder)?;
    fs::remove_dir_all(work)?;
    Ok(archive)
}

/// The C library for this machine, and the Swift package with Apple's, as `cargo xtask dist` makes and
/// checks them.
pub fn libraries(folder: &Path) -> Outcome {
    dist::dist(dist::BuildKind::Whole, false, None)?;
    let host = SYSTEMS.iter().find(|it| it.wheel.triple == HOST);
    let host = host.map_or(HOST, |it| it.name);
    let work = fresh_folder("archive")?;
    for (made, name) in [
        (HOST, format!("quant-c-{}-{host}", version())),
        ("swift", format!("quant-swift-{}", version())),
    ] {
        copy_folder(&target_dir().join("dist").join(made), &work.join(&name))?;
        archive(&work, &name, folder)?;
    }
    Ok(fs::remove_dir_all(work)?)
}

/// `NAME.tar.gz` of a folder; the same bytes whenever it is made.
fn archive(work: &Path, name: &str, folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let to = folder.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--mtime=@0", "--format=ustar"]);
    tar.args([
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mode=go=rX,u+rw",
    ]);
    tar.args(["--use-compress-program", "gzip -n -9", "--file"])
        .arg(&to);
    run(tar.arg("--directory").arg(work).arg(name))?;
    Ok(to)
}

/// What is in an archive of ours, unpacked into a folder of its own.
pub fn unpacked(archive: &Path, name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let folder = fresh_folder(name)?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--strip-components=1", "--file"])
        .arg(archive);
    run(tar.arg("--directory").arg(&folder))?;
    Ok(folder)
}

/// Writes `quant.rb`, for archives that people get from below `address`.
///
/// # Errors
/// If an archive is missing.
pub fn formula(address: &str, sums: &BTreeMap<String, String>, folder: &Path) -> Outcome {
    Ok(fs::write(folder.join("quant.rb"), filled(address, sums)?)?)
}

fn filled(address: &str, sums: &BTreeMap<String, String>) -> Result<String, Box<dyn Error>> {
    let mut text = FORMULA.replace("@VERSION@", version());
    for system in &SYSTEMS {
        let file = format!("quant-{}-{}.tar.gz", version(), system.name);
        let sum = sums.get(&file).ok_or_else(|| format!("no {file}"))?;
        let address = format!("{}/{file}", address.trim_end_matches('/'));
        text = text.replace(&format!("@URL {}@", system.name), &address);
        text = text.replace(&format!("@SHA256 {}@", system.name), sum);
    }
    match text.contains('@') {
        true => Err("the formula leaves room for what is not known".into()),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::filled;
    use crate::binaries::SYSTEMS;
    use crate::codegen::version;

    #[test]
    fn a_formula_has_every_archive_and_its_digest() {
        let mut sums = BTreeMap::new();
        for (digest, system) in SYSTEMS.iter().enumerate() {
            let file = format!("quant-{}-{}.tar.gz", version(), system.name);
            sums.insert(file, format!("{digest:064}"));
        }
        let text = filled("https://example.org/download/", &sums).unwrap();
        for (file, digest) in &sums {
            let link = format!("url \"https://example.org/download/{file}\"");
            assert!(text.contains(&link), "{text}");
            assert!(text.contains(&format!("sha256 \"{digest}\"")), "{text}");
        }
        sums.pop_first();
        assert!(filled("https://example.org", &sums).is_err());
    }
}
