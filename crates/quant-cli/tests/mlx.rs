//! MLX's convention: the files that mlx_lm writes, and what is done with them.

mod folder;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::{Value, json};

use folder::{Folder, f32_bytes, wave};

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../quant-models/tests/mlx/models")
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn cases() -> serde_json::Map<String, Value> {
    read(&models().join("cases.json"))
        .as_object()
        .unwrap()
        .clone()
}

/// A tensor's type, shape and bytes.
type Tensor = (String, Vec<usize>, Vec<u8>);

fn tensors(folder: &Path) -> BTreeMap<String, Tensor> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "safetensors") {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(
            metadata.metadata().as_ref().unwrap()["format"],
            "mlx",
            "{path:?}"
        );
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let tensor = (
                format!("{:?}", view.dtype()),
                view.shape().to_vec(),
                view.data().to_vec(),
            );
            found.insert(name, tensor);
        }
    }
    found
}

/// A folder with a copy of the float model of a case as `m`, and one of MLX's own as `theirs`.
fn model(case: &str) -> Folder {
    let folder = Folder::new();
    for (from, to) in [("float", "m"), ("mlx", "theirs")] {
        fs::create_dir(folder.path(to)).unwrap();
        let from = models().join(case).join(from);
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), folder.path(to).join(entry.file_name())).unwrap();
        }
    }
    folder
}

fn quantize(folder: &Folder, case: &Value, more: &[&str]) {
    let (bits, group) = (case["bits"].to_string(), case["group_size"].to_string());
    let options = ["--bits", &bits, "--group-size", &group];
    folder.succeeds(
        &[
            &["quantize", "m", "--format", "mlx", "-o", "ours"][..],
            &options,
            more,
        ]
        .concat(),
    );
}

#[test]
fn folders_are_those_of_mlx_lm() {
    for (name, case) in cases() {
        let folder = model(&name);
        quantize(&folder, &case, &[]);
        assert_eq!(
            tensors(&folder.path("ours")),
            tensors(&folder.path("theirs")),
            "{name}"
        );
        for document in ["config.json", "model.safetensors.index.json"] {
            let of = |at: &str| read(&folder.path(at).join(document));
            assert_eq!(of("ours"), of("theirs"), "{name}: {document}");
        }
        assert!(folder.path("ours/generation_config.json").is_file());
    }
}

#[test]
fn mlx_folders_are_inspected_compared_and_restored() {
    for (name, case) in cases() {
        let folder = model(&name);
        quantize(&folder, &case, &["--backend", "scalar"]);
        assert_eq!(
            folder.succeeds(&["diff", "ours", "theirs"]).lines().last(),
            folder
                .succeeds(&["diff", "theirs", "theirs"])
                .lines()
                .last()
        );
        let inspection = folder.succeeds(&["inspect", "theirs", "--json"]);
        let inspection: Value = serde_json::from_str(&inspection).unwrap();
        let listed = inspection["tensors"].as_array().unwrap();
        let find = |name: &str| listed.iter().find(|tensor| tensor["name"] == name).unwrap();
        let embedding = find("model.embed_tokens.weight");
        let dtype = format!("uint{}", case["bits"]);
        assert_eq!(embedding["dtype"], dtype.as_str());
        assert_eq!(embedding["scheme"]["dialect"], "mlx");
        assert_eq!(
            embedding["scheme"]["blocks"],
            json!([1, case["group_size"]])
        );
        assert_eq!(embedding["shape"], json!([32, 64]));
        assert!(listed.iter().all(|one| one["dtype"] != "U32"), "{name}");
        folder.succeeds(&["dequantize", "theirs", "-o", "back"]);
        let config = read(&folder.path("back/config.json"));
        assert!(config.get("quantization").is_none());
        assert!(config.get("quantization_config").is_none());
        assert_eq!(config["model_type"], name.as_str());
        let restored = tensors(&folder.path("back"));
        assert!(restored.keys().all(|name| !name.ends_with(".scales")));
        assert_eq!(restored["model.embed_tokens.weight"].1, [32, 64]);
        // What is restored becomes the same codes again.
        let out = folder.quant(&["diff", "theirs", "back", "--json"]);
        let diff: Value = serde_json::from_slice(&out.stdout).unwrap();
        for tensor in diff["tensors"].as_array().unwrap() {
            assert_eq!(
                tensor["max_abs_error"].as_f64().unwrap_or(0.0),
                0.0,
                "{tensor}"
            );
        }
    }
}

