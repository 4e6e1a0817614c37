//! A GGUF file of any content: refused in one line with nothing left behind, or its tensors are in the
//! result under the same names, in blocks where these fit, and become floats again.
#![no_main]

use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use quant_core::GgmlType;
use quant_fuzz::{JOB, check_refusal};
use quant_models::{Encoding, NonFinite, QuantizeOptions, dequantize, diff, inspect, quantize};

/// Names and lengths.
fn tensors(model: &Path) -> Vec<(String, usize)> {
    let found = inspect(model, false).unwrap().tensors;
    let tensors = found.into_iter();
    tensors
        .map(|it| (it.name, it.shape.iter().product()))
        .collect()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&how, content)) = bytes.split_first() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let [input, blocks, floats] = ["in.gguf", "blocks.gguf", "floats.gguf"].map(|it| folder.path().join(it));
    fs::write(&input, content).unwrap();
    let options = QuantizeOptions::for_encoding(Encoding::Gguf)
        .with_block_type(GgmlType::ALL[usize::from(how) % GgmlType::ALL.len()])
        .with_requantize(how >= 128)
        .with_min_elements(0)
        .with_non_finite(NonFinite::Skip);
    if let Err(error) = inspect(&input, true) {
        check_refusal(&error, folder.path(), &["in.gguf"]);
    }
    let report = match quantize(&input, &blocks, &options, &JOB) {
        Ok(report) => report,
        Err(error) => return check_refusal(&error, folder.path(), &["in.gguf"]),
    };
    let before = tensors(&input);
    assert_eq!(before, tensors(&blocks));
    assert!(diff(&blocks, &blocks).unwrap().equal);
    if report.tensors.iter().any(|tensor| tensor.scheme.is_some()) {
        match dequantize(&blocks, &floats, &Default::default(), &JOB) {
            Ok(_) => assert_eq!(before, tensors(&floats)),
            // Blocks that were there before may hold scales that are not finite.
            Err(error) => check_refusal(&error, folder.path(), &["in.gguf", "blocks.gguf"]),
        }
    }
});
