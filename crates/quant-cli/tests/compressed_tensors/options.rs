//! What options make of a model, and which the format has no place for.

use std::fs;

use serde_json::{Value, json};

use crate::broken::{Tensors, changed};
use crate::folder::{Folder, f32_bytes, wave};
use crate::{Q_PROJ, QUANTIZE, model, read, same_values, tensors};

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&QUANTIZE[..], &["-f"], more].concat()
}

fn config(folder: &Folder) -> Value {
    read(&folder.path("ours/config.json"))["quantization_config"].clone()
}

/// vLLM has kernels for a scale per channel only, where activations are quantized.
#[test]
fn weights_beside_activations_have_a_scale_per_channel() {
    let folder = model("llama-w4a16");
    let preset = ["--preset", "w8a8"];
    for (more, words) in [
        (
            &["--group-size", "32"][..],
            &["groups of 32", "a scale per channel"][..],
        ),
        (
            &["--group-size", "128"],
            &["groups of 128", "--preset w8a16"],
        ),
        (
            &["--mode", "affine"],
            &["zero points", "symmetric", "--preset w8a16"],
        ),
        (&["--bits", "4"], &["codes of 4 bits", "--preset w4a16"]),
    ] {
        folder.refuses(&with(&[&preset[..], more].concat()), 2, words);
    }
    folder.succeeds(&with(&[&preset[..], &["--group-size", "0"]].concat()));
    let weights = &config(&folder)["config_groups"]["W8A8"]["weights"];
    assert_eq!(weights["strategy"], "channel");
    // By way of a plan, too.
    folder.succeeds(&[
        "plan",
        "m",
        "--format",
        "compressed-tensors",
        "-o",
        "plan.json",
    ]);
    let mut plan = read(&folder.path("plan.json"));
    for tensor in plan["tensors"].as_array_mut().unwrap() {
        if !tensor["quantize"].is_null() {
            tensor["quantize"] = json!({"dtype": "int8", "group_size": 32});
        }
    }
    fs::write(folder.path("plan.json"), plan.to_string()).unwrap();
    let planned = ["quantize", "m", "--plan", "plan.json", "-o", "planned"];
    folder.refuses(&planned, 1, &["groups of 32", "a scale per channel"]);
}

#[test]
fn zero_points_go_with_any_bits_and_groups() {
    let folder = model("llama-w4a16");
    for (more, group, bits) in [
        (&["--bits", "8", "--group-size", "0"][..], Value::Null, 8),
        (&["--bits", "8", "--group-size", "32"], json!(32), 8),
        (&["--preset", "w8a16"], json!(128), 8),
        (&[], json!(128), 4),
    ] {
        folder.succeeds(&with(&[more, &["--mode", "affine"]].concat()));
        let groups = config(&folder)["config_groups"].clone();
        let weights = &groups[&format!("W{bits}A16_ASYM")]["weights"];
        assert_eq!(weights["symmetric"], false, "{groups}");
        assert_eq!(
            (&weights["group_size"], &weights["num_bits"]),
            (&group, &json!(bits))
        );
        let scales = group.as_u64().map_or(1, |size| 128 / size as usize);
        let zero_points = &tensors(&folder.path("ours"))[&format!("{Q_PROJ}_zero_point")];
        assert_eq!(zero_points.2, [128 * bits / 32, scales]);
        folder.succeeds(&["dequantize", "ours", "-o", "back", "-f"]);
        same_values(&folder, "ours", "back");
    }
    // The preset's zero points give way.
    folder.succeeds(&with(&["--preset", "w4a16-asym", "--mode", "symmetric"]));
    assert!(tensors(&folder.path("ours")) == tensors(&folder.path("theirs")));
    folder.refuses(
        &with(&["--granularity", "per-channel"]),
        2,
        &["--granularity has no effect", "there it is --group-size"],
    );
    let help = folder.succeeds(&["quantize", "--help"]);
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("0 is a scale per channel"), "{help}");
    let help = folder.succeeds(&["index", "--help"]);
    assert!(
        help.contains("compressed-tensors and mlx need the whole"),
        "{help}"
    );
}

