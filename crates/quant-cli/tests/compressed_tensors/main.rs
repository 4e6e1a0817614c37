//! The convention of compressed-tensors: the files that llm-compressor writes, and what is done with
//! them. `crates/quant-models/tests/compressed_tensors/check.py` made the models.
//!
//! Long: one program for all of it, which is quicker to link than two.

mod broken;
mod config;
#[path = "../folder/mod.rs"]
mod folder;
mod options;
mod planned;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::{Value, json};

use folder::Folder;

/// Models, and the presets that they are quantized with.
const CASES: [(&str, &str); 4] = [
    ("llama-w4a16", "w4a16"),
    ("llama-tied-w4a16-asym", "w4a16-asym"),
    ("llama-w8a16", "w8a16"),
    ("llama-w8a8", "w8a8"),
];
const Q_PROJ: &str = "model.layers.0.self_attn.q_proj.weight";

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../quant-models/tests/compressed_tensors/models")
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A tensor's file, type, shape and bytes.
type Tensor = (String, String, Vec<usize>, Vec<u8>);

fn tensors(folder: &Path) -> BTreeMap<String, Tensor> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "safetensors") {
            continue;
        }
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = fs::read(&path).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let dtype = format!("{:?}", view.dtype());
            let tensor = (
                file.clone(),
                dtype,
                view.shape().to_vec(),
                view.data().to_vec(),
            );
            found.insert(name, tensor);
        }
    }
    found
}

/// A folder with a copy of the float model of a case as `m`, and the reference's result as `theirs`.
fn model(case: &str) -> Folder {
    let folder = Folder::new();
    for (from, to) in [("float", "m"), ("compressed", "theirs")] {
        fs::create_dir(folder.path(to)).unwrap();
        let from = models().join(case).join(from);
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), folder.path(to).join(entry.file_name())).unwrap();
        }
    }
    folder
}

const QUANTIZE: [&str; 6] = [
    "quantize",
    "m",
    "--format",
    "compressed-tensors",
    "-o",
    "ours",
];

#[test]
fn folders_are_those_of_llm_compressor() {
    for (case, preset) in CASES {
        for backend in ["scalar", "detected"] {
            let folder = model(case);
            let mut line = [&QUANTIZE[..], &["--preset", preset]].concat();
            if backend == "scalar" {
                line.extend(["--backend", "scalar"]);
            }
            folder.succeeds(&line);
            let (ours, theirs) = (folder.path("ours"), folder.path("theirs"));
            let (own, other) = (tensors(&ours), tensors(&theirs));
            let names = |of: &BTreeMap<String, Tensor>| of.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&own), names(&other), "{case}");
            assert!(own == other, "{case}");
            let config = |folder: &Path| {
                let mut config = read(&folder.join("config.json"));
                let ignored = config["quantization_config"]["ignore"].take();
                (config, ignored)
            };
            assert_eq!(config(&ours).0, config(&theirs).0, "{case}");
            let ignored = config(&ours).1;
            let ignored: Vec<&str> = ignored
                .as_array()
                .unwrap()
                .iter()
                .flat_map(Value::as_str)
                .collect();
            assert_eq!(ignored, ["lm_head", "model.embed_tokens"], "{case}");
            assert!(ours.join("generation_config.json").is_file());
        }
    }
}

