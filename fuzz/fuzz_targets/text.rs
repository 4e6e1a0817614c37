//! Names of any characters, in what the command prints and in what it draws: nothing hidden reaches a
//! terminal, lines fit, JSON and SVG can be parsed, and no name becomes a part of a page.
#![no_main]

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use quant_models::{columns, printable};
use rustix::stdio::{dup2_stderr, dup2_stdout, stderr, stdout};
use serde_json::{Map, Value, json};

/// Of a line that goes into a file.
const WIDTH: usize = 160;

/// Runs the command, and returns its exit status and what it printed.
fn quant(words: &[&str]) -> (u8, String) {
    let mut printed = tempfile::tempfile().unwrap();
    let saved = [stdout(), stderr()].map(|stream| rustix::io::dup(stream).unwrap());
    std::io::stdout().flush().unwrap();
    dup2_stdout(&printed).unwrap();
    dup2_stderr(&printed).unwrap();
    let line = ["quant"].iter().chain(words).map(OsString::from);
    let status = quant_cli::run(line);
    std::io::stdout().flush().unwrap();
    dup2_stdout(&saved[0]).unwrap();
    dup2_stderr(&saved[1]).unwrap();
    let mut bytes = Vec::new();
    printed.rewind().unwrap();
    printed.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    for line in text.lines() {
        assert_eq!(printable(line), line, "{words:?}");
    }
    (status, text)
}

/// A model with these names: of tensors, and one each of a type and in the metadata.
fn model(path: &Path, names: &[String]) {
    let (mut header, mut end) = (Map::new(), 0);
    for name in names {
        header.insert(
            name.clone(),
            json!({"dtype": "F32", "shape": [2, 3], "data_offsets": [end, end + 24]}),
        );
        end += 24;
    }
    if let [first, .., last] = names {
        header[first]["dtype"] = last.as_str().into();
    }
    header.insert("__metadata__".into(), json!({"format": names[0]}));
    let header = Value::Object(header).to_string().into_bytes();
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(&header).unwrap();
    file.write_all(&vec![0x3f; end]).unwrap();
}

fn tables(folder: &Path, names: &[String]) {
    let file = folder.join("m.safetensors");
    model(&file, names);
    let file = file.to_str().unwrap();
    let (status, text) = quant(&["inspect", file]);
    if status == 0 {
        assert!(text.lines().all(|line| columns(line) <= WIDTH), "{text}");
        let (_, text) = quant(&["inspect", "--json", file]);
        let document: Value = serde_json::from_str(&text).unwrap();
        let listed = document["tensors"].as_array().unwrap();
        assert!(
            listed
                .iter()
                .all(|it| names.iter().any(|name| it["name"] == **name))
        );
    }
    let dry_run = ["quantize", "--dry-run", "--min-elements", "0", file];
    let (_, text) = quant(&dry_run);
    assert!(text.len() < 4000 * (names.len() + 4), "{text}");
    let (status, text) = quant(&[&dry_run[..], &["--json", "--quiet"]].concat());
    assert!(status != 0 || serde_json::from_str::<Value>(&text).is_ok());
    // As a pattern, and as a name of the command line.
    if !names[0].contains('\0') {
        quant(&[&dry_run[..], &["--skip", &names[0]]].concat());
        quant(&[&dry_run[..], &["--bits", &names[0]]].concat());
    }
    quant(&["diff", file, file]);
}

fn plots(folder: &Path, names: &[String]) {
    let ranges = folder.join("ranges.json");
    let template = include_str!("calibrated.json");
    let mut document: Value = serde_json::from_str(template).unwrap();
    let activations = document["activations"].as_object_mut().unwrap();
    let one = activations.values().next().unwrap().clone();
    *activations = names
        .iter()
        .map(|name| (name.clone(), one.clone()))
        .collect();
    fs::write(&ranges, document.to_string()).unwrap();
    let ranges = ranges.to_str().unwrap();
    for output in ["p.html", "p.svg"] {
        let output = folder.join(output);
        let (status, text) = quant(&["plot", ranges, "-o", output.to_str().unwrap()]);
        assert_eq!(status, 0, "{text}");
        let page = fs::read_to_string(&output).unwrap();
        assert!(page.lines().all(|line| printable(line) == line), "{page}");
        match output.ends_with("p.svg") {
            true => drop(roxmltree::Document::parse(&page).unwrap()),
            false => assert!(
                !page.contains("<script") && !page.contains("<img"),
                "{page}"
            ),
        }
    }
    let merged = folder.join("merged.json");
    let (status, text) = quant(&[
        "calibrate",
        "--merge",
        ranges,
        "-o",
        merged.to_str().unwrap(),
    ]);
    assert_eq!(status, 0, "{text}");
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, content)) = bytes.split_first() else {
        return;
    };
    // What is in no text stands between names.
    let names = content.split(|&byte| byte == 0xff);
    let mut names: Vec<_> = names
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    names.sort();
    names.dedup();
    let folder = tempfile::tempdir().unwrap();
    match which % 2 {
        0 => tables(folder.path(), &names),
        _ => plots(folder.path(), &names),
    }
});