#[test]
fn a_plan_mixes_bits_and_leaves_modules_out() {
    let folder = model("mixtral");
    let plan = ["plan", "m", "--format", "mlx", "-o", "plan.json"];
    folder.succeeds(&plan);
    let mut plan = read(&folder.path("plan.json"));
    assert_eq!(plan["format"], "mlx");
    for tensor in plan["tensors"].as_array_mut().unwrap() {
        let name = tensor["name"].as_str().unwrap();
        if name.contains("experts") && name.contains("w2") {
            tensor["quantize"] = Value::Null;
        } else if name.contains("v_proj") {
            tensor["quantize"] = json!({"bits": 8, "group_size": 32});
        }
    }
    fs::write(folder.path("plan.json"), plan.to_string()).unwrap();
    let quantize = ["quantize", "m", "--plan", "plan.json", "-o", "ours"];
    folder.succeeds(&quantize);
    let config = read(&folder.path("ours/config.json"))["quantization"].clone();
    assert_eq!(
        config,
        json!({
            "group_size": 64, "bits": 4, "mode": "affine",
            "model.layers.0.self_attn.v_proj": {"group_size": 32, "bits": 8},
        })
    );
    let ours = tensors(&folder.path("ours"));
    let moe = "model.layers.0.block_sparse_moe.switch_mlp";
    assert!(ours.contains_key(&format!("{moe}.gate_proj.scales")));
    let down = &ours[&format!("{moe}.down_proj.weight")];
    assert_eq!((down.0.as_str(), &down.1[..]), ("F16", &[4, 64, 96][..]));
    // Experts of a layer are one tensor.
    for tensor in plan["tensors"].as_array_mut().unwrap() {
        if tensor["name"].as_str().unwrap().contains("experts.1.w3") {
            tensor["quantize"] = json!({"bits": 6});
        }
    }
    fs::write(folder.path("plan.json"), plan.to_string()).unwrap();
    let again = ["quantize", "m", "--plan", "plan.json", "-o", "again"];
    folder.refuses(&again, 1, &["experts.1.w3", "quantized otherwise"]);
}

/// Routers have 8 bits, whatever was asked for, which `config.json` says of the whole model.
#[test]
fn plans_of_routers_alone_know_what_was_asked_for() {
    let folder = model("qwen3_moe");
    let format = ["--format", "mlx", "--include", r"mlp\.gate\.weight", "-f"];
    let line = |command, output| [&[command, "m", "-o", output], &format[..]].concat();
    folder.succeeds(&line("quantize", "ours"));
    folder.succeeds(&line("plan", "plan.json"));
    let by_plan = ["quantize", "m", "--plan", "plan.json", "-o", "planned"];
    folder.succeeds(&by_plan);
    for document in ["config.json", "model.safetensors.index.json"] {
        let of = |at: &str| fs::read(folder.path(at).join(document)).unwrap();
        assert_eq!(of("ours"), of("planned"), "{document}");
    }
    assert_eq!(
        tensors(&folder.path("ours")),
        tensors(&folder.path("planned"))
    );
    let config = read(&folder.path("planned/config.json"))["quantization"].clone();
    assert_eq!(
        (&config["bits"], &config["group_size"]),
        (&json!(4), &json!(64))
    );

    let mut plan = read(&folder.path("plan.json"));
    plan["asked"]["group_size"] = json!(48);
    fs::write(folder.path("plan.json"), plan.to_string()).unwrap();
    let again = ["quantize", "m", "--plan", "plan.json", "-o", "again"];
    folder.refuses(&again, 1, &["plan.json", "`asked`", "groups of 48"]);
}

