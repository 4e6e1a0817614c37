//! Which files of a folder are a sharded model's own, so that the folder may be replaced.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use quant_model::Error;

use super::companions::{is_companion, is_loaders};
use crate::Model;

/// The files of the model in `folder`: its index, its shards, and what was copied beside them from
/// `input`: the same file, or one that loaders know and that the input has another of. People write
/// files of such names, too.
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
        let (there, copied) = (folder.join(name), input.join(name));
        let is_own = name.to_str().is_some_and(is_companion)
            && (same(&there, &copied) || is_loaders(name) && copied.is_file());
        if is_own {
            own.insert(name.into());
        }
    }
    Ok(own)
}

/// Whether both are files of the same bytes.
fn same(a: &Path, b: &Path) -> bool {
    let open = |path: &Path| {
        let found = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        Some((found.len(), BufReader::new(fs::File::open(path).ok()?)))
    };
    let (Some((a_len, mut a)), Some((b_len, mut b))) = (open(a), open(b)) else {
        return false;
    };
    a_len == b_len && same_bytes(&mut a, &mut b).unwrap_or(false)
}

fn same_bytes(a: &mut impl BufRead, b: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let (of_a, of_b) = (a.fill_buf()?, b.fill_buf()?);
        let len = of_a.len().min(of_b.len());
        if len == 0 {
            return Ok(of_a.is_empty() && of_b.is_empty());
        }
        if of_a[..len] != of_b[..len] {
            return Ok(false);
        }
        a.consume(len);
        b.consume(len);
    }
}
