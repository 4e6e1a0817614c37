//! The small files beside a model's weights that a loader needs.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use quant_model::io::{self, Links};
use quant_model::{Error, Job};

/// Files that loaders look for by these names.
const NAMES: [&str; 18] = [
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "image_processor_config.json",
    "normalizer.json",
    "sentencepiece.bpe.model",
];

/// Whether loaders look for a file of this name.
pub(crate) fn is_loaders(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| NAMES.contains(&name))
}

/// Whether a file of this name belongs to a model.
pub(crate) fn is_companion(name: &str) -> bool {
    const TEXTS: [&str; 4] = ["README", "LICENSE", "LICENCE", "NOTICE"];
    let starts = |prefix: &str| name.starts_with(prefix);
    let ends = |suffix: &str| name.ends_with(suffix);
    let is_model = NAMES.contains(&name)
        || starts("tokenizer")
        || starts("chat_template")
        || ends(".model")
        || ends(".tiktoken");
    // Weights of whatever kind are written, not copied.
    let is_weights = [".safetensors", ".safetensors.index.json", ".bin", ".gguf"];
    if is_weights.into_iter().any(ends) {
        return false;
    }
    let is_text = |text: &str| {
        let end = name.strip_prefix(text);
        end.is_some_and(|end| end.is_empty() || end.starts_with('.'))
    };
    is_model || TEXTS.into_iter().any(is_text)
}

/// Copies them, but for those that are written otherwise, in order of their names, and returns these, and what was not copied.
pub(crate) fn copy(
    from: &Path,
    to: &Path,
    is_written: &dyn Fn(&str) -> bool,
    job: &Job<'_>,
) -> Result<(Vec<String>, Vec<String>), Error> {
    let (mut copied, mut warnings) = (Vec::new(), Vec::new());
    let links = Links::new(from)?;
    for name in names(from)? {
        job.check()?;
        if is_written(&name) {
            continue;
        }
        let path = from.join(&name);
        // A link to a folder or to nothing is none of them; a pipe is not waited for.
        match fs::metadata(&path) {
            Ok(found) if found.is_file() => {}
            _ => continue,
        }
        let Some(real) = links.inside(&path)? else {
            warnings.push(format!(
                "{}: a link that leads out of the model; it is not copied",
                path.display()
            ));
            continue;
        };
        io::copy(&real, &to.join(&name), job)?;
        copied.push(name);
    }
    Ok((copied, warnings))
}

fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let listed = fs::read_dir(folder).map_err(Error::io(folder, "list it"))?;
    let names = listed.flatten().map(|entry| entry.file_name());
    let names = names.filter_map(|name| name.into_string().ok());
    let mut names: Vec<String> = names.filter(|name| is_companion(name)).collect();
    names.sort();
    Ok(names)
}
