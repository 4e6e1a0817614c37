//! What a command reads, and writes elsewhere: no other output may be, hold or lie in any of it.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Id, id, parent};
use crate::Error;
use crate::text::option;

/// Folders within folders that a Core ML package has at most, by far.
const DEPTH: usize = 16;
/// What packages have, which are folders of folders.
const MANIFEST: &str = "Manifest.json";

/// Files and folders that an output must leave alone, by whatever name or link it may reach them.
///
/// ```
/// use std::path::Path;
/// use quant_model::Inputs;
///
/// let folder = tempfile::tempdir()?;
/// let model = folder.path().join("m.safetensors");
/// std::fs::write(&model, "weights")?;
/// let mut inputs = Inputs::new();
/// inputs.model(&model);
/// assert!(inputs.check(&folder.path().join("report.json"), "report").is_ok());
/// assert!(inputs.check(&model, "report").is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    files: Vec<Item>,
    folders: Vec<Item>,
}

#[derive(Clone, Debug)]
struct Item {
    /// As it was named.
    shown: PathBuf,
    /// Without links.
    real: PathBuf,
    /// `None` for an output that is not there yet.
    id: Option<Id>,
    role: &'static str,
}

impl Inputs {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// A model, as [`model`](Self::model) adds it.
    pub fn of_model(path: &Path) -> Self {
        let mut inputs = Self::new();
        inputs.model(path);
        inputs
    }

    /// Adds a model: a file, a folder, an index or a Core ML package, with all files in it. What
    /// cannot be found is left to be reported by who opens it.
    pub fn model(&mut self, path: &Path) {
        let is_folder = path.is_dir();
        let is_index = path.extension().is_some_and(|end| end == "json");
        if is_folder {
            self.folder(path, "the input");
        } else if is_index {
            self.folder(parent(path), "the input");
        }
        self.file(path, "the input");
    }

    /// Adds a file that plays this role, such as `the configuration`.
    pub fn file(&mut self, path: &Path, role: &'static str) {
        let Ok(found) = fs::metadata(path) else {
            return;
        };
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let item = Item {
            shown: path.to_owned(),
            real,
            id: Some(id(&found)),
            role,
        };
        match found.is_dir() {
            true => self.folders.push(item),
            false => self.files.push(item),
        }
    }

    /// Adds a folder and all files in it, also those that links in it lead to; or a file.
    pub fn folder(&mut self, path: &Path, role: &'static str) {
        self.file(path, role);
        // Other models are files side by side.
        let depth = match path.join(MANIFEST).is_file() {
            true => DEPTH,
            false => 0,
        };
        self.files_below(path, role, depth);
    }

    fn files_below(&mut self, path: &Path, role: &'static str, depth: usize) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => {
                    if depth > 0 {
                        self.files_below(&path, role, depth - 1);
                    }
                }
                _ => self.file(&path, role),
            }
        }
    }

    /// Adds what is going to be written, a file or a folder.
    pub fn output(&mut self, path: &Path) {
        let Ok(real) = located(path) else {
            return;
        };
        let item = Item {
            shown: path.to_owned(),
            real,
            id: fs::metadata(path).ok().map(|found| id(&found)),
            role: "the output",
        };
        self.files.push(item.clone());
        self.folders.push(item);
    }

    /// Refuses a place for an output, which messages call `what`, that is one of these, holds one
    /// or lies in one.
    ///
    /// # Errors
    /// As said; and a folder for it that is not there.
    pub fn check(&self, output: &Path, what: &str) -> Result<(), Error> {
        let place = located(output)?;
        let bad = |problem: String| Err(Error::file(output, problem));
        // What a link leads to is not to be taken for the link.
        let real = output.canonicalize().unwrap_or_else(|_| place.clone());
        let is = fs::metadata(output).ok().map(|found| id(&found));
        for item in self.files.iter().chain(&self.folders) {
            let is_same = item.id.is_some() && item.id == is;
            if is_same || item.real == place || item.real == real {
                let shown = item.shown.display();
                // Its other names say nothing.
                return bad(match (item.role, what) {
                    ("the input", "output") => {
                        format!(
                            "the output is the input itself ({shown}); choose another with {}",
                            option("output")
                        )
                    }
                    ("the input" | "the output", _) => format!(
                        "the {what} is the model itself ({shown}); choose another with {}",
                        option(what)
                    ),
                    ("the recordings" | "the inputs", _) => format!(
                        "the {what} is one of {} ({shown}); choose another with {}",
                        item.role,
                        option("output")
                    ),
                    (role, _) => {
                        format!("the {what} is {role} itself ({shown}); choose another name")
                    }
                });
            }
        }
        for item in &self.folders {
            if place.starts_with(&item.real) || real.starts_with(&item.real) {
                return bad(format!(
                    "inside {} ({}); choose another place for the {what}",
                    item.role,
                    item.shown.display()
                ));
            }
        }
        for item in self.files.iter().chain(&self.folders) {
            if item.real.starts_with(&place) || item.real.starts_with(&real) {
                return bad(format!(
                    "holds {} ({}); choose another place for the {what}",
                    item.role,
                    item.shown.display()
                ));
            }
        }
        Ok(())
    }
}

/// Where something of this name would stand, without links on the way.
pub(crate) fn located(path: &Path) -> Result<PathBuf, Error> {
    let Some(name) = path.file_name() else {
        let problem = "names no new file or folder; give the output a name of its own";
        return Err(Error::file(path, problem));
    };
    let folder = parent(path);
    match folder.canonicalize() {
        Ok(real) if real.is_dir() => Ok(real.join(name)),
        Ok(_) => {
            let problem = format!(
                "cannot create it: `{}` is no folder; choose another place",
                folder.display()
            );
            Err(Error::file(path, problem))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let missing = folder
                .ancestors()
                .filter(|above| !above.as_os_str().is_empty())
                .take_while(|above| fs::metadata(above).is_err())
                .last()
                .unwrap_or(folder);
            let problem = format!(
                "cannot create it, not found: the folder `{}` does not exist; make it, or choose another place",
                missing.display()
            );
            Err(Error::file(path, problem))
        }
        Err(error) => Err(Error::io(path, "create it")(error)),
    }
}
