//! Folders as mlx-lm and compressed-tensors write them, with a configuration, a header, an index or
//! packed codes of any content: refused in one line with nothing left behind, or floats come out that
//! can be read. A float model with a configuration of any content becomes one of either, or nothing.
#![no_main]

use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use quant_fuzz::{JOB, check_refusal};
use quant_models::{Encoding, Model, QuantizeOptions, dequantize, diff, inspect, quantize};

const FOLDER: &str = "../crates/quant-models/tests";
const MODELS: [&str; 4] = [
    "mlx/models/mixtral/mlx",
    "mlx/models/llama/mlx",
    "compressed_tensors/models/llama-tied-w4a16-asym/compressed",
    "compressed_tensors/models/llama-w8a8/compressed",
];
const FLOATS: [(&str, Encoding); 2] = [
    ("mlx/models/mixtral/float", Encoding::Mlx),
    (
        "compressed_tensors/models/llama-w8a8/float",
        Encoding::CompressedTensors,
    ),
];
const WEIGHTS: &str = "model.safetensors";

/// A file whose header is replaced; or some of its data, by the size of the header that it has.
fn changed(whole: &[u8], content: &[u8], is_header: bool) -> Vec<u8> {
    let len = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let (header, data) = whole[8..].split_at(len);
    if is_header {
        let len = (content.len() as u64).to_le_bytes();
        return [&len, content, data].concat();
    }
    let mut data = data.to_vec();
    for (byte, &new) in data.iter_mut().step_by(5).zip(content) {
        *byte = new;
    }
    [&whole[..8], header, &data].concat()
}

/// Copies a model, with another content of what is meant by `kind`.
fn copy(from: &Path, to: &Path, kind: u8, content: &[u8]) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let whole = fs::read(&path).unwrap();
        let new = match (kind, name) {
            (0, "config.json") => content.to_vec(),
            (1, WEIGHTS) => changed(&whole, content, true),
            (2, WEIGHTS) => changed(&whole, content, false),
            (3, "model.safetensors.index.json") => content.to_vec(),
            _ => whole,
        };
        fs::write(to.join(name), new).unwrap();
    }
}

fn restore(input: &Path, output: &Path, folder: &Path, original: &Path) {
    let refused = |error| check_refusal(&error, folder, &["in"]);
    if let Err(error) = inspect(input, true) {
        refused(error);
    }
    if let Err(error) = diff(input, original) {
        refused(error);
    }
    match dequantize(input, output, &Default::default(), &JOB) {
        Ok(_) => {
            inspect(output, true).unwrap();
            let model = Model::open(output).unwrap();
            for tensor in model.tensors().unwrap() {
                if tensor.float_type().is_some() {
                    model.read_f32(tensor.name).unwrap();
                }
            }
        }
        Err(error) => refused(error),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, content)) = bytes.split_first() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["in", "out"].map(|name| folder.path().join(name));
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
    let (kind, model) = (which % 5, usize::from(which / 5));
    if kind < 4 {
        let original = here.join(MODELS[model % MODELS.len()]);
        copy(&original, &input, kind, content);
        return restore(&input, &output, folder.path(), &original);
    }
    let (original, encoding) = FLOATS[model % FLOATS.len()];
    copy(&here.join(original), &input, 0, content);
    let options = QuantizeOptions::for_encoding(encoding);
    match quantize(&input, &output, &options, &JOB) {
        Ok(_) => drop(inspect(&output, true).unwrap()),
        Err(error) => check_refusal(&error, folder.path(), &["in"]),
    }
});
