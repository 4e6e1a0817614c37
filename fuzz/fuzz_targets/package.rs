//! A Core ML package with any model, weight file or manifest: it is refused, or becomes one that can
//! be read, with the same weights.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use libfuzzer_sys::fuzz_target;
use quant_models::{Job, NonFinite, QuantizeOptions, dequantize, diff, inspect, quantize};

const FIXTURE: &str = "../crates/quant-models/tests/coreml/packages/stateful_18_f16.mlpackage";
const FILES: [&str; 3] = [
    "Data/com.apple.CoreML/model.mlmodel",
    "Data/com.apple.CoreML/weights/weight.bin",
    "Manifest.json",
];

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, content)) = bytes.split_first() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let [input, codes, floats] = ["in.mlpackage", "codes.mlpackage", "floats.mlpackage"]
        .map(|name| folder.path().join(name));
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURE);
    for (i, name) in FILES.iter().enumerate() {
        let path = input.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match usize::from(which) % FILES.len() == i {
            true => fs::write(path, content).unwrap(),
            false => fs::copy(fixture.join(name), path).map(|_| ()).unwrap(),
        }
    }
    let options = QuantizeOptions {
        min_elements: 10,
        non_finite: NonFinite::Skip,
        ..QuantizeOptions::default()
    };
    let job = Job {
        force: false,
        progress: &|_| (),
        cancelled: &AtomicBool::new(false),
    };
    let _ = inspect(&input, true);
    if let Err(error) = quantize(&input, &codes, &options, &job) {
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{error}");
        return;
    }
    let found = diff(&input, &codes).unwrap();
    assert!(found.tensors.iter().all(|tensor| !matches!(
        tensor.reason.as_deref(),
        Some("only in the first" | "only in the second")
    )));
    let _ = dequantize(&codes, &floats, &job);
});
