//! Layers that are damaged, or another scheme's, beside good ones: nothing is restored or converted.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::folder::Folder;
use crate::{Q_PROJ, add, model, read, tensors};

/// Type, shape and bytes, by name.
pub type Tensors = BTreeMap<String, (String, Vec<usize>, Vec<u8>)>;

/// A case whose reference's result, `theirs`, has other tensors and another `quantization_config`.
pub fn changed(
    case: &str,
    tensors_of: impl Fn(&mut Tensors),
    config_of: impl Fn(&mut Value),
) -> Folder {
    let folder = model(case);
    let path = folder.path("theirs");
    let all = tensors(&path).into_iter();
    let mut all: Tensors = all.map(|(name, it)| (name, (it.1, it.2, it.3))).collect();
    tensors_of(&mut all);
    for entry in fs::read_dir(&path).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().contains(".safetensors") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let all = all.iter();
    let all: Vec<_> = all
        .map(|(name, (dtype, shape, bytes))| {
            (name.as_str(), dtype.as_str(), &shape[..], &bytes[..])
        })
        .collect();
    folder.model("theirs/model.safetensors", &all);
    let mut config = read(&path.join("config.json"));
    config_of(&mut config["quantization_config"]);
    fs::write(path.join("config.json"), config.to_string()).unwrap();
    folder
}

pub const NO: fn(&mut Value) = |_| {};

/// Neither restored nor converted, with these words; but shown, with the first of them, and compared.
pub fn is_refused(folder: &Folder, words: &[&str]) {
    let words = [&["theirs/model.safetensors"], words].concat();
    model_is_refused(folder, "theirs", &["native", "gguf"], &words);
}

/// The same of any model, in the formats that it is not in; the first of the words is its file.
fn model_is_refused(folder: &Folder, model: &str, formats: &[&str], words: &[&str]) {
    let words = [&["not restored"], words].concat();
    folder.refuses(&["dequantize", model, "-o", "x"], 1, &words);
    for format in formats {
        let to = if *format == "gguf" { "x.gguf" } else { "x" };
        let convert = ["convert", model, "--format", format, "-o", to];
        folder.refuses(&convert, 1, &words);
    }
    let shown = folder.json(&["inspect", model]);
    let mut shown = shown["tensors"].as_array().unwrap().iter();
    let kind = shown.find_map(|it| it["kind"].as_str()).unwrap();
    assert!(
        kind.contains("not read") && kind.contains(words[2]),
        "{kind}"
    );
    folder.succeeds(&["diff", model, model]);
    let out = folder.quant(&["diff", "m", model]);
    let difference = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(1), "{difference}");
}

/// The name of a part of the layer.
fn part(of: &str) -> String {
    format!("{Q_PROJ}_{of}")
}

#[test]
fn without_their_parts() {
    for (case, lost) in [
        ("llama-w4a16", "scale"),
        ("llama-w4a16", "shape"),
        ("llama-w4a16", "packed"),
        ("llama-w8a16", "scale"),
        ("llama-w8a8", "scale"),
    ] {
        let lose = |all: &mut Tensors| drop(all.remove(&part(lost)).unwrap());
        let lost = part(lost);
        is_refused(
            &changed(case, lose, NO),
            &[&format!("`{lost}` is missing"), Q_PROJ, "fetch it again"],
        );
    }
    let no_bytes = |all: &mut Tensors| drop(all.remove(Q_PROJ).unwrap());
    is_refused(
        &changed("llama-w8a8", no_bytes, NO),
        &["is missing", Q_PROJ],
    );
    let case = "llama-tied-w4a16-asym";
    let one = |all: &mut Tensors| drop(all.remove(&part("zero_point")).unwrap());
    let all = |all: &mut Tensors| all.retain(|name, _| !name.ends_with("zero_point"));
    let words = [
        "`weights.symmetric` is false",
        "`W4A16_ASYM`",
        "no `weight_zero_point`",
    ];
    is_refused(&changed(case, one, NO), &words);
    is_refused(&changed(case, all, NO), &words);
}

