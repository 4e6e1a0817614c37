//! A package's manifest: which files and folders it names.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use quant_model::sniff;
use serde::Deserialize;

pub(crate) const MANIFEST: &str = "Manifest.json";

#[derive(Deserialize)]
struct Manifest {
    #[serde(rename = "fileFormatVersion")]
    version: String,
    #[serde(rename = "itemInfoEntries")]
    items: HashMap<String, Item>,
    #[serde(rename = "rootModelIdentifier")]
    root: String,
}

#[derive(Deserialize)]
struct Item {
    path: String,
}

/// What a manifest names, from the package on.
pub(crate) struct Items {
    pub root: PathBuf,
    /// Among them the root.
    pub all: Vec<PathBuf>,
}

/// Reads a manifest, or says what is wrong with it.
pub(crate) fn items(manifest: &[u8]) -> Result<Items, String> {
    let manifest: Manifest = serde_json::from_slice(manifest)
        .map_err(|error| sniff::or(manifest, format!("not the manifest of a package: {error}")))?;
    if !manifest.version.starts_with("1.") {
        return Err(format!(
            "version {} of packages, where 1 is known; this quant is too old for it",
            manifest.version
        ));
    }
    let place = |item: &Item| {
        let path = inside(&item.path);
        let path =
            path.ok_or_else(|| format!("`{}` is not inside the package; it is damaged", item.path));
        Ok::<_, String>(Path::new("Data").join(path?))
    };
    let root = manifest.items.get(&manifest.root);
    let root = root.ok_or("its rootModelIdentifier is that of no item; the package is damaged")?;
    let root = place(root)?;
    let mut all = manifest.items.values().map(place);
    Ok(Items {
        root,
        all: all.by_ref().collect::<Result<_, _>>()?,
    })
}

/// The manifest with an item, as coremltools writes it, for the folder of this weight file.
pub(crate) fn with_weights(manifest: &[u8], file: &Path) -> Result<Vec<u8>, String> {
    let problem = |error: serde_json::Error| format!("not the manifest of a package: {error}");
    let mut document: serde_json::Value = serde_json::from_slice(manifest).map_err(problem)?;
    let folder = file.strip_prefix("Data").unwrap_or(file);
    let folder = folder.parent().unwrap_or(folder);
    let item = serde_json::json!({
        "author": "com.apple.CoreML",
        "description": "CoreML Model Weights",
        "name": folder.file_name().unwrap_or_default().to_string_lossy(),
        "path": folder.to_string_lossy(),
    });
    let items = document["itemInfoEntries"].as_object_mut();
    let items = items.ok_or("it has no items; the package is damaged")?;
    // Identifiers only have to differ.
    let mut count = 1_u64;
    let mut id = String::new();
    while id.is_empty() || items.contains_key(&id) {
        id = format!("71756e74-0000-4000-8000-{count:012x}");
        count += 1;
    }
    items.insert(id, item);
    let mut text = format!("{document:#}").into_bytes();
    text.push(b'\n');
    Ok(text)
}

/// A relative path that leads nowhere else, and that a message can show.
pub(crate) fn inside(path: &str) -> Option<PathBuf> {
    if path.contains(char::is_control) {
        return None;
    }
    let path = Path::new(path);
    let plain = |part| matches!(part, Component::Normal(_));
    (path.components().next().is_some() && path.components().all(plain))
        .then(|| path.components().collect())
}