#[test]
fn they_are_inspected_compared_and_restored() {
    for (case, _) in CASES {
        let folder = model(case);
        let inspection = folder.succeeds(&["inspect", "theirs", "--json"]);
        let inspection: Value = serde_json::from_str(&inspection).unwrap();
        let listed = inspection["tensors"].as_array().unwrap();
        assert!(
            listed
                .iter()
                .all(|one| one["dtype"] != "I32" && one["dtype"] != "I64")
        );
        let q_proj = listed.iter().find(|one| one["name"] == Q_PROJ).unwrap();
        assert_eq!(q_proj["shape"], json!([128, 128]), "{case}");
        assert_eq!(q_proj["scheme"]["dialect"], "compressed-tensors", "{case}");
        folder.succeeds(&["diff", "theirs", "theirs"]);

        folder.succeeds(&["dequantize", "theirs", "-o", "back"]);
        let config = read(&folder.path("back/config.json"));
        assert!(config.get("quantization_config").is_none());
        let (back, original) = (tensors(&folder.path("back")), tensors(&folder.path("m")));
        for (name, (_, dtype, shape, _)) in &original {
            assert_eq!(
                (&back[name].1, &back[name].2),
                (dtype, shape),
                "{case} {name}"
            );
        }
        assert_eq!(back.len(), original.len());
        // What is restored is as far from the float model as the codes say.
        let out = folder.quant(&["diff", "m", "back", "--json"]);
        let diff: Value = serde_json::from_slice(&out.stdout).unwrap();
        for tensor in diff["tensors"].as_array().unwrap() {
            let name = tensor["name"].as_str().unwrap();
            let is_float = !name.contains("proj");
            let sqnr = tensor["sqnr_db"].as_f64();
            assert!(sqnr.is_none_or(|sqnr| sqnr > 15.0), "{case} {tensor}");
            assert_eq!(sqnr.is_none(), is_float, "{case} {tensor}");
        }
        let out = folder.quant(&["diff", "theirs", "back", "--json"]);
        let diff: Value = serde_json::from_slice(&out.stdout).unwrap();
        for tensor in diff["tensors"].as_array().unwrap() {
            let error = tensor["max_abs_error"].as_f64().unwrap_or(0.0);
            assert_eq!(error, 0.0, "{case} {tensor}");
        }
    }
}

#[test]
fn bits_groups_and_names_are_free() {
    let folder = model("llama-w4a16");
    let more = ["--bits", "8", "--group-size", "32", "--exclude", "k_proj"];
    folder.succeeds(&[&QUANTIZE[..], &more].concat());
    let config = read(&folder.path("ours/config.json"));
    let quantization = &config["quantization_config"];
    let weights = &quantization["config_groups"]["W8A16"]["weights"];
    assert_eq!(
        (&weights["num_bits"], &weights["group_size"]),
        (&json!(8), &json!(32))
    );
    let ignored = quantization["ignore"].as_array().unwrap();
    assert!(ignored.contains(&json!("model.layers.0.self_attn.k_proj")));
    let ours = tensors(&folder.path("ours"));
    assert_eq!(ours[&format!("{Q_PROJ}_scale")].2, [128, 4]);

    // A whole row: a scale per channel.
    fs::remove_dir_all(folder.path("ours")).unwrap();
    folder.succeeds(&[&QUANTIZE[..], &["--group-size", "0"]].concat());
    let config = read(&folder.path("ours/config.json"));
    let weights = &config["quantization_config"]["config_groups"]["W4A16"]["weights"];
    assert_eq!(
        (&weights["strategy"], &weights["group_size"]),
        (&json!("channel"), &Value::Null)
    );

    // By way of a plan, which may differ by tensor.
    let plan = [
        "plan",
        "m",
        "--format",
        "compressed-tensors",
        "-o",
        "plan.json",
    ];
    folder.succeeds(&plan);
    let by_plan = ["quantize", "m", "--plan", "plan.json", "-o", "planned"];
    folder.succeeds(&by_plan);
    assert!(tensors(&folder.path("planned")) == tensors(&folder.path("theirs")));
}

