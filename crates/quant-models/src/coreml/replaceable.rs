//! Which files of a folder are a package's own, so that the folder may be replaced.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::package::{MANIFEST, Package, files, items};
use crate::Error;

/// Its manifest, what that names, and its weight files.
///
/// # Errors
/// A folder that does not open as a package.
pub(crate) fn own_files(folder: &Path) -> Result<BTreeSet<PathBuf>, Error> {
    let bad = |error: Error| {
        Error::file(
            folder,
            format!("exists and is no Core ML package ({error}); it is not replaced, choose another name"),
        )
    };
    let package = Package::open(folder).map_err(bad)?;
    let mut own: BTreeSet<PathBuf> = BTreeSet::from([MANIFEST.into(), package.model.clone()]);
    let named = items(folder).map_err(bad)?;
    for name in package.weights.keys() {
        own.extend(package.weight_path(name).ok());
    }
    let weights = package.model.with_file_name("weights");
    for inner in files(folder).map_err(bad)? {
        let is_weight_file =
            inner.parent() == Some(&weights) && inner.extension().is_some_and(|end| end == "bin");
        if is_weight_file {
            own.insert(inner);
        }
    }
    own.extend(named);
    Ok(own)
}
