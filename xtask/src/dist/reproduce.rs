//! `cargo xtask reproduce`: two builds of the same sources in two folders give the same bytes.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::run;
use crate::Outcome;
use crate::toolchain::{HOST, root, target_dir};

/// Of different lengths, and one with a space.
const FOLDERS: [&str; 2] = ["a", "another folder/of a longer name"];

/// Copies the sources into two folders, runs `dist --only-host` in both from nothing, and compares
/// every file.
pub fn reproduce() -> Outcome {
    let mut built = Vec::new();
    for name in FOLDERS {
        let folder = target_dir().join("reproduce").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        copy_sources(&folder)?;
        println!("{}: everything is built, from nothing", folder.display());
        let mut dist = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        dist.current_dir(&folder)
            .env_remove("CARGO_TARGET_DIR")
            .args(["xtask", "dist", "--only-host"]);
        run(&mut dist)?;
        let mut files = BTreeMap::new();
        let prefix = folder.join("target/dist").join(HOST);
        read(&prefix, &prefix, &mut files)?;
        built.push(files);
    }
    compare(&built[0], &built[1])?;
    println!("{} files, the same bytes in both", built[0].len());
    Ok(fs::remove_dir_all(target_dir().join("reproduce"))?)
}

/// What git knows of, and what is new and not ignored.
fn copy_sources(to: &Path) -> Outcome {
    let mut list = Command::new("git");
    list.current_dir(root());
    list.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    for name in run(&mut list)?.split_terminator('\0') {
        let (from, to) = (root().join(name), to.join(name));
        // What has been removed, and is not committed yet.
        if !from.exists() {
            continue;
        }
        fs::create_dir_all(to.parent().ok_or("a folder")?)?;
        fs::copy(from, to)?;
    }
    Ok(())
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn read(prefix: &Path, folder: &Path, files: &mut Files) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => read(prefix, &path, files)?,
            false => {
                files.insert(path.strip_prefix(prefix)?.to_owned(), fs::read(&path)?);
            }
        }
    }
    Ok(())
}

fn compare(a: &Files, b: &Files) -> Outcome {
    let names = a.keys().chain(b.keys().filter(|it| !a.contains_key(*it)));
    let differing: Vec<String> = names
        .filter(|name| a.get(*name) != b.get(*name))
        .map(|name| name.display().to_string())
        .collect();
    match (a.is_empty(), differing.as_slice()) {
        (true, _) => Err("nothing was built".into()),
        (false, []) => Ok(()),
        (false, differing) => Err(format!("not the same: {}", differing.join(", ")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Files, compare};

    #[test]
    fn any_difference_is_named() {
        let files = |all: &[(&str, &str)]| -> Files {
            let all = all.iter();
            all.map(|(name, data)| (name.into(), data.as_bytes().to_vec()))
                .collect()
        };
        let one = files(&[("lib/a", "x"), ("lib/b", "y")]);
        compare(&one, &one).unwrap();
        for other in [
            files(&[("lib/a", "x"), ("lib/b", "z")]),
            files(&[("lib/a", "x")]),
            files(&[("lib/a", "x"), ("lib/b", "y"), ("c", "")]),
        ] {
            compare(&one, &other).unwrap_err();
            compare(&other, &one).unwrap_err();
        }
        compare(&files(&[]), &files(&[])).unwrap_err();
    }
}
