//! An index for shards that were made one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use quant_model::error::shortened;
use quant_model::{AtomicFile, Error, Inputs, Job};
use serde_json::json;

use super::index::INDEX;
use crate::SafetensorsFile;

/// An index that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WrittenIndex {
    /// The index.
    pub path: PathBuf,
    /// How many shards it names.
    pub shards: usize,
    /// How many tensors it names.
    pub tensors: usize,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// What the user should know, a line each.
    pub warnings: Vec<String>,
}

/// Writes `model.safetensors.index.json` for the safetensors files in a folder: so shards may be
/// quantized one by one, and be a model again.
///
/// ```no_run
/// use quant_model::Job;
/// use quant_safetensors::write_index;
/// let index = write_index("model".as_ref(), &Job::new())?;
/// println!("{} shards, {} tensors", index.shards, index.tensors);
/// # Ok::<(), quant_model::Error>(())
/// ```
///
/// # Errors
/// No folder, or one without safetensors files; files that are not whole; a tensor in two of them; a
/// shard that is missing, as the others' names say; an index that exists already, unless the job
/// replaces files.
pub fn write_index(folder: &Path, job: &Job<'_>) -> Result<WrittenIndex, Error> {
    let names = shards(folder)?;
    check_complete(folder, &names)?;
    let mut inputs = Inputs::new();
    for name in &names {
        inputs.file(&folder.join(name), "a shard of the model");
    }
    let path = folder.join(INDEX);
    let file = AtomicFile::create(&path, "index", job.force, &inputs)?;
    let mut weight_map: BTreeMap<String, &str> = BTreeMap::new();
    let mut bytes = 0;
    for name in &names {
        let shard = SafetensorsFile::open_for(&folder.join(name), job)?;
        for (tensor, entry) in shard.entries() {
            job.check()?;
            bytes += entry.len() as u64;
            if let Some(other) = weight_map.insert(tensor.clone(), name) {
                let problem = format!(
                    "is in `{}` too; remove one of the files from the folder",
                    shortened(other)
                );
                return Err(Error::tensor(shard.path(), tensor, problem));
            }
        }
    }
    let tensors = weight_map.len();
    let content = json!({"metadata": {"total_size": bytes}, "weight_map": weight_map});
    let text = serde_json::to_string_pretty(&content)
        .map_err(|error| Error::file(&path, format!("cannot write it: {error}")))?;
    job.check()?;
    let warnings = file.warnings().to_vec();
    file.commit((text + "\n").as_bytes())?;
    Ok(WrittenIndex {
        path,
        shards: names.len(),
        tensors,
        bytes,
        warnings,
    })
}

/// The safetensors files of a folder, sorted by name.
fn shards(folder: &Path) -> Result<Vec<String>, Error> {
    let read = Error::io(folder, "read this folder");
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(read)? {
        let entry = entry.map_err(Error::io(folder, "read this folder"))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            continue;
        };
        // Whatever begins with a dot is not the user's, such as the ._ files of macOS.
        let is_shard = name.ends_with(".safetensors") && !name.starts_with('.');
        if !is_shard {
            continue;
        }
        let path = entry.path();
        // A link to a shard that has not been fetched is no reason to leave it out.
        let found = fs::metadata(&path).map_err(Error::io(&path, "open it"))?;
        if found.is_file() {
            names.push(name.to_owned());
        }
    }
    names.sort();
    match names.is_empty() {
        true => Err(Error::file(
            folder,
            "no .safetensors file in this folder; give the folder of the shards",
        )),
        false => Ok(names),
    }
}

/// `NAME-00001-of-00003.safetensors` wants two others.
fn check_complete(folder: &Path, names: &[String]) -> Result<(), Error> {
    let mut series: BTreeMap<(&str, &str), BTreeSet<usize>> = BTreeMap::new();
    for name in names {
        let stem = name.strip_suffix(".safetensors").unwrap_or(name);
        let Some((front, count)) = stem.rsplit_once("-of-") else {
            continue;
        };
        let Some((front, number)) = front.rsplit_once('-') else {
            continue;
        };
        if let Ok(number) = number.parse() {
            series.entry((front, count)).or_default().insert(number);
        }
    }
    for ((front, count), numbers) in series {
        let Ok(wanted) = count.parse::<usize>() else {
            continue;
        };
        if numbers.len() >= wanted {
            continue;
        }
        if let Some(missing) = (1..=wanted).find(|number| !numbers.contains(number)) {
            let width = count.len();
            let more = match wanted - numbers.len() {
                1 => String::new(),
                missing => format!(", and {} more", missing - 1),
            };
            let problem = format!(
                "`{}-{missing:0width$}-of-{count}.safetensors` is missing{more}; add it, or rename the others",
                shortened(front),
            );
            return Err(Error::file(folder, problem));
        }
    }
    Ok(())
}
