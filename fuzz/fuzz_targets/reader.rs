//! Any file: it is refused, or all that is said of it is true.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use quant_models::{Model, SafetensorsFile};

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, bytes).unwrap();
    let Ok(file) = SafetensorsFile::open(&path) else {
        return;
    };
    let mut end = 0;
    for (_, entry) in file.entries() {
        // No holes, nothing twice.
        assert_eq!(entry.data_offsets.0, end);
        end = entry.data_offsets.1;
        let bytes = file.read(entry).unwrap();
        assert_eq!(bytes.len(), end - entry.data_offsets.0);
    }
    let Ok(model) = Model::open(&path) else {
        return;
    };
    let Ok(tensors) = model.tensors() else {
        return;
    };
    for tensor in tensors {
        let elements: usize = tensor.shape().iter().product();
        assert_eq!(tensor.element_count(), elements);
        if tensor.float_type().is_some() && elements < 100_000 {
            if let Ok((shape, values)) = model.read_f32(tensor.name) {
                assert_eq!(shape.iter().product::<usize>(), values.len());
            }
        }
    }
});
