//! Models that another tool has quantized.

use safetensors::Dtype;

use crate::folder::{Folder, tensor};
use crate::model::{Tensor, bytes, f32, write};

const F8: Dtype = Dtype::F8_E4M3;

/// The parts of one weight of 64 x 96 values, per format. The scales are as large as the smallest
/// tensor that is quantized, so that they would be.
fn formats() -> Vec<(&'static str, Vec<Tensor>)> {
    let codes = |name, dtype| bytes(name, dtype, &[640, 96]);
    let scales = |name| f32(name, &[64, 96]);
    vec![
        (
            "MLX",
            vec![
                codes("m.weight", Dtype::U32),
                scales("m.scales"),
                scales("m.biases"),
            ],
        ),
        (
            "MLX",
            vec![
                codes("m.weight", Dtype::U32),
                bytes("m.scales", Dtype::U8, &[640, 24]),
            ],
        ),
        (
            "GPTQ",
            vec![
                codes("m.qweight", Dtype::I32),
                scales("m.scales"),
                bytes("m.qzeros", Dtype::I32, &[4, 12]),
                bytes("m.g_idx", Dtype::I32, &[768]),
            ],
        ),
        (
            "AWQ",
            vec![
                bytes("m.qweight", Dtype::I32, &[768, 12]),
                bytes("m.qzeros", Dtype::I32, &[24, 12]),
                f32("m.scales", &[24, 96]),
            ],
        ),
        (
            "compressed-tensors",
            vec![
                codes("m.weight_packed", Dtype::I32),
                scales("m.weight_scale"),
                bytes("m.weight_shape", Dtype::I64, &[2]),
                bytes("m.weight_zero_point", Dtype::I32, &[8, 96]),
            ],
        ),
        (
            "compressed-tensors",
            vec![codes("m.weight", Dtype::I8), scales("m.weight_scale")],
        ),
        (
            "compressed-tensors",
            vec![
                codes("m.weight", F8),
                scales("m.weight_scale"),
                f32("m.input_scale", &[1]),
            ],
        ),
        (
            "DeepSeek FP8",
            vec![codes("m.weight", F8), scales("m.weight_scale_inv")],
        ),
        (
            "DeepSeek FP8",
            vec![codes("e.down_proj", F8), scales("e.down_proj_scale_inv")],
        ),
        (
            "bitsandbytes",
            vec![
                codes("m.weight", Dtype::U8),
                scales("m.weight.absmax"),
                f32("m.weight.quant_map", &[16]),
                bytes("m.weight.quant_state.bitsandbytes__nf4", Dtype::U8, &[80]),
            ],
        ),
        (
            "bitsandbytes",
            vec![codes("m.weight", Dtype::I8), scales("m.SCB")],
        ),
        (
            "torchao",
            vec![
                codes("m._weight_qdata", Dtype::I8),
                scales("m._weight_scale"),
            ],
        ),
        (
            "torchao",
            vec![codes("m.weight:qdata", F8), scales("m.weight:scale")],
        ),
        (
            "HQQ",
            vec![
                codes("m.W_q", Dtype::U8),
                scales("m.scale"),
                scales("m.zero"),
            ],
        ),
        (
            "optimum-quanto",
            vec![
                codes("m.weight._data", Dtype::I8),
                scales("m.weight._scale"),
            ],
        ),
        (
            "MXFP4",
            vec![
                codes("m.up_blocks", Dtype::U8),
                bytes("m.up_scales", Dtype::U8, &[640, 3]),
            ],
        ),
    ]
}

#[test]
fn they_are_refused_by_their_tool() {
    let folder = Folder::new();
    for (tool, parts) in formats() {
        write(
            &folder.path("m.safetensors"),
            &[&parts[..], &[f32("norm", &[96])]].concat(),
        );
        folder.refuses(
            &["quantize", "m.safetensors"],
            1,
            &[
                "m.safetensors",
                "already quantized",
                tool,
                parts[0].0,
                "float model",
            ],
        );
        folder.refuses(&["quantize", "m.safetensors", "--dry-run"], 1, &[tool]);
    }
}

#[test]
fn parts_of_quantized_weights_are_left_alone() {
    let folder = Folder::new();
    for (tool, parts) in formats() {
        let model = [&parts[..], &[f32("big.weight", &[2000, 640])]].concat();
        write(&folder.path("m.safetensors"), &model);
        let (_, said) = folder.said(&["quantize", "m.safetensors", "--force", "--quiet"]);
        assert!(
            said.contains("already quantized") && said.contains(tool),
            "{said}"
        );
        let report = folder.json(&["quantize", "m.safetensors", "--force"]);
        assert_eq!(tensor(&report, "big.weight")["scheme"]["dtype"], "int8");
        for (name, ..) in &parts {
            let reason = tensor(&report, name)["reason"].as_str();
            assert!(
                reason.is_some_and(|reason| reason.contains(tool)),
                "{tool}: {name}: {reason:?}"
            );
        }
        folder.said(&["inspect", "m.int8.safetensors"]);
    }
}

/// Names alone make nobody's format.
#[test]
fn float_tensors_with_such_names_are_quantized() {
    let folder = Folder::new();
    let names = [
        "m.weight",
        "m.scales",
        "m.biases",
        "a.W_q",
        "a.scale",
        "q.codes",
        "q.codebooks",
    ];
    let tensors = names.map(|name| f32(name, &[64, 96]));
    let positions = bytes("m.position_ids", Dtype::I64, &[64]);
    write(
        &folder.path("m.safetensors"),
        &[&tensors[..], &[positions]].concat(),
    );
    let (_, said) = folder.said(&["quantize", "m.safetensors", "--strict"]);
    assert_eq!(said, "");
    let report = folder.json(&["quantize", "m.safetensors", "--dry-run"]);
    for name in names {
        assert_eq!(tensor(&report, name)["scheme"]["dtype"], "int8", "{name}");
    }
}

/// Each shard may hold other parts.
#[test]
fn parts_in_other_shards_are_found() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("m")).unwrap();
    write(
        &folder.path("m/a.safetensors"),
        &[bytes("m.weight", Dtype::U32, &[640, 96])],
    );
    write(
        &folder.path("m/b.safetensors"),
        &[f32("m.scales", &[64, 96])],
    );
    let index = r#"{"weight_map": {"m.weight": "a.safetensors", "m.scales": "b.safetensors"}}"#;
    std::fs::write(folder.path("m/model.safetensors.index.json"), index).unwrap();
    folder.refuses(
        &["quantize", "m"],
        1,
        &["MLX", "`m.weight` beside `m.scales`"],
    );
}
