//! What plans and those who made them are told in words.

use std::fs;

use super::folder::{Folder, f32_bytes, wave};
use super::model;

/// The text of an error, or of warnings.
fn said(folder: &Folder, line: &[&str]) -> String {
    String::from_utf8(folder.quant(line).stderr).unwrap()
}

#[test]
fn targets_and_candidates_are_taken_as_they_are_written() {
    let folder = model();
    let plan = ["plan", "m.safetensors", "-f", "-o", "p.json"];
    let with = |more: &[&'static str]| [&plan[..], more].concat();
    folder.succeeds(&with(&["--target-sqnr", "-500"]));
    folder.succeeds(&with(&["--target-sqnr", "-500dB"]));
    folder.succeeds(&with(&["--target-bits", "5", "--candidates", "int4, int8"]));
    for (line, problem) in [
        (["--target-bits", "-1"], "give a number above 0"),
        (["--target-size", "-1MB"], "give a number of bytes"),
    ] {
        let error = said(&folder, &with(&line));
        assert!(
            error.contains(problem) && !error.contains("tip:"),
            "{error}"
        );
    }
    let whole = folder.succeeds(&with(&[
        "--target-bits",
        "32",
        "--candidates",
        "float,int8",
    ]));
    assert!(whole.contains(" bytes, no error; "), "{whole}");
}

#[test]
fn all_fields_of_a_plan_are_named_where_one_is_unknown() {
    let folder = model();
    folder.succeeds(&["plan", "m.safetensors", "-o", "p.json"]);
    let plan = fs::read_to_string(folder.path("p.json")).unwrap();
    fs::write(
        folder.path("p.json"),
        plan.replacen("\"mode\"", "\"mod\"", 1),
    )
    .unwrap();
    let error = said(&folder, &["quantize", "m.safetensors", "--plan", "p.json"]);
    assert!(
        error.contains("unknown field `mod`, expected one of"),
        "{error}"
    );
    for field in ["`dtype`", "`mode`", "`blocks`", "`group_size`", "`search`"] {
        assert!(error.contains(field), "{field}: {error}");
    }
}

/// What was chosen is no warning, and quiet as `quantize` is.
#[test]
fn stacked_experts_are_noted_as_quantize_notes_them() {
    let folder = Folder::new();
    let values = f32_bytes(4 * 64 * 64, wave);
    let stack = (
        "m.experts.gate_up_proj",
        "F32",
        &[4, 64, 64][..],
        &values[..],
    );
    folder.model("e.safetensors", &[stack]);
    for command in [
        &["plan", "e.safetensors", "-o", "p.json"][..],
        &["quantize", "e.safetensors"],
    ] {
        let loud = folder.quant(&[command, &["-f"]].concat());
        assert!(
            String::from_utf8(loud.stdout)
                .unwrap()
                .contains("stacked experts"),
            "{command:?}"
        );
        assert!(loud.stderr.is_empty(), "{command:?}");
        let quiet = folder.quant(&[command, &["-f", "-q"]].concat());
        assert!(
            quiet.stdout.is_empty() && quiet.stderr.is_empty(),
            "{command:?}"
        );
    }
}

#[test]
fn the_file_that_weighs_errors_is_named() {
    let folder = model();
    let inputs = f32_bytes(4 * 64, wave);
    folder.model(
        "in.safetensors",
        &[("fc1.weight", "F32", &[4, 64], &inputs)],
    );
    folder.succeeds(&[
        "calibrate",
        "in.safetensors",
        "--importance",
        "-o",
        "i.safetensors",
    ]);
    let line = [
        "quantize",
        "m.safetensors",
        "--search",
        "mse",
        "--importance",
        "i.safetensors",
    ];
    let note = "errors of 1 tensor were weighed by the importance in i.safetensors";
    assert!(
        folder
            .succeeds(&[&line[..], &["-f"]].concat())
            .contains(note)
    );
    assert!(
        folder
            .succeeds(&[&line[..], &["-f", "--json"]].concat())
            .contains(note)
    );
    fs::copy(folder.path("i.safetensors"), folder.path("i.gguf")).unwrap();
    let error = said(
        &folder,
        &[
            "calibrate",
            "--merge",
            "--importance",
            "i.gguf",
            "-o",
            "j.safetensors",
        ],
    );
    assert!(
        error.contains("only files that `quant calibrate` with --importance wrote"),
        "{error}"
    );
}