#[test]
fn what_mlx_cannot_have_is_refused() {
    let folder = model("llama");
    let with = |more: &[&'static str]| {
        [
            &["quantize", "m", "--format", "mlx", "-o", "ours"][..],
            more,
        ]
        .concat()
    };
    folder.refuses(&with(&["--group-size", "48"]), 2, &["48", "32, 64 or 128"]);
    folder.refuses(&with(&["--bits", "7"]), 2, &["7", "2, 3, 4, 5, 6 or 8"]);
    folder.refuses(&with(&["--dtype", "int8"]), 2, &["--dtype", "mlx"]);
    folder.refuses(
        &["quantize", "m", "--bits", "4"],
        2,
        &["--bits", "--format native"],
    );
    folder.refuses(
        &["quantize", "m/model.safetensors", "--format", "mlx"],
        1,
        &["config.json", "give the folder"],
    );
    folder.refuses(
        &["quantize", "theirs", "--format", "mlx"],
        1,
        &["already quantized", "mlx"],
    );
    folder.refuses(
        &["quantize", "theirs", "-o", "x"],
        1,
        &["already quantized", "mlx"],
    );
    let config = folder.path("m/config.json");
    let good = read(&config);
    for (change, words) in [
        (("model_type", json!("rwkv7")), &["rwkv7", "llama"][..]),
        (("model_type", json!(3)), &["model_type"]),
        (
            ("quantization_config", json!({"bits": 4})),
            &["quantization_config", "already"],
        ),
    ] {
        let mut changed = good.clone();
        changed[change.0] = change.1;
        fs::write(&config, changed.to_string()).unwrap();
        folder.refuses(&with(&[]), 1, words);
    }
    fs::write(&config, "{").unwrap();
    folder.refuses(&with(&[]), 1, &["config.json"]);
    fs::remove_file(&config).unwrap();
    folder.refuses(&with(&[]), 1, &["config.json", "missing"]);
    let package = Folder::with_package("linear_18_f16");
    package.refuses(
        &["quantize", "m.mlpackage", "--format", "mlx"],
        1,
        &["safetensors"],
    );
}

#[test]
fn damaged_mlx_folders_are_told() {
    let folder = model("llama");
    let config = folder.path("theirs/config.json");
    let good = read(&config);
    for (spec, words) in [
        (json!({"group_size": 64, "bits": 8}), "U32"),
        (json!({"group_size": 32, "bits": 4}), "U32"),
        (json!({"group_size": 0, "bits": 4}), "damaged"),
        (json!({"group_size": u64::MAX, "bits": 4}), "more elements"),
    ] {
        let mut changed = good.clone();
        changed["quantization"] = spec;
        fs::write(&config, changed.to_string()).unwrap();
        folder.refuses(&["inspect", "theirs"], 1, &[words]);
    }
    // What is not understood is listed as it stands.
    for (spec, words) in [
        (
            json!({"group_size": 32, "bits": 4, "mode": "mxfp4"}),
            "mode \"mxfp4\"",
        ),
        (json!({"bits": 4}), "`group_size`"),
        (json!({"group_size": 64, "bits": 7}), "7 bits"),
        (json!(null), "`bits`"),
    ] {
        let mut changed = good.clone();
        changed["quantization"] = spec;
        fs::write(&config, changed.to_string()).unwrap();
        let listed = folder.succeeds(&["inspect", "theirs"]);
        assert!(listed.contains("U32") && listed.contains(words), "{listed}");
        stays(&folder, &[words]);
    }
}

/// Neither restored nor converted.
fn stays(folder: &Folder, words: &[&str]) {
    let words = [&["not restored"], words].concat();
    folder.refuses(&["dequantize", "theirs", "-o", "x"], 1, &words);
    folder.refuses(
        &["convert", "theirs", "--format", "native", "-o", "x"],
        1,
        &words,
    );
}

/// One layer that is not read, beside good ones.
#[test]
fn broken_layers_beside_good_ones_end_the_work() {
    const MODULE: &str = "model.layers.0.self_attn.q_proj";
    for lost in ["scales", "biases", "weight"] {
        let folder = model("llama");
        let mut all = tensors(&folder.path("theirs"));
        all.remove(&format!("{MODULE}.{lost}")).unwrap();
        let all: Vec<_> = all
            .iter()
            .map(|(name, (dtype, shape, bytes))| {
                (name.as_str(), dtype.as_str(), &shape[..], &bytes[..])
            })
            .collect();
        folder.model("theirs/model.safetensors", &all);
        fs::remove_file(folder.path("theirs/model.safetensors.index.json")).unwrap();
        stays(&folder, &[MODULE, lost, "missing", "fetch it again"]);
        let listed = folder.succeeds(&["inspect", "theirs"]);
        assert!(listed.contains("not read"), "{listed}");
    }
    let folder = model("llama");
    let config = folder.path("theirs/config.json");
    let good = read(&config);
    for (own, words) in [
        (json!(false), "it is not quantized"),
        (
            json!({"group_size": 32, "bits": 4, "mode": "nvfp4"}),
            "nvfp4",
        ),
    ] {
        let mut changed = good.clone();
        changed["quantization"][MODULE] = own;
        fs::write(&config, changed.to_string()).unwrap();
        stays(&folder, &[MODULE, words]);
    }
}

