//! The whole command on any file: it refuses, or writes a model that it can read, with the same
//! tensors, and that becomes floats again.
#![no_main]

use std::fs;

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use quant_models::{Job, Model, NonFinite, QuantizeOptions, dequantize, diff, quantize};

fuzz_target!(|bytes: &[u8]| {
    let Some((options, file)) = bytes.split_at_checked(24) else {
        return;
    };
    let mut u = Unstructured::new(options);
    let options = QuantizeOptions::default()
        .with_scheme(quant_fuzz::scheme(&mut u).unwrap())
        .with_granularity(quant_fuzz::granularity(&mut u).unwrap().into())
        .with_min_elements(0)
        .with_non_finite(*u.choose(&[NonFinite::Skip, NonFinite::Error]).unwrap())
        .with_strict(u.ratio(1, 8).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let [input, codes, floats] = ["in", "codes", "floats"].map(path);
    fs::write(&input, file).unwrap();
    let job = Job::UNWATCHED;
    let Ok(report) = quantize(&input, &codes, &options, &job) else {
        assert!(!codes.exists());
        return;
    };
    let (before, after) = (Model::open(&input).unwrap(), Model::open(&codes).unwrap());
    let names = |model: &Model| -> Vec<(String, Vec<usize>)> {
        let tensors = model.tensors().unwrap();
        let pairs = tensors
            .iter()
            .map(|it| (it.name.to_owned(), it.shape().to_vec()));
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort();
        pairs
    };
    assert_eq!(names(&before), names(&after));
    // Where nothing was quantized, nothing can be made float again.
    if report.tensors.iter().any(|tensor| tensor.scheme.is_some()) {
        dequantize(&codes, &floats, &Default::default(), &job).unwrap();
        assert_eq!(names(&before), names(&Model::open(&floats).unwrap()));
    }
    assert!(diff(&codes, &codes).unwrap().equal);
});
