//! `quantize` is `plan` and `quantize --plan`, to the last byte of the folder.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::folder::{Folder, f32_bytes, wave};
use crate::{CASES, model, read, tensors};

/// All files of a folder, by name.
fn files(folder: &Folder, name: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder.path(name)).unwrap();
    let files = entries.map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(path).unwrap())
    });
    files.collect()
}

/// Quantizes `m` by its plan.
fn carry_out(folder: &Folder) {
    let line = [
        "quantize",
        "m",
        "--plan",
        "plan.json",
        "-o",
        "planned",
        "-f",
    ];
    folder.succeeds(&line);
}

/// Quantizes `m` at once as `ours` and by way of a plan as `planned`; they are the same. What
/// `config.json` says of weights, by the name of the group.
fn same_by_plan(folder: &Folder, options: &[&str]) -> Value {
    let format = ["m", "--format", "compressed-tensors", "-f", "-q"];
    let line = |command: &'static str, output: &'static str| {
        [&[command, "-o", output][..], &format, options].concat()
    };
    folder.succeeds(&line("quantize", "ours"));
    folder.succeeds(&line("plan", "plan.json"));
    carry_out(folder);
    let (ours, planned) = (files(folder, "ours"), files(folder, "planned"));
    let names = |of: &BTreeMap<String, Vec<u8>>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&planned), "{options:?}");
    for (name, bytes) in &ours {
        let is_same = *bytes == planned[name];
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(3000).collect();
        let [a, b]: [String; 2] = [text(bytes), text(&planned[name])];
        assert!(is_same, "{options:?}: {name}:\n{a}\n{b}");
    }
    let config = read(&folder.path("ours/config.json"));
    let groups = config["quantization_config"]["config_groups"].clone();
    let groups = groups.as_object().unwrap().iter();
    let weights = groups.map(|(name, group)| (name.clone(), group["weights"].clone()));
    Value::Object(weights.collect())
}

#[test]
fn presets_by_a_plan_are_presets() {
    for (case, of_case) in CASES {
        let folder = model(case);
        for options in [
            &["--preset", of_case][..],
            &["--preset", "w4a16"],
            &["--preset", "w4a16-asym"],
            &["--preset", "w8a16"],
            &["--preset", "w8a8"],
            &["--group-size", "0"],
            &["--group-size", "0", "--mode", "affine"],
            &["--group-size", "64"],
            &["--bits", "8", "--group-size", "32", "--exclude", "k_proj"],
        ] {
            same_by_plan(&folder, options);
        }
    }
}

/// Rows that are one group are a group where groups were asked for, beside longer rows and alone.
#[test]
fn rows_of_one_group_stay_groups() {
    let folder = Folder::new();
    fs::create_dir(folder.path("m")).unwrap();
    fs::write(folder.path("m/config.json"), "{}").unwrap();
    let values = f32_bytes(64 * 256, wave);
    for rows in [[128, 256, 64], [128, 64, 64], [64, 64, 64]] {
        let [a, b, c] = rows.map(|row| ([64, row], &values[..64 * row * 4]));
        let tensor = |name, (shape, values)| (name, "F32", shape, values);
        let tensors = [
            tensor("a.weight", a),
            tensor("b.weight", b),
            tensor("c.weight", c),
        ];
        let tensors = tensors.each_ref().map(|it| (it.0, it.1, &it.2[..], it.3));
        folder.model("m/model.safetensors", &tensors);
        for (group, strategy) in [(128, "group"), (64, "group"), (0, "channel")] {
            if rows.iter().all(|&row| row < group) {
                continue;
            }
            let weights = same_by_plan(&folder, &["--group-size", &group.to_string()]);
            let of = weights.as_object().unwrap();
            assert_eq!(of.len(), 1, "{rows:?}: {weights}");
            let size = (group != 0).then_some(group);
            assert_eq!(of["W4A16"]["strategy"], strategy, "{rows:?}: {weights}");
            assert_eq!(of["W4A16"]["group_size"], json!(size), "{rows:?}");
        }
    }
}

/// Plans of earlier versions do not say what was asked for.
#[test]
fn what_was_asked_for_may_be_left_out() {
    let folder = model("llama-w4a16");
    same_by_plan(&folder, &["--preset", "w4a16"]);
    let mut plan = read(&folder.path("plan.json"));
    let asked = plan.as_object_mut().unwrap().remove("asked");
    assert_eq!(asked, Some(json!({"dtype": "uint4", "group_size": 128})));
    fs::write(folder.path("plan.json"), plan.to_string()).unwrap();
    carry_out(&folder);
    let config = read(&folder.path("planned/config.json"));
    let weights = &config["quantization_config"]["config_groups"]["W4A16"]["weights"];
    assert_eq!(weights["strategy"], "channel");
    assert!(tensors(&folder.path("ours")) == tensors(&folder.path("planned")));

    plan["asked"] = json!({"dtype": "uint7", "group_size": 128});
    fs::write(folder.path("plan.json"), plan.to_string()).unwrap();
    let again = ["quantize", "m", "--plan", "plan.json", "-o", "again"];
    folder.refuses(&again, 1, &["plan.json", "uint7"]);
}
