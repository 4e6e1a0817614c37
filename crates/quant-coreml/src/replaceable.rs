//! Which files of a folder are a package's own, so that the folder may be replaced.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use quant_model::Error;

use super::folder::Folder;
use super::manifest::MANIFEST;
use super::package::{Package, contents};

/// Its manifest, what that names, and its weight files.
///
/// # Errors
/// A folder that does not open as a package.
pub(crate) fn own_files(path: &Path) -> Result<BTreeSet<PathBuf>, Error> {
    let bad = |error: Error| {
        let problem = format!(
            "exists and is no Core ML package ({error}); it is not replaced, choose another name"
        );
        Error::file(path, problem)
    };
    let folder = Folder::open(path).map_err(bad)?;
    let package = Package::open(&folder).map_err(bad)?;
    let mut own: BTreeSet<PathBuf> = BTreeSet::from([MANIFEST.into(), package.model.to_owned()]);
    for name in package.weights.keys() {
        own.extend(package.weight_path(name).ok());
    }
    let weights = package.model.with_file_name("weights");
    for inner in contents(path).map_err(bad)?.files {
        // It may be left of a model that has none any more.
        if inner == weights.join("weight.bin") {
            own.insert(inner);
        }
    }
    own.extend(package.items().iter().cloned());
    Ok(own)
}