#[test]
fn what_it_cannot_have_is_refused() {
    let folder = model("llama-w4a16");
    let refused = |more: &[&'static str], status: i32, words: &[&str]| {
        folder.refuses(&[&QUANTIZE[..], more].concat(), status, words);
    };
    let unknown = folder.quant(&[&QUANTIZE[..], &["--preset", "w2a16"]].concat());
    assert_eq!(unknown.status.code(), Some(2));
    refused(&["--bits", "5"], 1, &["uint5", "uint4 and uint8"]);
    refused(&["--group-size", "48"], 1, &["48", "divide"]);
    refused(&["--dtype", "int8"], 2, &["--dtype", "compressed-tensors"]);
    let native = ["quantize", "m", "--preset", "w8a8"];
    folder.refuses(&native, 2, &["--preset", "--format native"]);
    let mut line = QUANTIZE;
    line[1] = "m/model-00001-of-00002.safetensors";
    folder.refuses(&line, 1, &["config.json", "give the folder"]);
    line[1] = "theirs";
    folder.refuses(&line, 1, &["already quantized"]);
    let config = folder.path("m/config.json");
    let mut content = read(&config);
    content["quantization_config"] = json!({"quant_method": "gptq"});
    fs::write(&config, content.to_string()).unwrap();
    refused(&[], 1, &["quantization_config", "already"]);
    fs::remove_file(&config).unwrap();
    refused(&[], 1, &["config.json", "missing"]);
}

