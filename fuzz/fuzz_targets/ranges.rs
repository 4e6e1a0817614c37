//! Ranges written by hand: refused in one line with nothing left behind, or a package comes out that
//! can be read.
#![no_main]

use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use quant_core::{IntType, Mode, Scheme};
use quant_fuzz::{JOB, check_refusal};
use quant_models::{
    ActivationOptions, Calibration, QuantizeOptions, Ranges, inspect, merge_calibrations, quantize,
    quantize_activations,
};

/// `ranges.json` beside this file has its activations.
const PACKAGE: &str = "../crates/quant-models/tests/coreml/activations/concat_18_f16.mlpackage";

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, content)) = bytes.split_first() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (ranges, output) = (path("ranges.json"), path("out.mlpackage"));
    fs::write(&ranges, content).unwrap();
    let refused = |error| check_refusal(&error, folder.path(), &["ranges.json"]);
    if let Err(error) = Calibration::open(&ranges) {
        refused(error);
    }
    match merge_calibrations(&[ranges.clone()], &path("merged.json"), &JOB) {
        Ok(_) => fs::remove_file(path("merged.json")).unwrap(),
        Err(error) => refused(error),
    }
    let known = Ranges::open(&ranges);
    let options = match ActivationOptions::open(&ranges) {
        Ok(options) => options.with_scheme(Scheme::new(
            [IntType::Int8, IntType::Uint8][usize::from(which % 2)],
            [Mode::Symmetric, Mode::Affine][usize::from(which / 2 % 2)],
        )),
        Err(error) => return refused(error),
    };
    assert!(known.is_ok());
    let input = Path::new(env!("CARGO_MANIFEST_DIR")).join(PACKAGE);
    let done = match which / 4 % 2 {
        0 => quantize_activations(&input, &output, &options, &JOB),
        _ => {
            let options = QuantizeOptions::default()
                .with_min_elements(10)
                .with_activations(options);
            quantize(&input, &output, &options, &JOB)
        }
    };
    match done {
        Ok(_) => drop(inspect(&output, true).unwrap()),
        Err(error) => refused(error),
    }
});
