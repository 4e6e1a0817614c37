//! Stacked experts: tensors of rank 3 in which each expert is a weight of its own.

use std::fs;

use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::folder::{Folder, tensor};
use crate::model::{Tensor, f32, write};

/// Values whose rows differ in size by a factor of up to 64, the rows being along `axis`.
fn rows(name: &'static str, shape: [usize; 3], axis: usize) -> Tensor {
    let [experts, a, b] = shape;
    let mut values = Vec::new();
    let mut state = 1_u64;
    for _ in 0..experts {
        for i in 0..a {
            for j in 0..b {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let noise = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
                let row = [0, i, j][axis];
                values.push(noise * 0.5_f32.powi((row % 7) as i32));
            }
        }
    }
    let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
    (name, Dtype::F32, shape.to_vec(), bytes)
}

fn blocks(report: &Value, name: &str) -> Value {
    tensor(report, name)["scheme"]["blocks"].clone()
}

const UP: &str = "model.layers.0.mlp.experts.gate_up_proj";
const DOWN: &str = "model.layers.0.mlp.experts.down_proj";
const INT4: [&str; 4] = ["--dtype", "int4", "--granularity", "per-block"];

/// Mixtral's layout in transformers, and that of most.
#[test]
fn each_expert_and_row_has_a_scale() {
    let folder = Folder::new();
    let model = [
        rows(UP, [4, 128, 64], 1),
        rows(DOWN, [4, 64, 64], 1),
        f32("w", &[8, 32, 32]),
    ];
    write(&folder.path("m.safetensors"), &model);
    let quantize = ["quantize", "m.safetensors", "--force"];
    let report = folder.json(&quantize);
    assert_eq!(blocks(&report, UP), json!([1, 1, 64]));
    assert_eq!(blocks(&report, DOWN), json!([1, 1, 64]));
    // Another tensor of rank 3 stays as it was.
    assert_eq!(blocks(&report, "w"), json!([1, 32, 32]));
    let note = report["notes"][0].as_str().unwrap();
    assert!(
        note.contains("2 tensors of stacked experts as [experts, output, input]"),
        "{note}"
    );
    assert!(
        folder
            .said(&quantize)
            .0
            .contains("2 tensors of stacked experts as [experts, output, input]")
    );
    let better = |options: &[&str], least: f64| {
        let per_row = folder.json(&[&quantize, options].concat());
        // As if they were no experts.
        let whole = folder.json(&[&quantize, options, &["--axis", "0"]].concat());
        let db = |report: &Value| tensor(report, UP)["sqnr_db"].as_f64().unwrap();
        let (after, before) = (db(&per_row), db(&whole));
        assert!(after > before + least, "{before} dB, then {after} dB");
    };
    better(&[], 6.0);
    better(&INT4, 5.0);
    let report = folder.json(&[&quantize[..], &INT4].concat());
    assert_eq!(blocks(&report, UP), json!([1, 1, 32]));
    folder.said(&["dequantize", "m.int4.safetensors", "-o", "f.safetensors"]);
    let floats = fs::read(folder.path("f.safetensors")).unwrap();
    let floats = SafeTensors::deserialize(&floats).unwrap();
    assert_eq!(floats.tensor(UP).unwrap().shape(), [4, 128, 64]);
}

/// What is written of a stack is what each expert alone would be.
#[test]
fn a_stack_is_its_experts_one_by_one() {
    let folder = Folder::new();
    let (name, dtype, shape, data) = rows(UP, [4, 128, 64], 1);
    let slices: Vec<Tensor> = ["e0", "e1", "e2", "e3"]
        .into_iter()
        .zip(data.chunks(data.len() / 4))
        .map(|(name, data)| (name, dtype, vec![128, 64], data.to_vec()))
        .collect();
    write(
        &folder.path("stack.safetensors"),
        &[(name, dtype, shape, data)],
    );
    write(&folder.path("single.safetensors"), &slices);
    for options in [
        &[][..],
        &INT4,
        &["--granularity", "per-block", "--mode", "affine"],
    ] {
        let mut files = Vec::new();
        for model in ["stack", "single"] {
            let (input, output) = (format!("{model}.safetensors"), format!("{model}.q"));
            folder.said(&[&["quantize", &input, "-o", &output, "--force"], options].concat());
            files.push(fs::read(folder.path(&output)).unwrap());
        }
        let [stack, single] = [0, 1].map(|i| SafeTensors::deserialize(&files[i]).unwrap());
        for suffix in ["", ".scale", ".zero_point"] {
            let Ok(whole) = stack.tensor(&format!("{UP}{suffix}")) else {
                continue;
            };
            let parts =
                (0..4).flat_map(|i| single.tensor(&format!("e{i}{suffix}")).unwrap().data());
            assert!(whole.data().iter().eq(parts), "{options:?} {suffix}");
        }
    }
}

