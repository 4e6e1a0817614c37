//! Names and patterns that match nothing, and models of which nothing is quantized, are told, however
//! quiet the command is to be; `--strict` makes them errors.

use std::fs;

use safetensors::Dtype;

use crate::folder::Folder;
use crate::model::{bytes, f32, write};

fn folder() -> Folder {
    let folder = Folder::new();
    write(
        &folder.path("m.safetensors"),
        &[
            f32("model.layers.0.mlp.down_proj.weight", &[64, 96]),
            f32("model.norm.weight", &[64]),
            f32("lm_head.weight", &[64, 96]),
        ],
    );
    folder
}

/// The only line on stderr.
fn warning(folder: &Folder, arguments: &[&str]) -> String {
    let (_, stderr) = folder.said(arguments);
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    assert!(stderr.starts_with("quant: warning: "), "{stderr}");
    stderr
}

#[test]
fn patterns_that_match_nothing_are_told() {
    let folder = folder();
    let quantize = ["quantize", "m.safetensors", "--force"];
    for (options, words) in [
        (
            &["--exclude", "lm_haed"][..],
            &["--exclude `lm_haed`", "`lm_head.weight`"][..],
        ),
        (
            &["--exclude", "lm_head", "--exclude", "^norm"],
            &["`^norm`", "`model.norm.weight`"],
        ),
        (
            &["--include", "weight", "--include", "qzx"],
            &["--include `qzx`", "quant inspect"],
        ),
    ] {
        for quiet in [&[][..], &["--quiet"], &["--json"], &["--dry-run"]] {
            let said = warning(&folder, &[&quantize, options, quiet].concat());
            for word in words {
                assert!(said.contains(word), "no `{word}` in {said}");
            }
        }
        let strict = [&quantize, options, &["--strict"][..]].concat();
        folder.refuses(&strict, 3, &[words, &["--strict"]].concat());
    }
    let report = folder.json(&[&quantize[..], &["--exclude", "lm_haed"]].concat());
    assert!(report["warnings"][0].as_str().unwrap().contains("lm_haed"));
    // A tensor that is left alone for another reason is matched all the same.
    let (_, said) = folder.said(&[&quantize[..], &["--exclude", "norm", "--strict"]].concat());
    assert_eq!(said, "");
}

#[test]
fn nothing_quantized_is_told() {
    let folder = folder();
    let include = ["quantize", "m.safetensors", "--include", "wieght"];
    let (_, said) = folder.said(&[&include[..], &["--quiet"]].concat());
    assert!(
        said.contains("--include `wieght` matches no tensor; near it: `lm_head.weight`"),
        "{said}"
    );
    assert!(
        said.contains("nothing was quantized: 3 x not included by name"),
        "{said}"
    );
    folder.refuses(
        &[&include[..], &["--strict", "--force"]].concat(),
        3,
        &["wieght"],
    );

    let large = [
        "quantize",
        "m.safetensors",
        "--min-elements",
        "100000",
        "--force",
    ];
    let said = warning(&folder, &[&large[..], &["--quiet"]].concat());
    assert!(
        said.contains("2 x not more than 100000 elements; 1 x rank 1"),
        "{said}"
    );
    folder.refuses(
        &[&large[..], &["--strict"]].concat(),
        3,
        &["nothing was quantized"],
    );
    folder.refuses(
        &[&large[..], &["--strict", "--dry-run"]].concat(),
        3,
        &["nothing was quantized"],
    );

    write(
        &folder.path("f8.safetensors"),
        &[bytes("w", Dtype::F8_E4M3, &[64, 64])],
    );
    write(
        &folder.path("f64.safetensors"),
        &[bytes("w", Dtype::F64, &[64, 64])],
    );
    write(&folder.path("none.safetensors"), &[]);
    for (file, words) in [
        ("f8", "type F8_E4M3"),
        ("f64", "type F64"),
        ("none", "no tensors"),
    ] {
        let file = format!("{file}.safetensors");
        let said = warning(&folder, &["quantize", &file, "--json"]);
        assert!(
            said.contains("nothing was quantized") && said.contains(words),
            "{said}"
        );
        folder.refuses(&["quantize", &file, "--strict", "--force"], 3, &[words]);
    }
}