#[test]
fn of_another_order_or_another_type() {
    let order = (0..128_i32)
        .rev()
        .flat_map(i32::to_le_bytes)
        .collect::<Vec<_>>();
    let order = ("I32".to_owned(), vec![128], order);
    let one = |all: &mut Tensors| drop(all.insert(part("g_idx"), order.clone()));
    let all = |all: &mut Tensors| {
        let words: Vec<String> = all
            .keys()
            .filter(|it| it.ends_with("_packed"))
            .cloned()
            .collect();
        for name in words {
            all.insert(name.replace("_packed", "_g_idx"), order.clone());
        }
    };
    is_refused(
        &changed("llama-w4a16", one, NO),
        &["`weight_g_idx`", Q_PROJ],
    );
    is_refused(&changed("llama-w4a16", all, NO), &["`weight_g_idx`"]);
    let float = |scale: bool| {
        move |all: &mut Tensors| {
            all.remove(&part("packed"));
            all.remove(&part("shape"));
            if !scale {
                all.remove(&part("scale"));
            }
            let codes = ("F8_E4M3".to_owned(), vec![128, 128], vec![0x38; 128 * 128]);
            all.insert(Q_PROJ.to_owned(), codes);
        }
    };
    for scale in [true, false] {
        let folder = changed("llama-w4a16", float(scale), NO);
        is_refused(&folder, &["is F8_E4M3 [128, 128]", Q_PROJ]);
    }
    let beside = |all: &mut Tensors| {
        let floats = ("BF16".to_owned(), vec![128, 128], vec![0; 2 * 128 * 128]);
        all.insert(Q_PROJ.to_owned(), floats);
    };
    is_refused(
        &changed("llama-w4a16", beside, NO),
        &["which is BF16", Q_PROJ],
    );
}

/// A layer of an older version that leaves zeros out, under the names that it had.
fn sparse<'a>(
    names: &'a [String; 4],
    bytes: &'a [u8],
) -> [(&'a str, &'a str, &'a [usize], &'a [u8]); 4] {
    let [values, mask, rows, shape] = names;
    [
        (values, "BF16", &[128 * 64], &bytes[..128 * 64 * 2]),
        (mask, "U8", &[128, 16], &bytes[..128 * 16]),
        (rows, "I64", &[128], &bytes[..128 * 8]),
        (shape, "I64", &[2], &bytes[..16]),
    ]
}

#[test]
fn sparse_layers_of_older_versions() {
    let tool = "compressed-tensors (sparse)";
    for of in [
        "model.layers.9.self_attn.q_proj",
        "model.layers.9.self_attn.q_proj.weight",
    ] {
        let parts = ["compressed", "bitmask", "row_offsets", "shape"];
        let names = parts.map(|part| format!("{of}.{part}"));
        let bytes = vec![1; 128 * 64 * 2];
        let layer = sparse(&names, &bytes);
        for (format, model, others) in [
            ("compressed-tensors", "theirs", &["native", "gguf"][..]),
            ("native", "own", &["compressed-tensors", "gguf"]),
            ("mlx", "mlx", &["native", "gguf"]),
        ] {
            // A part or two of it are enough.
            for parts in [&layer[..], &layer[..2], &[layer[0], layer[3]]] {
                let folder = crate::model("llama-w8a16");
                if format != "compressed-tensors" {
                    let to = ["--format", format, "-o", model];
                    folder.succeeds(&[&["quantize", "m"], &to[..]].concat());
                }
                let file = format!("{model}/model.safetensors");
                add(&folder.path(&file), parts);
                let words = [&*file, tool, &names[0], "restore it with the tool"];
                model_is_refused(&folder, model, others, &words);
            }
        }
    }
    // With scales it is quantized, too.
    let folder = model("llama-w8a16");
    let [values, scales] = ["compressed", "weight_scale"].map(|part| format!("m.{part}"));
    let more: [(&str, &str, &[usize], &[u8]); 2] = [
        (&values, "I8", &[64], &[1; 64]),
        (&scales, "F32", &[8, 1], &[0; 32]),
    ];
    add(&folder.path("theirs/model.safetensors"), &more);
    is_refused(&folder, &["it is sparse, and its zeros are left out"]);
}

