//! The files of a model, and which tensor is in which.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use quant_model::io::parent;
use quant_model::{Error, Job};

use super::index::{self, Found, Index};
use super::model_config::ModelConfig;
use crate::{Entry, SafetensorsFile};

/// One safetensors file, or an index and its shards, checked.
#[derive(Debug)]
pub(crate) struct ModelFiles {
    pub files: Vec<SafetensorsFile>,
    pub index: Option<Index>,
    /// The folder that the model is: where it was given as one, or as an index in it.
    pub folder: Option<PathBuf>,
    /// The `config.json` beside its weights.
    pub config: ModelConfig,
    /// By the names of tensors: the number of the file, and that of the entry there.
    pub places: HashMap<String, (usize, usize)>,
}

impl ModelFiles {
    /// See [`Model::open`](crate::Model::open).
    pub fn open(path: &Path, job: &Job<'_>) -> Result<Self, Error> {
        let (files, index, folder) = match index::find(path)? {
            Found::Index(path) => {
                let (files, index) = index::open(&path, job)?;
                (files, Some(index), Some(parent(&path).to_owned()))
            }
            Found::File(file) => {
                let folder = path.is_dir().then(|| path.to_owned());
                (vec![SafetensorsFile::open_for(&file, job)?], None, folder)
            }
        };
        let mut places = HashMap::new();
        for (i, file) in files.iter().enumerate() {
            for (j, (name, _)) in file.entries().iter().enumerate() {
                job.check()?;
                if places.insert(name.clone(), (i, j)).is_some() {
                    let problem = "appears in two shards; remove one of them";
                    return Err(Error::tensor(file.path(), name, problem));
                }
            }
        }
        let config =
            ModelConfig::beside(folder.as_deref().unwrap_or_else(|| parent(files[0].path())));
        Ok(Self {
            files,
            index,
            folder,
            config,
            places,
        })
    }

    /// All tensors, in the order of the files.
    pub fn entries(&self) -> impl Iterator<Item = (&SafetensorsFile, &str, &Entry)> {
        let files = self.files.iter();
        files.flat_map(|file| {
            let entries = file.entries().iter();
            entries.map(move |(name, entry)| (file, name.as_str(), entry))
        })
    }

    pub fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.find(name).map(|(_, entry)| entry)
    }

    /// A tensor, and the file that holds it.
    pub fn find(&self, name: &str) -> Option<(&SafetensorsFile, &Entry)> {
        let (file, entry) = *self.places.get(name)?;
        let file = &self.files[file];
        Some((file, &file.entries()[entry].1))
    }
}