/// Zero points of a number of rows that does not fill the last words.
#[test]
fn any_number_of_rows_has_zero_points() {
    let folder = Folder::new();
    fs::create_dir(folder.path("m")).unwrap();
    let values = folder::f32_bytes(13 * 64, |i| folder::wave(i) + i as f32 / 500.0);
    folder.model(
        "m/model.safetensors",
        &[("m.weight", "F32", &[13, 64], &values)],
    );
    fs::write(folder.path("m/config.json"), "{}").unwrap();
    let more = ["--preset", "w4a16-asym", "--group-size", "32"];
    folder.succeeds(&[&QUANTIZE[..], &more].concat());
    let ours = tensors(&folder.path("ours"));
    assert_eq!(ours["m.weight_zero_point"].2, [2, 2]);
    folder.succeeds(&["dequantize", "ours", "-o", "back"]);
    let out = folder.quant(&["diff", "m", "back", "--json"]);
    let diff: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(
        diff["tensors"][0]["sqnr_db"].as_f64().unwrap() > 15.0,
        "{diff}"
    );
    // A zero point's part of another number of rows.
    let file = folder.path("ours/model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let at = bytes.windows(5).position(|five| five == b"[2,2]").unwrap();
    let mut changed = bytes;
    changed[at..at + 5].copy_from_slice(b"[1,4]");
    fs::write(&file, changed).unwrap();
    folder.refuses(
        &["dequantize", "ours"],
        1,
        &["`weight_zero_point` is I32 [1, 4]"],
    );
}

/// Writes a safetensors file again with one tensor's bytes changed.
fn change(path: &Path, name: &str, with: impl Fn(&mut [u8])) {
    let mut bytes = fs::read(path).unwrap();
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let (start, end) = metadata.info(name).unwrap().data_offsets;
    with(&mut bytes[8 + header + start..8 + header + end]);
    fs::write(path, bytes).unwrap();
}

/// Adds tensors to a safetensors file: name, type, shape, bytes.
fn add(path: &Path, tensors: &[(&str, &str, &[usize], &[u8])]) {
    let bytes = fs::read(path).unwrap();
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: Value = serde_json::from_slice(header).unwrap();
    let mut data = data.to_vec();
    for (name, dtype, shape, bytes) in tensors {
        let from = data.len();
        data.extend(*bytes);
        header[name] = json!({"dtype": dtype, "shape": shape, "data_offsets": [from, data.len()]});
    }
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    fs::write(path, [&length[..], header.as_bytes(), &data].concat()).unwrap();
}

#[test]
fn damaged_folders_are_told() {
    let shape = format!("{Q_PROJ}_shape");
    for (rows, row) in [
        (127_u64, 128_u64),
        (128, 0),
        (128, 127),
        (u64::MAX, u64::MAX),
        (128, 1 << 40),
    ] {
        let folder = model("llama-w8a16");
        change(&folder.path("theirs/model.safetensors"), &shape, |bytes| {
            bytes[..8].copy_from_slice(&rows.to_le_bytes());
            bytes[8..].copy_from_slice(&row.to_le_bytes());
        });
        folder.refuses(&["dequantize", "theirs"], 1, &[Q_PROJ, "do not fit"]);
        assert!(
            folder
                .succeeds(&["inspect", "theirs"])
                .contains("do not fit")
        );
    }
    // What is called a shape and is none.
    for len in [0, 15, 1 << 20] {
        let folder = Folder::new();
        let (words, scales, shape) = (vec![0; 128], vec![0; 16], vec![0; len]);
        fs::create_dir(folder.path("d")).unwrap();
        folder.model(
            "d/model.safetensors",
            &[
                ("m.weight_packed", "I32", &[8, 4], &words),
                ("m.weight_scale", "F16", &[8, 1], &scales),
                ("m.weight_shape", "U8", &[len], &shape),
            ],
        );
        let config = json!({"quantization_config": {"quant_method": "compressed-tensors"}});
        fs::write(folder.path("d/config.json"), config.to_string()).unwrap();
        folder.refuses(&["dequantize", "d"], 1, &["m.weight", "do not fit"]);
    }
    let folder = model("llama-w8a16");
    fs::write(folder.path("theirs/config.json"), "{").unwrap();
    folder.refuses(&["inspect", "theirs"], 1, &["config.json"]);
    // Without a configuration, or in a format of other numbers, they are some other tool's.
    let other = json!({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"});
    let other = json!({"quantization_config": other}).to_string();
    for (config, said) in [
        ("{}", "in the format compressed-tensors"),
        (&*other, "`config_groups` is missing"),
    ] {
        fs::write(folder.path("theirs/config.json"), config).unwrap();
        folder.refuses(&["dequantize", "theirs", "-o", "x"], 1, &[said]);
        let quantize = ["quantize", "theirs", "-o", "x"];
        folder.refuses(&quantize, 1, &["in the format compressed-tensors"]);
    }
}

/// Whether two models stand for the same values, tensor by tensor.
fn same_values(folder: &Folder, a: &str, b: &str) {
    let output = folder.quant(&["diff", a, b, "--json"]);
    let difference: Value = serde_json::from_slice(&output.stdout).unwrap();
    for tensor in difference["tensors"].as_array().unwrap() {
        let (reason, error) = (&tensor["reason"], tensor["max_abs_error"].as_f64());
        assert!(reason.is_null(), "{tensor}");
        assert!(error.is_none_or(|error| error == 0.0), "{tensor}");
    }
}

/// From quant's own layout and back: the same files, as nothing but words changes.
#[test]
fn they_are_converted_and_back() {
    for (case, _) in CASES {
        let folder = model(case);
        folder.succeeds(&["convert", "theirs", "--format", "native", "-o", "native"]);
        let config = read(&folder.path("native/config.json"));
        assert!(config.get("quantization_config").is_none());
        same_values(&folder, "theirs", "native");
        if case.ends_with("w8a8") {
            // Bytes with a scale per channel are weights alone in quant's own layout.
            continue;
        }
        folder.succeeds(&[
            "convert",
            "native",
            "--format",
            "compressed-tensors",
            "-o",
            "back",
        ]);
        assert!(
            tensors(&folder.path("back")) == tensors(&folder.path("theirs")),
            "{case}"
        );
    }
}

#[test]
fn own_layouts_are_converted_where_values_stay() {
    let folder = model("llama-w4a16");
    let group = [
        "--granularity",
        "per-block",
        "--block-size",
        "32",
        "-o",
        "own",
    ];
    let excluded = ["--exclude", "embed_tokens|lm_head|norm"];
    let convert = [
        "convert",
        "own",
        "--format",
        "compressed-tensors",
        "-o",
        "other",
        "-f",
    ];
    for more in [
        &["--dtype", "int4"][..],
        &["--dtype", "uint4", "--mode", "affine"],
        &["--dtype", "int8"],
    ] {
        folder.succeeds(&[&["quantize", "m", "-f"], more, &group, &excluded].concat());
        folder.succeeds(&convert);
        same_values(&folder, "own", "other");
        let config = read(&folder.path("other/config.json"));
        let groups = config["quantization_config"]["config_groups"]
            .as_object()
            .unwrap();
        let weights = &groups.values().next().unwrap()["weights"];
        assert_eq!(weights["group_size"], 32);
        assert_eq!(weights["symmetric"], !more.contains(&"affine"));
    }
    // What a loader wants in float, and scales of another type, have no place there.
    folder.succeeds(
        &[
            &[
                "quantize",
                "m",
                "-f",
                "--dtype",
                "int4",
                "--min-elements",
                "100",
            ],
            &group[..],
        ]
        .concat(),
    );
    folder.refuses(
        &convert,
        1,
        &["cannot be said in compressed-tensors", "the output layer"],
    );
    folder.succeeds(
        &[
            &[
                "quantize",
                "m",
                "-f",
                "--dtype",
                "int4",
                "--dialect",
                "wide",
            ],
            &group[..],
            &excluded,
        ]
        .concat(),
    );
    folder.refuses(
        &convert,
        1,
        &["its scales are f32, and would have to be bf16"],
    );
    let searched = ["quantize", "m", "-f", "--dtype", "int4", "--search", "mse"];
    folder.succeeds(&[&searched, &group[..], &excluded].concat());
    folder.refuses(&convert, 1, &["scales below zero"]);
    folder.refuses(
        &["convert", "own", "--format", "native", "-o", "x"],
        1,
        &["in the format native already"],
    );
    folder.refuses(
        &["convert", "own", "--format", "mlx", "-o", "x"],
        1,
        &["is not converted to mlx"],
    );
    folder.refuses(
        &["convert", "m", "--format", "native", "-o", "x"],
        1,
        &["holds no tensor that quant quantized"],
    );
}

#[test]
fn own_layouts_become_blocks_where_values_stay() {
    // f16, whose scales blocks hold.
    let folder = model("llama-w8a16");
    let quantize = [
        "quantize",
        "m",
        "-f",
        "--granularity",
        "per-block",
        "-o",
        "own",
    ];
    let convert = ["convert", "own", "--format", "gguf", "-o", "o.gguf", "-f"];
    for (more, block_type) in [
        (&["--dtype", "int8", "--block-size", "32"][..], "Q8_0"),
        (&["--dtype", "int8", "--block-size", "64"], "Q8_0"),
        (&["--dtype", "int4", "--block-size", "32"], "Q4_0"),
        (
            &["--dtype", "int4", "--block-size", "32", "--search", "mse"],
            "Q4_0",
        ),
        (&["--dtype", "int8", "--granularity", "per-channel"], "Q8_0"),
    ] {
        let mut line = [&quantize[..], more].concat();
        if more.contains(&"per-channel") {
            line.retain(|word| *word != "per-block");
            line.remove(
                line.iter()
                    .position(|word| *word == "--granularity")
                    .unwrap(),
            );
        }
        folder.succeeds(&line);
        folder.succeeds(&convert);
        let listed = folder.succeeds(&["inspect", "o.gguf"]);
        assert!(listed.contains(block_type), "{listed}");
    }
    // GGUF's values are f32, and the other's are rounded to f16.
    folder.refuses(
        &["convert", "o.gguf", "--format", "native", "-o", "x"],
        1,
        &["is not converted to native"],
    );
    folder.succeeds(&[&quantize[..], &["--dtype", "uint8", "--mode", "affine"]].concat());
    folder.refuses(&convert, 1, &["no blocks of 8 bits have"]);
    folder.succeeds(&[&quantize[..], &["--block-size", "16"]].concat());
    folder.refuses(&convert, 1, &["no blocks of 32"]);
}
