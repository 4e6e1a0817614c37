//! A Core ML package with any model, weight file or manifest: it is refused, or becomes one that can
//! be read, with the same weights.
#![no_main]

use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use quant_models::{
    ActivationOptions, Job, NonFinite, QuantizeOptions, dequantize, diff, inspect, quantize,
    wanted_activations,
};

/// The second one with the ranges of its activations.
const FIXTURES: [&str; 2] = [
    "packages/stateful_18_f16.mlpackage",
    "activations/concat_18_f16.mlpackage",
];
const FOLDER: &str = "../crates/quant-models/tests/coreml";
const RANGES: &str = "fuzz_targets/ranges.json";
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
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let has_ranges = usize::from(which) / FILES.len() % 2 == 1;
    let fixture = here.join(FOLDER).join(FIXTURES[usize::from(has_ranges)]);
    for (i, name) in FILES.iter().enumerate() {
        let path = input.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match usize::from(which) % FILES.len() == i {
            true => fs::write(path, content).unwrap(),
            false => fs::copy(fixture.join(name), path).map(|_| ()).unwrap(),
        }
    }
    let options = QuantizeOptions::default()
        .with_min_elements(10)
        .with_non_finite(NonFinite::Skip)
        .with_activations(has_ranges.then(|| ActivationOptions::open(&here.join(RANGES)).unwrap()));
    let job = Job::UNWATCHED;
    let _ = inspect(&input, true);
    let _ = wanted_activations(&input, &ActivationOptions::default());
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
    let _ = dequantize(&codes, &floats, &Default::default(), &job);
});