#[test]
fn groups_that_fit_few_layers_are_told() {
    let folder = Folder::new();
    fs::create_dir(folder.path("m")).unwrap();
    fs::write(folder.path("m/config.json"), "{}").unwrap();
    let values = f32_bytes(16 * 256, wave);
    let narrow = &values[..16 * 128 * 4];
    let wide = ("wide.weight", "F32", &[16, 256][..], &values[..]);
    let one = ("one.weight", "F32", &[16, 128][..], narrow);
    let two = ("two.weight", "F32", &[16, 128][..], narrow);
    for (layers, is_most) in [(&[wide, one, two][..], true), (&[wide, one], false)] {
        folder.model("m/model.safetensors", layers);
        for quiet in [&["-q"][..], &[]] {
            let more = [&["--group-size", "256"], quiet].concat();
            let (_, said) = folder.said(&with(&more));
            let words =
                "most of what was selected is not quantized: 2 of 3 tensors, such as `one.weight`";
            assert_eq!(said.contains(words), is_most, "{said}");
        }
    }
}

/// vLLM asks `ignore` for `experts.0.gate_proj`, whatever the tensors are called.
#[test]
fn stacks_that_stay_in_float_are_ignored() {
    let folder = Folder::new();
    fs::create_dir(folder.path("m")).unwrap();
    fs::write(folder.path("m/config.json"), "{}").unwrap();
    let values = f32_bytes(2 * 64 * 32, wave);
    let matrix = &values[..64 * 32 * 4];
    folder.model(
        "m/model.safetensors",
        &[
            ("l.0.mlp.experts.gate_up_proj", "F32", &[2, 64, 32], &values),
            ("l.0.mlp.experts.down_proj", "F32", &[2, 32, 64], &values),
            ("l.0.mlp.gate.weight", "F32", &[64, 32], matrix),
            ("l.0.q_proj.weight", "F32", &[64, 32], matrix),
        ],
    );
    let (_, said) = folder.said(&with(&["--group-size", "32", "-q"]));
    assert!(
        said.contains("2 tensors of stacked experts stay in float, such as `l.0.mlp.experts."),
        "{said}"
    );
    assert_eq!(
        config(&folder)["ignore"],
        json!(["lm_head", r"re:l\.0\.mlp\.experts\..*", "l.0.mlp.gate"])
    );
    folder.succeeds(&["dequantize", "ours", "-o", "back"]);
}

/// Granite has both projections of all experts in a tensor each, and its router beside them.
#[test]
fn stacks_of_granite_are_ignored() {
    let folder = Folder::new();
    fs::create_dir(folder.path("m")).unwrap();
    fs::write(folder.path("m/config.json"), "{}").unwrap();
    let values = f32_bytes(2 * 64 * 32, wave);
    let matrix = &values[..64 * 32 * 4];
    let moe = "l.0.block_sparse_moe";
    let names = ["input_linear", "output_linear", "router.layer"];
    let names = names.map(|name| format!("{moe}.{name}.weight"));
    folder.model(
        "m/model.safetensors",
        &[
            (&names[0], "F32", &[2, 64, 32], &values),
            (&names[1], "F32", &[2, 32, 64], &values),
            (&names[2], "F32", &[64, 32], matrix),
            (
                "l.0.shared_mlp.input_linear.weight",
                "F32",
                &[64, 32],
                matrix,
            ),
        ],
    );
    let (_, said) = folder.said(&with(&["--group-size", "32", "-q"]));
    assert!(said.contains("2 tensors of stacked experts"), "{said}");
    let config = config(&folder);
    assert_eq!(
        config["ignore"],
        json!([
            "lm_head",
            r"re:l\.0\.block_sparse_moe\.(experts|input_linear|output_linear)\b.*",
            "l.0.block_sparse_moe.router.layer"
        ])
    );
    folder.succeeds(&["dequantize", "ours", "-o", "back"]);
}

