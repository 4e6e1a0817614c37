//! A configuration of any content, for a model of either format: refused in one line with nothing
//! left behind, or a model comes out that can be read.
#![no_main]

use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use quant_core::Dialect;
use quant_fuzz::{JOB, check_refusal};
use quant_models::{Config, QuantizeOptions, diff, inspect, quantize};

const PACKAGE: &str = "../crates/quant-models/tests/coreml/packages/linear_18_f16.mlpackage";

/// A weight of some size, and one of no more than a row.
fn file() -> Vec<u8> {
    let header = r#"{"w":{"dtype":"F32","shape":[64,64],"data_offsets":[0,16384]},"b":{"dtype":"F32","shape":[4],"data_offsets":[16384,16400]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend((0..4100).flat_map(|i| (i as f32).to_le_bytes()));
    bytes
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, content)) = bytes.split_first() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let name = ["c.json", "c.yaml"][usize::from(which % 2)];
    let config = folder.path().join(name);
    fs::write(&config, content).unwrap();
    let dialect = Dialect::ALL[usize::from(which / 4) % Dialect::ALL.len()];
    let options = QuantizeOptions::default()
        .with_config(match Config::open(&config, dialect) {
            Ok(config) => Some(config),
            Err(error) => return check_refusal(&error, folder.path(), &[name]),
        })
        .with_exact_selection(true);
    let (output, written) = (folder.path().join("out"), folder.path().join("m"));
    let (input, others) = match which / 2 % 2 {
        0 => (
            Path::new(env!("CARGO_MANIFEST_DIR")).join(PACKAGE),
            &[name][..],
        ),
        _ => {
            fs::write(&written, file()).unwrap();
            (written, &[name, "m"][..])
        }
    };
    let output = match which / 2 % 2 {
        0 => output.with_extension("mlpackage"),
        _ => output,
    };
    if let Err(error) = quantize(&input, &output, &options, &JOB) {
        return check_refusal(&error, folder.path(), others);
    }
    inspect(&output, false).unwrap();
    diff(&input, &output).unwrap();
});
