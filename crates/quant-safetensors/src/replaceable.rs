//! Which files of a folder are a sharded model's own, so that the folder may be replaced.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use quant_model::Error;

use super::companions::{Companion, companion};
use crate::Model;

/// The files of the model in `folder`: its index, its shards, and what is copied beside them from
/// `input`.
///
/// # Errors
/// A folder that does not open as a model; what stands in the way is named.
pub(crate) fn own_files(folder: &Path, input: &Path) -> Result<BTreeSet<PathBuf>, Error> {
    let bad = |problem: String| Error::file(folder, problem);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "list it"))? {
        names.push(entry.map_err(Error::io(folder, "list it"))?.file_name());
    }
    names.sort();
    let ends_as_index = |name: &std::ffi::OsString| {
        let name = name.to_str();
        name.is_some_and(|name| name.ends_with(".safetensors.index.json"))
    };
    let index = names.iter().find(|name| ends_as_index(name));
    let is_file = |name: &std::ffi::OsString| {
        let name = name.to_str();
        name.is_some_and(|name| !name.starts_with('.') && name.ends_with(".safetensors"))
    };
    if index.is_none() && !names.iter().any(is_file) {
        let holds = match names.first() {
            None => "it is empty".into(),
            Some(name) => format!("it holds `{}`", name.display()),
        };
        return Err(bad(format!(
            "is a folder without a model ({holds}); it is not replaced, choose another name"
        )));
    }
    let path = index.map_or_else(|| folder.to_owned(), |index| folder.join(index));
    let model = Model::open(&path).map_err(|error| {
        bad(format!(
            "is a folder that does not open as a model ({error}); it is not replaced, choose another name"
        ))
    })?;
    let mut own: BTreeSet<PathBuf> = index.map(PathBuf::from).into_iter().collect();
    own.extend(
        model
            .base
            .files
            .iter()
            .filter_map(|file| file.path().file_name().map(PathBuf::from)),
    );
    for name in &names {
        let kind = name.to_str().and_then(companion);
        let is_own = match kind {
            Some(Companion::Model) => true,
            // One that was written by hand is not.
            Some(Companion::Text) => same(&folder.join(name), &input.join(name)),
            None => false,
        };
        if is_own && folder.join(name).is_file() {
            own.insert(name.into());
        }
    }
    Ok(own)
}

fn same(a: &Path, b: &Path) -> bool {
    const LARGEST: u64 = 16 << 20;
    let read = |path: &Path| quant_model::io::read_bounded(path, LARGEST, "").ok();
    read(a).is_some_and(|a| read(b).is_some_and(|b| a == b))
}