/// The layout of gpt-oss and Llama 4 is told by what both projections have in common.
#[test]
fn stacks_may_have_inputs_first() {
    let folder = Folder::new();
    let model = [rows(UP, [4, 64, 128], 2), rows(DOWN, [4, 64, 64], 2)];
    write(&folder.path("m.safetensors"), &model);
    let quantize = ["quantize", "m.safetensors", "--force"];
    let report = folder.json(&quantize);
    assert_eq!(blocks(&report, UP), json!([1, 64, 1]));
    assert_eq!(blocks(&report, DOWN), json!([1, 64, 1]));
    let note = report["notes"][0].as_str().unwrap();
    assert!(note.contains("[experts, input, output]"), "{note}");
    let report = folder.json(&[&quantize[..], &INT4].concat());
    assert_eq!(blocks(&report, UP), json!([1, 32, 1]));
    let stated = folder.json(&[&quantize[..], &["--expert-axes", "output-input"]].concat());
    assert_eq!(blocks(&stated, UP), json!([1, 1, 128]));

    // One alone tells nothing, but the option does.
    write(
        &folder.path("m.safetensors"),
        &[rows("moe.experts.w1", [4, 64, 128], 2)],
    );
    assert_eq!(
        blocks(&folder.json(&quantize), "moe.experts.w1"),
        json!([1, 1, 128])
    );
    let stated = folder.json(&[&quantize[..], &["--expert-axes", "input-output"]].concat());
    assert_eq!(blocks(&stated, "moe.experts.w1"), json!([1, 64, 1]));
}

#[test]
fn experts_are_known_by_name_or_option() {
    let folder = Folder::new();
    let names = [
        ("model.layers.0.block_sparse_moe.experts.w1", true),
        ("layers.1.mlp.switch_mlp.gate_proj.weight", true),
        ("layers.1.feed_forward.experts.down_proj", true),
        ("mlp.gate_up_proj", true),
        ("mlp.down_proj.weight", true),
        ("block_sparse_moe.input_linear.weight", true),
        ("conv.weight", false),
        ("experiment.weight", false),
        ("smoe_less.weight", false),
    ];
    let model: Vec<_> = names
        .iter()
        .map(|(name, _)| f32(name, &[4, 32, 32]))
        .collect();
    // A convolution of that name has a short kernel.
    let kernel = "codec.down_proj.weight";
    write(
        &folder.path("m.safetensors"),
        &[&model[..], &[f32(kernel, &[64, 32, 3])]].concat(),
    );
    let report = folder.json(&["quantize", "m.safetensors", "--dry-run"]);
    for (name, is_stack) in names {
        let expected = if is_stack {
            json!([1, 1, 32])
        } else {
            json!([1, 32, 32])
        };
        assert_eq!(blocks(&report, name), expected, "{name}");
    }
    assert_eq!(blocks(&report, kernel), json!([1, 32, 3]));
    let given = [
        "quantize",
        "m.safetensors",
        "--dry-run",
        "--experts",
        r"^conv\.",
    ];
    let report = folder.json(&given);
    assert_eq!(blocks(&report, "conv.weight"), json!([1, 1, 32]));
    assert_eq!(blocks(&report, "mlp.gate_up_proj"), json!([1, 32, 32]));
    // An axis that is given is taken as it is.
    let report = folder.json(&["quantize", "m.safetensors", "--dry-run", "--axis", "1"]);
    assert_eq!(blocks(&report, "mlp.gate_up_proj"), json!([4, 1, 32]));
    let report = folder.json(&["quantize", "m.safetensors", "--dry-run", "--block", "0,0,8"]);
    assert_eq!(blocks(&report, "mlp.gate_up_proj"), json!([4, 32, 8]));
    let per_tensor = [
        "quantize",
        "m.safetensors",
        "--dry-run",
        "--granularity",
        "per-tensor",
    ];
    assert_eq!(
        blocks(&folder.json(&per_tensor), "mlp.gate_up_proj"),
        json!([4, 32, 32])
    );

    let missing = [
        "quantize",
        "m.safetensors",
        "--dry-run",
        "--experts",
        "expurts",
    ];
    let (_, said) = folder.said(&missing);
    assert!(
        said.contains("--experts `expurts` matches no tensor of rank 3"),
        "{said}"
    );
    folder.refuses(&[&missing[..], &["--strict"]].concat(), 3, &["expurts"]);
    let (help, _) = folder.said(&["quantize", "--help"]);
    assert!(
        help.contains("--experts <REGEX>") && help.contains("whole kernels"),
        "{help}"
    );
}
