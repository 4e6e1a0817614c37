//! An index of any content beside its shards, or a shard of any content beside its index: refused in
//! one line with nothing left behind, or the same tensors come out, and become floats again.
#![no_main]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use quant_fuzz::{JOB, check_refusal};
use quant_models::{Model, NonFinite, QuantizeOptions, dequantize, diff, inspect, quantize};

const INDEX: &str =
    r#"{"metadata":{"total_size":56},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#;

fn shard(name: &str) -> Vec<u8> {
    let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}}}"#);
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.into_bytes());
    bytes.extend((0..6).flat_map(|i| (i as f32).to_le_bytes()));
    bytes
}

/// Names and shapes.
fn tensors(model: &Path) -> Vec<(String, Vec<usize>)> {
    let model = Model::open(model).unwrap();
    let tensors = model.tensors().unwrap();
    let pairs = tensors
        .iter()
        .map(|it| (it.name.to_owned(), it.shape().to_vec()));
    pairs.collect::<BTreeSet<_>>().into_iter().collect()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, content)) = bytes.split_first() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let [input, codes, floats] = ["in", "codes", "floats"].map(path);
    fs::create_dir(&input).unwrap();
    let (first, second) = (shard("a"), shard("b"));
    let files: [(&str, &[u8]); 3] = [
        ("model.safetensors.index.json", INDEX.as_bytes()),
        ("1.safetensors", &first),
        ("2.safetensors", &second),
    ];
    for (i, (name, usual)) in files.into_iter().enumerate() {
        let content = if i == usize::from(which % 3) {
            content
        } else {
            usual
        };
        fs::write(input.join(name), content).unwrap();
    }
    let given = match which / 3 % 2 {
        0 => input.clone(),
        _ => input.join("model.safetensors.index.json"),
    };
    let options = QuantizeOptions::default()
        .with_min_elements(0)
        .with_non_finite(NonFinite::Skip);
    if let Err(error) = inspect(&given, true) {
        check_refusal(&error, folder.path(), &["in"]);
    }
    let report = match quantize(&given, &codes, &options, &JOB) {
        Ok(report) => report,
        Err(error) => return check_refusal(&error, folder.path(), &["in"]),
    };
    let before = tensors(&given);
    assert_eq!(before, tensors(&codes));
    assert!(diff(&codes, &codes).unwrap().equal);
    if report.tensors.iter().any(|tensor| tensor.scheme.is_some()) {
        dequantize(&codes, &floats, &Default::default(), &JOB).unwrap();
        assert_eq!(before, tensors(&floats));
    }
});
