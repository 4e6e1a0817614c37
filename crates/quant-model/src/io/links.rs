//! Where the links in a model's folder lead.

use std::path::{Path, PathBuf};

use crate::Error;

/// A model's folder, whose links may lead to files in it; and in a hub's cache, where
/// `snapshots/REVISION` is a folder of links, to the files in `blobs` beside `snapshots`.
pub struct Links {
    root: PathBuf,
    blobs: Option<PathBuf>,
}

impl Links {
    /// Of the model that is this folder.
    pub fn new(folder: &Path) -> Result<Self, Error> {
        let root = folder
            .canonicalize()
            .map_err(Error::io(folder, "open it"))?;
        let snapshots = root
            .ancestors()
            .find(|above| above.file_name().is_some_and(|name| name == "snapshots"));
        let blobs = snapshots.map(|snapshots| snapshots.with_file_name("blobs"));
        // That folder must not be a link itself.
        let is_folder = |path: &PathBuf| path.symlink_metadata().is_ok_and(|it| it.is_dir());
        Ok(Self {
            blobs: blobs.filter(is_folder),
            root,
        })
    }

    /// The file itself, unless it is elsewhere.
    pub fn inside(&self, path: &Path) -> Result<Option<PathBuf>, Error> {
        let real = path.canonicalize().map_err(Error::io(path, "open it"))?;
        let is_blob = self.blobs.is_some() && real.parent() == self.blobs.as_deref();
        Ok((real.starts_with(&self.root) || is_blob).then_some(real))
    }

    /// The file itself.
    ///
    /// # Errors
    /// It is elsewhere: what a package holds would come from there.
    pub fn inside_package(&self, path: &Path) -> Result<PathBuf, Error> {
        self.inside(path)?.ok_or_else(|| {
            let to = path.canonicalize().unwrap_or_default();
            let problem = format!(
                "a link that leads out of the package, to {}; put the file itself there, or remove the link",
                to.display()
            );
            Error::file(path, problem)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_a_hubs_blobs_are_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for made in [
            "hub/blobs/deep",
            "hub/snapshots/1/m",
            "evil/snapshots/1",
            "secret",
        ] {
            fs::create_dir_all(at(made)).unwrap();
        }
        for file in [
            "hub/blobs/9f",
            "hub/blobs/deep/9f",
            "hub/snapshots/1/own",
            "secret/key",
        ] {
            fs::write(at(file), "x").unwrap();
        }
        symlink(at("secret"), at("evil/blobs")).unwrap();
        let link = |to: &str, path: &str| symlink(to, at(path)).unwrap();
        link("../../../blobs/9f", "hub/snapshots/1/m/blob");
        link("../own", "hub/snapshots/1/m/own");
        link("../../../blobs/deep/9f", "hub/snapshots/1/m/deep");
        link("../../../../secret/key", "hub/snapshots/1/m/key");
        link("../../blobs/key", "evil/snapshots/1/key");
        let inside = |root: &str, path: &str| {
            let found = Links::new(&at(root)).unwrap().inside(&at(path)).unwrap();
            found.is_some()
        };
        assert!(inside("hub/snapshots/1/m", "hub/snapshots/1/m/blob"));
        assert!(inside("hub/snapshots/1", "hub/snapshots/1/m/own"));
        for outside in ["own", "deep", "key"] {
            let path = format!("hub/snapshots/1/m/{outside}");
            assert!(!inside("hub/snapshots/1/m", &path), "{outside}");
        }
        assert!(!inside("evil/snapshots/1", "evil/snapshots/1/key"));
    }
}