#[test]
fn with_scales_and_zero_points_that_are_not_read() {
    for (dtype, shape, size) in [
        ("I16", vec![128, 1], 2),
        ("F32", vec![1, 128], 4),
        ("F32", vec![128], 4),
        ("F32", vec![2], 4),
        ("F32", vec![1, 1], 4),
        ("F32", vec![64, 2], 4),
        ("F32", vec![128, 3], 4),
        ("F64", vec![128, 1], 8),
    ] {
        let bytes = vec![0; shape.iter().product::<usize>() * size];
        let scales = (dtype.to_owned(), shape.clone(), bytes);
        for case in ["llama-w8a8", "llama-w4a16"] {
            let change = |all: &mut Tensors| drop(all.insert(part("scale"), scales.clone()));
            let said = format!("`weight_scale` is {dtype} {shape:?}");
            is_refused(&changed(case, change, NO), &[&said, Q_PROJ]);
        }
    }
    // Zero points of bytes, of one layer and of all.
    for case in ["llama-w8a8", "llama-w4a16", "llama-tied-w4a16-asym"] {
        let change = |all: &mut Tensors| {
            let zero_points = ("I8".to_owned(), vec![128, 1], vec![5; 128]);
            all.insert(part("zero_point"), zero_points);
        };
        let words = ["`weight_zero_point` is I8 [128, 1]", Q_PROJ];
        is_refused(&changed(case, change, NO), &words);
        let change = |all: &mut Tensors| {
            let scales = all.iter().filter(|(name, _)| name.ends_with("_scale"));
            let scales = scales.map(|(name, (_, shape, _))| (name.clone(), shape.clone()));
            for (name, shape) in scales.collect::<Vec<_>>() {
                let bytes = vec![5; shape.iter().product()];
                let zero_points = ("I8".to_owned(), shape, bytes);
                all.insert(name.replace("_scale", "_zero_point"), zero_points);
            }
        };
        let asymmetric = |config: &mut Value| {
            for group in config["config_groups"]
                .as_object_mut()
                .unwrap()
                .values_mut()
            {
                group["weights"]["symmetric"] = json!(false);
            }
        };
        is_refused(
            &changed(case, change, asymmetric),
            &["`weight_zero_point` is I8"],
        );
    }
}

/// Codes of 3 bits are the reference's, too; they are shown.
#[test]
fn of_other_numbers_of_bits() {
    let three = |all: &mut Tensors| {
        let words = ("I32".to_owned(), vec![128, 12], vec![0; 128 * 12 * 4]);
        all.insert(part("packed"), words);
    };
    is_refused(
        &changed("llama-w4a16", three, NO),
        &["codes of 3 bits", Q_PROJ],
    );
    // The last word of each row is not full.
    let ragged = |all: &mut Tensors| {
        let words = ("I32".to_owned(), vec![128, 13], vec![0; 128 * 13 * 4]);
        all.insert(part("packed"), words);
        let shape = [128_u64, 100]
            .iter()
            .flat_map(|it| it.to_le_bytes())
            .collect();
        all.insert(part("shape"), ("I64".to_owned(), vec![2], shape));
    };
    is_refused(
        &changed("llama-w4a16", ragged, NO),
        &["do not fit into whole words", Q_PROJ],
    );
}

/// What is no layer's, or ignored, stays as it is.
#[test]
fn what_nobody_says_is_quantized_stays() {
    let more = |all: &mut Tensors| {
        let bytes = ("I8".to_owned(), vec![4, 4], vec![1; 16]);
        all.insert("lm_head.weight".to_owned(), bytes.clone());
        all.insert("positions".to_owned(), bytes);
        all.insert(
            "table.weight".to_owned(),
            ("I64".to_owned(), vec![4], vec![0; 32]),
        );
    };
    let folder = changed("llama-tied-w4a16-asym", more, NO);
    folder.succeeds(&["dequantize", "theirs", "-o", "back"]);
    let back = tensors(&folder.path("back"));
    for name in ["lm_head.weight", "positions"] {
        assert_eq!(back[name].1, "I8");
    }
}
