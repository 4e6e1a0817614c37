//! Quantized models that nobody has made: a file of any content, or a quantized package with a model
//! or weights of any content. Each is refused in one line with nothing left behind, or becomes floats
//! that can be read.
#![no_main]

use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use quant_fuzz::{JOB, check_refusal};
use quant_models::{dequantize, diff, inspect};

const FOLDER: &str = "../crates/quant-models/tests/coreml/activations";
const PACKAGES: [&str; 2] = ["quantized_17_f16.mlpackage", "quantized_18_f16.mlpackage"];
const FILES: [&str; 3] = [
    "Manifest.json",
    "Data/com.apple.CoreML/model.mlmodel",
    "Data/com.apple.CoreML/weights/weight.bin",
];

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, content)) = bytes.split_first() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
    let package = &here.join(PACKAGES[usize::from(which / 4) % 2]);
    let changed = usize::from(which % 4);
    let name = if changed == 0 { "in" } else { "in.mlpackage" };
    let input = folder.path().join(name);
    if changed == 0 {
        fs::write(&input, content).unwrap();
    } else {
        for (i, file) in FILES.iter().enumerate() {
            let to = input.join(file);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            match i + 1 == changed {
                true => fs::write(to, content).unwrap(),
                false => drop(fs::copy(package.join(file), to).unwrap()),
            }
        }
    }
    let output = folder.path().join(name.replace("in", "out"));
    let refused = |error| check_refusal(&error, folder.path(), &[name]);
    let seen = inspect(&input, true).map_err(refused).is_ok();
    for (a, b) in [(&input, &input), (&input, package), (package, &input)] {
        match diff(a, b) {
            Ok(found) if a == b => assert!(found.equal || found.tensors.iter().any(|it| !it.equal)),
            Ok(_) => {}
            Err(error) => refused(error),
        }
    }
    match dequantize(&input, &output, &Default::default(), &JOB) {
        Ok(_) => {
            assert!(seen);
            inspect(&output, true).unwrap();
            diff(&input, &output).unwrap();
        }
        Err(error) => refused(error),
    }
});