#[test]
fn names_of_configurations_that_match_nothing_are_told() {
    let folder = folder();
    let text = r#"{"config_type": "OpLinearQuantizerConfig", "global_config": {},
        "op_name_configs": {"lm_head": null, ".*norm.*": null}}"#;
    fs::write(folder.path("c.json"), text).unwrap();
    let quantize = ["quantize", "m.safetensors", "--config", "c.json"];
    // The whole name must match.
    let said = warning(&folder, &[&quantize[..], &["--quiet"]].concat());
    assert!(
        said.contains("c.json: op_name_configs: `lm_head` matches no tensor"),
        "{said}"
    );
    assert!(said.contains("near it: `lm_head.weight`"), "{said}");
    folder.refuses(
        &[&quantize[..], &["--strict", "--force"]].concat(),
        3,
        &["`lm_head`"],
    );
}

#[test]
fn axes_of_experts_that_are_not_there_are_told() {
    let folder = folder();
    let line = ["quantize", "m.safetensors", "--force", "--expert-axes"];
    let said = warning(&folder, &[&line[..], &["input-output"]].concat());
    assert!(
        said.contains("--expert-axes `input-output` matches no stack of experts"),
        "{said}"
    );
    folder.refuses(
        &[&line[..], &["input-output", "--strict"]].concat(),
        3,
        &["stack of experts"],
    );
}

/// Blocks that are larger than every row: left in float and told, as in a package, whatever the
/// encoding. An axis that no tensor has is a mistake in the options.
#[test]
fn blocks_that_fit_no_tensor_are_told() {
    let folder = Folder::new();
    let model = [f32("a.weight", &[300, 10]), f32("b.weight", &[400, 10])];
    write(&folder.path("m.safetensors"), &model);
    fs::create_dir(folder.path("hf")).unwrap();
    write(&folder.path("hf/model.safetensors"), &model);
    fs::write(folder.path("hf/config.json"), r#"{"model_type": "llama"}"#).unwrap();
    let blocks = ["--granularity", "per-block", "--block-size", "32"];
    let larger = "larger than axis 1, which has 10 elements";
    for (options, reason) in [
        (&["m.safetensors", "--dtype", "int4"][..], larger),
        (&["hf", "--format", "compressed-tensors"], larger),
        (&["hf", "--format", "mlx"], "groups of 64 do not divide"),
        (&["m.safetensors", "--format", "gguf"], "do not fill blocks"),
    ] {
        let is_native = options.contains(&"int4");
        let options = [options, if is_native { &blocks } else { &[] }].concat();
        for command in [
            &["quantize", "--force", "-o", "out"][..],
            &["quantize", "-n"],
            &["plan"],
        ] {
            let file = match options.contains(&"gguf") {
                true => "out.gguf",
                false if options[0] == "hf" => "out",
                false => "out.safetensors",
            };
            let command: Vec<&str> = command
                .iter()
                .map(|it| if *it == "out" { file } else { it })
                .collect();
            let (stdout, stderr) = folder.said(&[&command[..], &options].concat());
            assert!(stderr.contains("nothing was quantized: 2 x "), "{stderr}");
            assert!(
                stderr.contains(reason) && stdout.contains(reason),
                "{stderr}{stdout}"
            );
            assert!(!command.contains(&"-o") || folder.path(file).exists());
        }
        let strict = [&["quantize", "-n", "--strict"], &options[..]].concat();
        folder.refuses(&strict, 3, &[reason]);
    }
    folder.refuses(
        &["quantize", "m.safetensors", "--axis", "5"],
        1,
        &["axis 5", "--exclude"],
    );
    // Of several candidates, the one that fits is taken, and the others are no matter.
    let auto = ["quantize", "m.safetensors", "--auto", "--strict", "-n"];
    let (stdout, stderr) = folder.said(&auto);
    assert!(
        stderr.is_empty() && stdout.contains("2 int8"),
        "{stderr}{stdout}"
    );
}
