//! The classes of samples.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use quant_models::{Error, sniff};
use quant_run::{Samples, read_arrays};

use crate::commands::running::at_model;
use crate::terminal::count;

/// More than any list of labels holds, and little enough to read.
const LARGEST: u64 = 256 << 20;

fn text(path: &Path) -> Result<String, Error> {
    let fail = |problem: &str| Error::File {
        file: path.to_owned(),
        problem: problem.into(),
    };
    // Before it is opened: a pipe would wait for somebody to write.
    let found = std::fs::metadata(path).map_err(Error::io(path, "open it"))?;
    if !found.is_file() {
        return Err(fail("not a file; give the labels, a line for each sample"));
    }
    let file = File::open(path).map_err(Error::io(path, "open it"))?;
    let mut bytes = Vec::new();
    // Some files have no length, and others grow.
    let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(Error::io(path, "read it"))?;
    if bytes.len() as u64 > LARGEST {
        return Err(fail("too large; give the labels, a line for each sample"));
    }
    // Lines of text are labels, or else are told one by one.
    let problem = sniff::instead(&bytes, String::new());
    if !problem.is_empty() && !bytes.is_empty() {
        return Err(fail(problem.trim_start_matches("; ")));
    }
    String::from_utf8(bytes).map_err(|_| fail("no labels: it is not text in UTF-8"))
}

/// Reads the class of each sample; `limited` where only the first samples are wanted, so that there may
/// be more labels than samples.
pub fn labels(path: &Path, samples: &Samples, limited: bool) -> Result<Vec<i64>, Error> {
    let fail = |problem: String| Error::File {
        file: path.to_owned(),
        problem,
    };
    let counted = |labels: Vec<i64>| {
        let have = labels.len();
        match samples.count() {
            Some(want) if have < want || have > want && !limited => {
                let samples = count(want, "sample");
                Err(fail(format!("{} for {samples}", count(have, "label"))))
            }
            _ => Ok(labels),
        }
    };
    if path.extension().is_some_and(|end| end == "npy") {
        let arrays = read_arrays(path).map_err(|error| at_model(path, error))?;
        let ints = arrays.first().and_then(|(_, tensor)| tensor.ints());
        let ints = ints.ok_or_else(|| fail("no array of integers".into()))?;
        return counted(ints.iter().map(|&label| label.into()).collect());
    }
    let text = text(path)?;
    let (mut in_order, mut by_name) = (Vec::new(), HashMap::new());
    for (i, line) in text.lines().enumerate() {
        let (name, label) = match line.rsplit_once(',') {
            Some((name, label)) => (Some(name.trim()), label.trim()),
            None => (None, line.trim()),
        };
        match (label.parse::<i64>(), name) {
            (Ok(label), Some(name)) => drop(by_name.insert(name.to_owned(), label)),
            (Ok(label), None) => in_order.push(label),
            // The first line may say what stands in the columns.
            (Err(_), _) if i == 0 || label.is_empty() => {}
            (Err(_), _) => return Err(fail(format!("line {}: `{label}` is no class", i + 1))),
        }
    }
    if by_name.is_empty() {
        return counted(in_order);
    }
    if samples.count().is_none() {
        let problem = "labels by the names of files, for samples from a stream; give them in order";
        return Err(fail(problem.into()));
    }
    let label = |file: &PathBuf| {
        let part = |part: Option<&std::ffi::OsStr>| {
            part.unwrap_or_default().to_string_lossy().into_owned()
        };
        let names = [part(file.file_name()), part(file.file_stem())];
        let found = names.iter().find_map(|name| by_name.get(name));
        found
            .copied()
            .ok_or_else(|| fail(format!("no label for {}", names[0])))
    };
    samples.files().iter().map(label).collect()
}
