//! No output is an input, by whatever name.

use std::fs;

use crate::folder::Folder;

/// Every file of every input as the report, under its name, by a link and by a hard link.
#[test]
fn no_report_replaces_an_input() {
    let folder = Folder::new();
    folder.sharded("model", 2);
    folder.model("m.safetensors", "w");
    folder.package("linear_18_f16", "m.mlpackage");
    folder.package("../activations/conv_18_f16", "a.mlpackage");
    folder.gguf("m.gguf");
    folder.core_ai("m.aimodel");
    folder.ranges("conv_18_f16");
    let config = "config_type: OpLinearQuantizerConfig\nglobal_config: {mode: linear_symmetric}\n";
    folder.file("c.yaml", config);
    let inputs = folder.tree();
    let index = "model/model.safetensors.index.json";
    let commands: [(&str, &[&str], &[&str]); 7] = [
        ("model", &[], &["model/"]),
        (index, &[], &["model/"]),
        (
            "m.safetensors",
            &["--config", "c.yaml"],
            &["m.safetensors", "c.yaml"],
        ),
        (
            "m.mlpackage",
            &["--config", "c.yaml"],
            &["m.mlpackage/", "c.yaml"],
        ),
        (
            "a.mlpackage",
            &["--ranges", "ranges.json"],
            &["a.mlpackage/", "ranges.json"],
        ),
        ("m.gguf", &[], &["m.gguf"]),
        ("m.aimodel", &["--dialect", "coreai-torch"], &["m.aimodel/"]),
    ];
    for (input, options, of_it) in commands {
        for path in inputs.keys() {
            let name = path.strip_prefix(folder.path("")).unwrap();
            let name = name.to_str().unwrap();
            if !of_it.iter().any(|of| name.starts_with(of)) || path.is_dir() {
                continue;
            }
            folder.link(path.to_str().unwrap(), "link");
            fs::hard_link(path, folder.path("hard")).unwrap();
            for report in [name, "link", "hard"] {
                let command = [
                    "quantize", input, "-o", "out", "--force", "--report", report,
                ];
                folder.refuses(&[&command[..], options].concat(), &[report]);
            }
            fs::remove_file(folder.path("link")).unwrap();
            fs::remove_file(folder.path("hard")).unwrap();
        }
    }
}

#[test]
fn no_report_lies_in_a_model() {
    let folder = Folder::new();
    folder.sharded("model", 1);
    folder.package("linear_18_f16", "m.mlpackage");
    folder.link("model", "link");
    for (input, output, report, words) in [
        ("model", "out", "model/report.json", "inside the input"),
        ("model", "out", "link/report.json", "inside the input"),
        (
            "m.mlpackage",
            "o.mlpackage",
            "m.mlpackage/Data/r.json",
            "inside the input",
        ),
        (
            "m.mlpackage",
            "o.mlpackage",
            "o.mlpackage",
            "the model itself",
        ),
        ("model", "out", "out", "the model itself"),
        ("model", "out", "./out", "the model itself"),
    ] {
        let command = [
            "quantize", input, "-o", output, "--force", "--report", report,
        ];
        folder.refuses(&command, &[words]);
    }
    // Of an output that is there already.
    folder.succeeds(&["quantize", "model", "-o", "out", "--report", "r.json"]);
    let command = [
        "quantize",
        "model",
        "-o",
        "out",
        "--force",
        "--report",
        "out/r.json",
    ];
    folder.refuses(&command, &["inside the output"]);
}

#[test]
fn no_model_replaces_an_input() {
    let folder = Folder::new();
    folder.model("m.safetensors", "w");
    folder.file(
        "c.json",
        r#"{"config_type": "OpLinearQuantizerConfig", "global_config": {}}"#,
    );
    fs::hard_link(folder.path("m.safetensors"), folder.path("hard")).unwrap();
    folder.link("m.safetensors", "link");
    for output in ["m.safetensors", "./m.safetensors", "hard", "link"] {
        let command = ["quantize", "m.safetensors", "-o", output, "--force"];
        folder.refuses(&command, &["the input itself"]);
    }
    let command = [
        "quantize",
        "m.safetensors",
        "--config",
        "c.json",
        "-o",
        "c.json",
        "--force",
    ];
    folder.refuses(&command, &["the configuration itself"]);
    // A shard of a model that is given by another name.
    folder.sharded("model", 1);
    let command = [
        "quantize",
        "model",
        "-o",
        "model/000.safetensors",
        "--force",
    ];
    folder.refuses(&command, &["the input itself"]);
}

#[test]
fn no_plot_or_ranges_replace_an_input() {
    let folder = Folder::new();
    folder.model("data/x.safetensors", "w");
    folder.succeeds(&["calibrate", "data", "-o", "ranges.json"]);
    folder.link("ranges.json", "plot.html");
    let plot = ["plot", "ranges.json", "-o", "plot.html", "--force"];
    folder.refuses(&plot, &["the input itself"]);
    for output in ["data/x.safetensors", "data/ranges.json"] {
        let calibrate = ["calibrate", "data", "-o", output, "--force"];
        folder.refuses(&calibrate, &["data", "output"]);
    }
    fs::hard_link(folder.path("ranges.json"), folder.path("hard")).unwrap();
    let merge = [
        "calibrate",
        "--merge",
        "ranges.json",
        "-o",
        "hard",
        "--force",
    ];
    folder.refuses(&merge, &["one of the inputs"]);
}

/// Core AI's models have no arithmetic by default, which is the one thing to say.
#[test]
fn core_ai_is_decided_in_a_dialect() {
    let folder = Folder::new();
    folder.core_ai("m.aimodel");
    let line = ["quantize", "m.aimodel", "--auto", "-o", "q.aimodel"];
    let output = folder.quant(&line);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("give --dialect coreai or"), "{stderr}");
    folder.succeeds(&[&line[..], &["--dialect", "coreai"]].concat());
    let (text, _) = folder.succeeds(&["inspect", "q.aimodel", "--json"]);
    assert!(text.contains("\"coreai\""), "{text}");
}