/// vLLM makes one layer of some, which then has one scheme.
#[test]
fn layers_that_loaders_fuse_are_alike_or_it_is_told() {
    let folder = model("llama-w4a16");
    let words = "vLLM makes one layer of them";
    for (more, start) in [
        (
            &["--include", "q_proj"][..],
            "`model.layers.0.self_attn.q_proj` is quantized otherwise than `k_proj` and `v_proj`",
        ),
        (
            &["--exclude", "up_proj"],
            "`model.layers.0.mlp.gate_proj` is quantized otherwise than `up_proj`",
        ),
    ] {
        let (_, said) = folder.said(&with(&[more, &["-q"]].concat()));
        let told: Vec<&str> = said.lines().filter(|line| line.contains(words)).collect();
        assert_eq!(told.len(), 1, "{said}");
        assert!(told[0].contains(start), "{said}");
    }
    for more in [
        &[][..],
        &["--include", "[qkv]_proj"],
        &["--include", "o_proj"],
    ] {
        let (_, said) = folder.said(&with(&[more, &["-q"]].concat()));
        assert!(!said.contains(words), "{said}");
    }
}

/// Parameters of activations and of a cache mean nothing beside floats, nor in other formats.
#[test]
fn parameters_of_activations_are_left_out_and_it_is_told() {
    let attention = "model.layers.0.self_attn";
    let parts = ["k_proj.input_scale", "k_scale", "v_scale"];
    let parts = parts.map(|part| format!("{attention}.{part}"));
    let own = "model.norm.input_scale";
    let more = |all: &mut Tensors| {
        for name in parts.iter().map(String::as_str).chain([own]) {
            let one = ("F32".to_owned(), vec![1], 1_f32.to_le_bytes().into());
            all.insert(name.to_owned(), one);
        }
    };
    let cache = |config: &mut Value| {
        config["kv_cache_scheme"] = json!({"num_bits": 8, "type": "float", "dynamic": false});
    };
    let folder = changed("llama-w8a16", more, cache);
    let words = format!("3 tensors, such as `{}`, are left out", parts[0]);
    let (_, said) = folder.said(&["dequantize", "theirs", "-o", "back", "-q"]);
    assert!(said.contains(&words), "{said}");
    let back = tensors(&folder.path("back"));
    assert!(back.contains_key(own));
    assert!(parts.iter().all(|name| !back.contains_key(name)));
    for (format, to) in [("native", "own"), ("gguf", "own.gguf")] {
        let convert = ["convert", "theirs", "--format", format, "-o", to, "-q"];
        let (_, said) = folder.said(&convert);
        assert!(said.contains(&words), "{said}");
        assert!(said.contains("`kv_cache_scheme`"), "{said}");
        let shown = folder.succeeds(&["inspect", to]);
        assert!(shown.contains(own), "{shown}");
        assert!(parts.iter().all(|name| !shown.contains(name.as_str())));
    }
    // They are shown where they are.
    let shown = folder.succeeds(&["inspect", "theirs"]);
    assert!(parts.iter().all(|name| shown.contains(name.as_str())));
    let (_, said) = folder.said(&["dequantize", "theirs", "-o", "back", "-f", "-q"]);
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// quant's own layout does not say how activations are quantized.
#[test]
fn what_a_conversion_leaves_out_is_told() {
    for (case, is_told) in [("llama-w8a8", true), ("llama-w8a16", false)] {
        let folder = model(case);
        let convert = [
            "convert", "theirs", "--format", "native", "-o", "native", "-q",
        ];
        let (_, said) = folder.said(&convert);
        let words = "activations are quantized, too (group `W8A8`)";
        assert_eq!(said.contains(words), is_told, "{said}");
        assert_eq!(said.is_empty(), !is_told, "{said}");
    }
}
