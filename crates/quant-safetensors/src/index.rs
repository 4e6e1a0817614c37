//! Which file of a folder is the model; an index and its shards.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use quant_model::error::shortened;
use quant_model::io::read_bounded;
use quant_model::{Error, Job, sniff};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::SafetensorsFile;

/// The name that most tools look for.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// Names that a message lists at most.
const LISTED: usize = 10;
/// More than any index takes: one of a million tensors has 100 MB.
const LARGEST: u64 = 256 << 20;

/// An index, as it stands in its file.
#[derive(Debug)]
pub(crate) struct Index {
    pub path: PathBuf,
    pub content: serde_json::Map<String, Value>,
}

/// What a path leads to.
pub(crate) enum Found {
    Index(PathBuf),
    File(PathBuf),
}

/// Follows the path of a model: to the index or the only file of a folder, or to the file itself.
pub(crate) fn find(path: &Path) -> Result<Found, Error> {
    if !path.is_dir() {
        return Ok(match path.extension() {
            Some(extension) if extension == "json" => Found::Index(path.to_owned()),
            _ => Found::File(path.to_owned()),
        });
    }
    if path.join(INDEX).is_file() {
        return Ok(Found::Index(path.join(INDEX)));
    }
    let (mut indexes, mut files) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(path).map_err(Error::io(path, "read this folder"))? {
        let name = entry
            .map_err(Error::io(path, "read this folder"))?
            .file_name();
        let text = name.to_string_lossy();
        // Whatever begins with a dot is not the user's, such as the ._ files of macOS.
        if text.starts_with('.') || !path.join(&name).is_file() {
            continue;
        }
        if text.ends_with(".safetensors.index.json") {
            indexes.push(name);
        } else if text.ends_with(".safetensors") {
            files.push(name);
        }
    }
    for (mut names, what) in [
        (indexes, "indexes"),
        (files, "safetensors files without an index"),
    ] {
        names.sort();
        match &names[..] {
            [] => {}
            [only] if what == "indexes" => return Ok(Found::Index(path.join(only))),
            [only] => return Ok(Found::File(path.join(only))),
            [..] => {
                let shown = names.iter().take(LISTED);
                let shown = shown.map(|name| shortened(&name.to_string_lossy()));
                let mut shown: Vec<_> = shown.collect();
                if names.len() > LISTED {
                    shown.push(format!("and {} more", names.len() - LISTED));
                }
                let problem = format!(
                    "{} {what} in this folder; give one of them: {}",
                    names.len(),
                    shown.join(", ")
                );
                return Err(Error::file(path, problem));
            }
        }
    }
    let problem = "no .safetensors file and no .safetensors.index.json in this folder; give the folder of a model, or its file";
    Err(Error::file(path, problem))
}

/// The part of an index that is understood.
#[derive(Default)]
struct Document {
    content: serde_json::Map<String, Value>,
    /// Per tensor.
    weight_map: Option<BTreeMap<String, String>>,
}

/// An object in which a key may stand once only: of two, one would be lost without a word.
struct Unique<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(std::marker::PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Unique<V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<V>, A::Error> {
                let (mut entries, mut seen) = (Vec::new(), HashSet::new());
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        let name = shortened(&name);
                        return Err(de::Error::custom(format!("`{name}` appears twice")));
                    }
                    entries.push((name, map.next_value()?));
                }
                Ok(Unique(entries))
            }
        }
        deserializer.deserialize_map(Entries(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Document;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a weight_map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let mut document = Document::default();
                while let Some(name) = map.next_key::<String>()? {
                    if document.content.contains_key(&name) {
                        let name = shortened(&name);
                        return Err(de::Error::custom(format!("`{name}` appears twice")));
                    }
                    let value = if name == "weight_map" {
                        let entries: Unique<String> = map.next_value()?;
                        document.weight_map = Some(entries.0.into_iter().collect());
                        // Written anew; the place among the fields is kept.
                        Value::Null
                    } else {
                        map.next_value()?
                    };
                    document.content.insert(name, value);
                }
                Ok(document)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// Reads an index, and opens its shards.
pub(crate) fn open(path: &Path, job: &Job<'_>) -> Result<(Vec<SafetensorsFile>, Index), Error> {
    let text = read_bounded(path, LARGEST, "give an index of safetensors files")?;
    let bad = |problem: String| Error::file(path, problem);
    job.check()?;
    let document: Document = serde_json::from_slice(&text).map_err(|error| {
        let problem = format!("not an index of safetensors files: {error}");
        bad(sniff::or(&text, problem))
    })?;
    let map = document.weight_map;
    let map =
        map.ok_or_else(|| bad("no `weight_map` from tensor to file; this is not an index".into()))?;
    let mut by_file: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, file) in &map {
        job.check()?;
        by_file.entry(file).or_default().push(tensor);
    }
    if by_file.is_empty() {
        return Err(bad("the `weight_map` names no file".into()));
    }
    let mut files = Vec::new();
    for (name, tensors) in by_file {
        if Path::new(name)
            .file_name()
            .is_none_or(|plain| plain != name)
        {
            return Err(bad(format!(
                "`{}` is not a plain file name",
                shortened(name)
            )));
        }
        let file = SafetensorsFile::open_for(&path.with_file_name(name), job)?;
        let held: HashSet<_> = file.entries().iter().map(|(n, _)| n.as_str()).collect();
        if let Some(missing) = tensors.into_iter().find(|tensor| !held.contains(tensor)) {
            let problem = format!(
                "the index expects it in `{}`, which does not hold it",
                shortened(name)
            );
            return Err(Error::tensor(path, missing, problem));
        }
        files.push(file);
    }
    let index = Index {
        path: path.to_owned(),
        content: document.content,
    };
    Ok((files, index))
}
