//! A Core AI model with any program or metadata: it is refused, or becomes one that can be read, with
//! the same weights; and that becomes floats again.
#![no_main]

use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use quant_core::{Dialect, IntType, Mode, Scheme};
use quant_models::{
    Grouping, Job, NonFinite, QuantizeOptions, dequantize, diff, inspect, quantize,
};

const FIXTURE: &str = "../crates/quant-models/tests/coreai/models/uint4/float.aimodel";
const FILES: [&str; 2] = ["main.mlirb", "metadata.json"];

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, content)) = bytes.split_first() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let [input, codes, floats] = ["in.aimodel", "codes.aimodel", "floats.aimodel"]
        .map(|name| folder.path().join(name));
    fs::create_dir(&input).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURE);
    for (i, name) in FILES.iter().enumerate() {
        match usize::from(which) % FILES.len() == i {
            true => fs::write(input.join(name), content).unwrap(),
            false => fs::copy(fixture.join(name), input.join(name)).map(|_| ()).unwrap(),
        }
    }
    let affine = which & 2 != 0;
    let options = QuantizeOptions::default()
        .with_scheme(
            Scheme::new(
                if affine { IntType::Uint4 } else { IntType::Int8 },
                if affine { Mode::Affine } else { Mode::Symmetric },
            )
            .with_dialect(if which & 4 != 0 { Dialect::CoreaiTorch } else { Dialect::Coreai }),
        )
        .with_granularity(match which & 8 != 0 {
            true => Grouping::PerChannel { axis: None },
            false => Grouping::PerBlock {
                axis: None,
                block_axis: None,
                block_size: 4,
            },
        })
        .with_min_elements(0)
        .with_non_finite(NonFinite::Skip);
    let job = Job::UNWATCHED;
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
    if dequantize(&codes, &floats, &Default::default(), &job).is_ok() {
        inspect(&floats, false).unwrap();
    }
});