#[test]
fn experts_that_cannot_be_stacked_are_told() {
    let expert = |i: usize| format!("model.layers.0.mlp.experts.{i}.up_proj.weight");
    let (zero, two, large) = (expert(0), expert(2), f32_bytes(128 * 64, wave));
    let folder = Folder::new();
    fs::create_dir(folder.path("m")).unwrap();
    fs::write(
        folder.path("m/config.json"),
        r#"{"model_type": "qwen3_moe"}"#,
    )
    .unwrap();
    let small = &large[..64 * 64 * 4];
    let quantize = ["quantize", "m", "--format", "mlx", "-o", "ours"];
    folder.model(
        "m/model.safetensors",
        &[
            (&zero, "F32", &[64, 64], small),
            (&two, "F32", &[64, 64], small),
        ],
    );
    folder.refuses(&quantize, 1, &["no expert 1", "switch_mlp.up_proj"]);
    folder.model(
        "m/model.safetensors",
        &[
            (&zero, "F32", &[64, 64], small),
            (&expert(1), "F32", &[128, 64], &large),
        ],
    );
    folder.refuses(&quantize, 1, &["another type or shape"]);
    let stack = "model.layers.0.mlp.switch_mlp.up_proj.weight";
    folder.model(
        "m/model.safetensors",
        &[
            (&zero, "F32", &[64, 64], small),
            (stack, "F32", &[1, 64, 64], small),
        ],
    );
    folder.refuses(&quantize, 1, &["switch_mlp.up_proj", "exists already"]);
    folder.model("m/model.safetensors", &[]);
    folder.refuses(&quantize, 1, &["holds no tensor"]);
}

#[test]
fn float_biases_are_the_reason_why_codes_stay_in_mlx() {
    let (name, _) = cases().into_iter().next().unwrap();
    let folder = model(&name);
    for format in ["native", "compressed-tensors"] {
        let convert = ["convert", "theirs", "--format", format, "-o", "x"];
        folder.refuses(&convert, 1, &["cannot be said in", "float biases"]);
    }
}

/// Blocks of GGUF add in f32, and hold f16 alone.
#[test]
fn why_groups_are_no_blocks_is_told() {
    for (dtype, size, words) in [
        (
            "BF16",
            1.0,
            "rounds the product of a code and a scale to bf16",
        ),
        (
            "F16",
            1.0,
            "rounds the product of a code and a scale to f16",
        ),
        (
            "BF16",
            1e6,
            "minima of bf16 that f16 does not hold exactly, and GGUF's are f16",
        ),
    ] {
        let folder = Folder::new();
        fs::create_dir(folder.path("m")).unwrap();
        fs::write(folder.path("m/config.json"), r#"{"model_type": "llama"}"#).unwrap();
        let bytes = (0..64 * 64).map(|i| match dtype {
            "F16" => half::f16::from_f32(wave(i)).to_bits(),
            _ => half::bf16::from_f32(wave(i) * size).to_bits(),
        });
        let bytes: Vec<u8> = bytes.flat_map(u16::to_le_bytes).collect();
        let name = "model.layers.0.mlp.up_proj.weight";
        folder.model("m/model.safetensors", &[(name, dtype, &[64, 64], &bytes)]);
        let quantize = [
            "quantize",
            "m",
            "--format",
            "mlx",
            "-o",
            "q",
            "--group-size",
            "32",
        ];
        folder.succeeds(&quantize);
        let convert = ["convert", "q", "--format", "gguf", "-o", "q.gguf"];
        folder.refuses(&convert, 1, &[name, words, "start from the float model"]);
    }
}
