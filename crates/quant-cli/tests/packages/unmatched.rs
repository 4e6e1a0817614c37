//! Names and patterns that match nothing, and packages of which nothing is quantized, are told, however
//! quiet the command is to be; `--strict` makes them errors.

use std::fs;

use serde_json::{Value, json};

use crate::folder::Folder;

/// The only line on stderr.
fn warning(folder: &Folder, arguments: &[&str]) -> String {
    let (_, stderr) = folder.said(arguments);
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    assert!(stderr.starts_with("quant: warning: "), "{stderr}");
    stderr
}

fn told(folder: &Folder, arguments: &[&str], words: &[&str]) {
    for quiet in ["--quiet", "--json"] {
        let said = warning(folder, &[arguments, &["--force", quiet]].concat());
        for word in words {
            assert!(said.contains(word), "no `{word}` in {said}");
        }
    }
    folder.refuses(&[arguments, &["--force", "--strict"]].concat(), 3, words);
}

fn config(folder: &Folder, names: &Value, types: &Value) {
    let config = json!({"config_type": "OpLinearQuantizerConfig", "global_config": {},
        "op_name_configs": names, "op_type_configs": types});
    fs::write(folder.path("c.json"), config.to_string()).unwrap();
}

#[test]
fn patterns_that_match_no_weight_are_told() {
    let folder = Folder::with_package("linear_18_f16");
    let quantize = ["quantize", "m.mlpackage"];
    let exclude = [&quantize[..], &["--exclude", "^frist"]].concat();
    told(
        &folder,
        &exclude,
        &["--exclude `^frist` matches no weight", "`first_bias_0`"],
    );
    let none = [&quantize[..], &["--min-elements", "1000000"]].concat();
    told(
        &folder,
        &none,
        &["nothing was quantized", "not more than 1000000 elements"],
    );
    // Of its own name, or that of what is too small.
    let good = ["--exclude", "^first_bias_0$", "--strict"];
    let (_, said) = folder.said(&[&quantize[..], &good, &["--force"]].concat());
    assert_eq!(said, "");
}

#[test]
fn a_package_that_is_quantized_already_is_told() {
    let folder = Folder::with_package("linear_18_f16");
    folder.said(&["quantize", "m.mlpackage", "-o", "q.mlpackage"]);
    let again = ["quantize", "q.mlpackage", "-o", "r.mlpackage"];
    told(
        &folder,
        &again,
        &["nothing was quantized", "already quantized"],
    );
}

#[test]
fn names_of_configurations_that_match_nothing_are_told() {
    let folder = Folder::with_package("linear_18_f16");
    let quantize = ["quantize", "m.mlpackage", "--config", "c.json"];
    config(&folder, &json!({"first_cast": null}), &json!({}));
    told(
        &folder,
        &quantize,
        &[
            "op_name_configs: `first_cast` matches no weight, and no operation that takes one",
            "`first`",
        ],
    );
    config(&folder, &json!({}), &json!({"linaer": null}));
    told(
        &folder,
        &quantize,
        &[
            "op_type_configs: `linaer` matches no type",
            "near it: `linear`",
        ],
    );
    config(
        &folder,
        &json!({"first": null, "first_weight_0": null}),
        &json!({"linear": {}}),
    );
    let (_, said) = folder.said(&[&quantize[..], &["--force", "--strict"]].concat());
    assert_eq!(said, "");
}

#[test]
fn a_list_of_activations_tells_what_matches_nothing() {
    let folder = Folder::with_ranges("consumers_18_f16");
    config(&folder, &json!({"stem_cast": null}), &json!({}));
    let misspelled = [
        (
            ["--include", "setm"],
            "--include `setm` matches no operation",
        ),
        (
            ["--exclude", "setm"],
            "--exclude `setm` matches no operation",
        ),
        (["--config", "c.json"], "op_name_configs: `stem_cast`"),
    ];
    for (option, problem) in misspelled {
        for form in ["--list", "--list --json"] {
            let form: Vec<&str> = form.split(' ').collect();
            let list = [&["activations", "m.mlpackage"], &form[..], &option].concat();
            let said = warning(&folder, &list);
            assert!(said.contains(problem) && said.contains("`stem`"), "{said}");
            folder.refuses(
                &[&list[..], &["--strict"]].concat(),
                3,
                &[problem, "`stem`"],
            );
        }
    }
    let list = ["activations", "m.mlpackage", "--list", "--include", "stem"];
    let (_, said) = folder.said(&[&list[..], &["--strict"]].concat());
    assert_eq!(said, "");
}

#[test]
fn names_of_activations_that_match_nothing_are_told() {
    let folder = Folder::with_ranges("consumers_18_f16");
    let activations = ["activations", "m.mlpackage", "--ranges", "ranges.json"];
    let exclude = [&activations[..], &["--exclude", "setm"]].concat();
    told(
        &folder,
        &exclude,
        &["--exclude `setm` matches no operation", "`stem`"],
    );
    config(&folder, &json!({"stem_cast": null}), &json!({}));
    let configured = [&activations[..], &["--config", "c.json"]].concat();
    told(
        &folder,
        &configured,
        &["op_name_configs: `stem_cast`", "`stem`"],
    );
    config(&folder, &json!({}), &json!({"convolution": null}));
    told(
        &folder,
        &configured,
        &["op_type_configs: `convolution`", "near it: `conv`"],
    );
    // Nothing is left, because the pattern has a fault.
    let include = [&activations[..], &["--include", "setm", "--force"]].concat();
    folder.refuses(&include, 1, &["`setm` matches no operation", "`stem`"]);
    folder.refuses(
        &[&include[..], &["--strict"]].concat(),
        3,
        &["`setm` matches no operation"],
    );

    let path = folder.path("ranges.json");
    let mut ranges: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    ranges["activations"]["x_cast"] = json!({"min": 0, "max": 1});
    fs::write(&path, ranges.to_string()).unwrap();
    told(
        &folder,
        &activations,
        &["ranges.json: `x_cast` matches no activation", "`x`"],
    );
    let both = ["quantize", "m.mlpackage", "--ranges", "ranges.json"];
    told(
        &folder,
        &both,
        &["ranges.json: `x_cast` matches no activation", "`x`"],
    );
}
