//! Packages that tests write, kept for `cargo xtask coreml`, which opens all of them with coremltools.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

const WRITE_MODELS: [&str; 3] = ["activations", "dequantize", "quantize"];

/// Keeps what a command has written in a folder, beside the package that it names first: its `-o`, or
/// else all other packages there.
pub fn keep<A: AsRef<OsStr>>(folder: &Path, arguments: &[A]) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let Some(kept) = std::env::var_os("QUANT_KEEP_PACKAGES") else {
        return;
    };
    let command = arguments.first().and_then(|it| it.as_ref().to_str());
    if !command.is_some_and(|it| WRITE_MODELS.contains(&it)) {
        return;
    }
    let is_package =
        |path: &PathBuf| path.extension().is_some_and(|it| it == "mlpackage") && path.is_dir();
    let mut named = arguments.iter().map(|it| folder.join(it.as_ref()));
    let Some(input) = named.find(is_package) else {
        return;
    };
    let mut words = arguments.iter().map(AsRef::as_ref);
    words.find(|word| *word == "-o");
    let output = words.next().map(|name| folder.join(name));
    let entries = fs::read_dir(folder).unwrap();
    let packages = entries.map(|entry| entry.unwrap().path());
    let is_output = |path: &PathBuf| match &output {
        Some(output) => path == output,
        None => *path != input,
    };
    for output in packages.filter(|path| is_package(path) && is_output(path)) {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let place = |end: &str| {
            let name = format!("cli-{}-{count}.{end}.mlpackage", std::process::id());
            Path::new(&kept).join(name)
        };
        copy(&input, &place("in"));
        copy(&output, &place("out"));
    }
}

/// What is readable in it: some tests put pipes and loose links into packages.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).into_iter().flatten() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &place),
            false if entry.path().is_file() => drop(fs::copy(entry.path(), place)),
            false => {}
        }
    }
}
