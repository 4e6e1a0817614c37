//! What a plan to a size counts: all that its format writes.

use std::fs;

use serde_json::{Value, json};

use super::folder::{Folder, f32_bytes, wave};

/// A model of many small weights in two files, of which the index and the configuration are a large part.
fn small_weights() -> Folder {
    let folder = Folder::new();
    fs::create_dir(folder.path("m")).unwrap();
    let config = json!({"model_type": "llama", "hidden_size": 128});
    fs::write(folder.path("m/config.json"), config.to_string()).unwrap();
    fs::write(folder.path("m/tokenizer.json"), "{}").unwrap();
    let weights: Vec<(String, Vec<u8>)> = (0..24)
        .map(|i| {
            let name = format!("model.layers.{i}.self_attn.q_proj.weight");
            let spikes =
                move |at: usize| wave(at) + if at.is_multiple_of(31 + i) { 4.0 } else { 0.0 };
            (name, f32_bytes(64 * 128, spikes))
        })
        .collect();
    let mut weight_map = serde_json::Map::new();
    for (file, weights) in ["a", "b"].iter().zip(weights.chunks(12)) {
        let file = format!("{file}.safetensors");
        let tensors: Vec<(&str, &str, &[usize], &[u8])> = weights
            .iter()
            .map(|(name, bytes)| (name.as_str(), "F32", &[64, 128][..], &bytes[..]))
            .collect();
        folder.model(&format!("m/{file}"), &tensors);
        for (name, _) in weights {
            weight_map.insert(name.clone(), file.clone().into());
        }
    }
    let index = json!({"metadata": {"total_size": 0}, "weight_map": weight_map});
    fs::write(
        folder.path("m/model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
    folder
}

#[test]
fn a_size_is_that_of_all_that_the_format_writes() {
    let folder = small_weights();
    for format in ["native", "mlx", "compressed-tensors"] {
        for target in [150_000, 180_000_u64] {
            let size = target.to_string();
            let line = ["plan", "m", "--format", format, "--target-size", &size];
            let said = folder.succeeds(&[&line[..], &["-f", "-o", "p.json"]].concat());
            folder.succeeds(&["quantize", "m", "--plan", "p.json", "-f", "-o", "q"]);
            let files = fs::read_dir(folder.path("q")).unwrap().map(Result::unwrap);
            let counted = files.filter(|file| {
                let name = file.file_name();
                // The plain convention copies the configuration.
                name != "tokenizer.json" && (format != "native" || name != "config.json")
            });
            let size: u64 = counted.map(|file| file.metadata().unwrap().len()).sum();
            assert!(size <= target, "{format}: {size} of {target}");
            assert!(size * 10 >= target * 9, "{format}: {size} of {target}");
            assert!(said.contains(&format!(" {size} bytes")), "{size}: {said}");
        }
    }
}

/// Bits per weight of a plan are those of the file: zero points as the format packs them.
#[test]
fn bits_are_those_that_the_file_holds() {
    let folder = small_weights();
    let package = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../quant-models/tests/coreml/packages/linear_18_f16.mlpackage"
    );
    for (model, format, candidate, output) in [
        (package, "native", "int4-affine", "q.mlpackage"),
        (package, "native", "int4-affine:block16", "q.mlpackage"),
        (package, "native", "int8-affine", "q.mlpackage"),
        ("m", "native", "int4-affine:block16", "q"),
        ("m", "compressed-tensors", "int4:block32", "q"),
        ("m", "mlx", "int4:block32", "q"),
    ] {
        let candidates = ["--candidates", candidate, "--target-bits", "12"];
        let plan = ["plan", model, "--format", format, "-f", "-o", "p.json"];
        let said = folder.succeeds(&[&plan[..], &candidates].concat());
        folder.succeeds(&["quantize", model, "--plan", "p.json", "-f", "-o", output]);
        let found = folder.succeeds(&["inspect", output, "--json"]);
        let found: Value = serde_json::from_str(&found).unwrap();
        let (mut bytes, mut elements) = (0, 0);
        for tensor in found["tensors"].as_array().unwrap() {
            if tensor["scheme"].is_object() {
                bytes += tensor["bytes"].as_u64().unwrap();
                let shape = tensor["shape"].as_array().unwrap().iter();
                elements += shape.map(|dim| dim.as_u64().unwrap()).product::<u64>();
            }
        }
        let bits = format!(
            "{:.3} bits per weight",
            8.0 * bytes as f64 / elements as f64
        );
        assert!(
            said.starts_with(&bits),
            "{format} {candidate}: {bits}: {said}"
        );
    }
}
