//! Which Pythons this machine has.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::toolchain::{program, stdout};

/// The oldest that wheels are for.
const OLDEST: (u32, u32) = (3, 10);

/// The oldest Python that wheels are for, and the newest one that there is.
///
/// # Errors
/// If it is missing: what works with a later one says nothing of it.
pub fn oldest_and_newest() -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found: Vec<((u32, u32), PathBuf)> = candidates()
        .into_iter()
        .filter_map(|path| Some((version(&path)?, path)))
        .filter(|(version, _)| *version >= OLDEST)
        .collect();
    found.sort();
    found.dedup_by_key(|(version, _)| *version);
    match found.as_slice() {
        [(OLDEST, oldest), .., (_, newest)] => Ok(vec![oldest.clone(), newest.clone()]),
        [(OLDEST, oldest)] => Ok(vec![oldest.clone()]),
        _ => Err("no python3.10 on the PATH or among those of pyenv".into()),
    }
}

/// Programs of the `PATH`, and those that pyenv has installed.
fn candidates() -> Vec<PathBuf> {
    let names = (OLDEST.1..OLDEST.1 + 10).map(|minor| format!("python3.{minor}"));
    let mut found: Vec<PathBuf> = names.filter_map(|name| program(&name)).collect();
    let home = env::var_os("PYENV_ROOT").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".pyenv")));
    let versions = home.map(|it| it.join("versions"));
    for entry in versions.iter().flat_map(fs::read_dir).flatten().flatten() {
        found.push(entry.path().join("bin/python3"));
    }
    found
}

/// The version that a Python says; `None` where it is none, such as pyenv's stand-in for one that is
/// not chosen.
fn version(python: &Path) -> Option<(u32, u32)> {
    let code = "import sys; print(*sys.version_info[:2])";
    let told = stdout(Command::new(python).args(["-c", code]))?;
    let (major, minor) = told.trim().split_once(' ')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
