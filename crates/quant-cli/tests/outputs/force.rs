//! `--force` replaces a model, and nothing else.

use std::fs;

use crate::folder::Folder;

/// The commands that write folders, with an input each: its name, and that of the folder that holds
/// it.
const COMMANDS: [(&[&str], &str); 8] = [
    (&["quantize"], "proj/model"),
    (&["quantize"], "proj/model/model.safetensors.index.json"),
    (&["dequantize"], "proj/q"),
    (&["quantize"], "proj/p.mlpackage"),
    (
        &["activations", "--ranges", "ranges.json"],
        "proj/a.mlpackage",
    ),
    (&["quantize", "--dialect", "coreai-torch"], "proj/c.aimodel"),
    (&["dequantize"], "proj/cq.aimodel"),
    (&["convert", "--format", "native"], "proj/ct"),
];

fn project() -> Folder {
    let folder = Folder::new();
    folder.sharded("proj/model", 2);
    folder.package("linear_18_f16", "proj/p.mlpackage");
    folder.package("../activations/conv_18_f16", "proj/a.mlpackage");
    folder.ranges("conv_18_f16");
    folder.file("proj/src/main.rs", "fn main() {}");
    folder.core_ai("proj/c.aimodel");
    folder.succeeds(&["quantize", "proj/model", "-o", "proj/q"]);
    folder.succeeds(&[&CORE_AI[..], &["-o", "proj/cq.aimodel"]].concat());
    folder.model(
        "proj/m/model.safetensors",
        "model.layers.0.mlp.up_proj.weight",
    );
    folder.file("proj/m/config.json", r#"{"model_type": "llama"}"#);
    let compressed = ["--format", "compressed-tensors", "--group-size", "32"];
    let quantize = ["quantize", "proj/m", "-o", "proj/ct"];
    folder.succeeds(&[&quantize[..], &compressed].concat());
    folder
}

const CORE_AI: [&str; 4] = ["quantize", "proj/c.aimodel", "--dialect", "coreai-torch"];

/// Refused by every command, before any work.
fn refuses_all(folder: &Folder, output: &str, words: &[&str]) {
    for (command, input) in COMMANDS {
        let arguments = [command, &[input, "-o", output, "--force"]].concat();
        folder.refuses(&arguments, words);
    }
}

#[test]
fn folders_of_other_things() {
    let folder = project();
    folder.file("photos/holiday.jpg", "precious");
    fs::create_dir(folder.path("empty")).unwrap();
    folder.file(
        "extension/Manifest.json",
        r#"{"manifest_version": 3, "name": "x"}"#,
    );
    folder.file("extension/background.js", "precious");
    folder.file("site.mlpackage/index.html", "precious");
    folder.file("site.aimodel/metadata.json", r#"{"assetVersion": "2.0"}"#);
    refuses_all(&folder, "photos", &["photos"]);
    refuses_all(&folder, "photos/", &["photos"]);
    refuses_all(&folder, "empty", &["empty"]);
    refuses_all(&folder, "extension", &["extension"]);
    refuses_all(&folder, "site.mlpackage", &["site.mlpackage"]);
    refuses_all(&folder, "site.aimodel", &["site.aimodel"]);
    // What stands in the way is named.
    folder.refuses(
        &["quantize", "proj/model", "-o", "photos", "--force"],
        &["holiday.jpg"],
    );
}

#[test]
fn folders_that_hold_the_input() {
    let folder = project();
    folder.link("proj", "link");
    folder.link("../proj/model", "elsewhere/model");
    refuses_all(&folder, "proj", &["proj"]);
    refuses_all(&folder, "link", &["link"]);
    refuses_all(&folder, "link/", &["link"]);
    refuses_all(&folder, ".", &["names no new"]);
    refuses_all(&folder, "..", &["names no new"]);
    refuses_all(&folder, "proj/../proj", &["proj"]);
    let by_link = ["quantize", "elsewhere/model", "-o", "proj", "--force"];
    folder.refuses(&by_link, &["holds the input"]);
    let itself = ["quantize", "elsewhere/model", "-o", "proj/model", "--force"];
    folder.refuses(&itself, &["the input itself"]);
    let inside = ["quantize", "elsewhere/model", "-o", "proj/model/new"];
    folder.refuses(&inside, &["inside the input"]);
}

/// Shards that are links into a folder which looks like a model that may be replaced.
#[test]
fn a_folder_that_shards_are_links_into() {
    let folder = Folder::new();
    folder.sharded("store", 2);
    folder.file("model/config.json", "{}");
    for name in [
        "000.safetensors",
        "001.safetensors",
        "model.safetensors.index.json",
    ] {
        folder.link(&format!("../store/{name}"), &format!("model/{name}"));
    }
    for input in ["model", "model/model.safetensors.index.json"] {
        let arguments = ["quantize", input, "-o", "store", "--force"];
        folder.refuses(&arguments, &["holds the input"]);
    }
    folder.package("linear_18_f16", "m.mlpackage");
    let weights = "Data/com.apple.CoreML/weights/weight.bin";
    folder.package("linear_18_f16", "other.mlpackage");
    let link = format!("other.mlpackage/{weights}");
    fs::remove_file(folder.path(&link)).unwrap();
    folder.link(&format!("../../../../m.mlpackage/{weights}"), &link);
    let arguments = [
        "quantize",
        "other.mlpackage",
        "-o",
        "m.mlpackage",
        "--force",
    ];
    folder.refuses(&arguments, &["other.mlpackage"]);
}

#[test]
fn models_with_a_file_too_many() {
    for stray in [
        "NOTES.md",
        "src/main.rs",
        "README.md",
        "other.safetensors",
        "weights.bin",
        "my-spam-classifier.model",
        "tokenizer-corpus.txt",
        "tokenizer.json",
        "chat_template.mine.jinja",
        ".git/config",
    ] {
        let folder = project();
        folder.succeeds(&["quantize", "proj/model", "-o", "out"]);
        folder.file(&format!("out/{stray}"), "precious");
        let first = stray.split('/').next().unwrap();
        for input in ["proj/model", "proj/model/model.safetensors.index.json"] {
            let arguments = ["quantize", input, "-o", "out", "--force"];
            folder.refuses(&arguments, &["out", first]);
        }
        folder.refuses(
            &["dequantize", "proj/q", "-o", "out", "--force"],
            &["out", first],
        );
    }
    for stray in [
        "NOTES.md",
        "Data/notes.txt",
        "Data/com.apple.CoreML/weights/NOTES.md",
        "Data/com.apple.CoreML/weights/backup.bin",
        "Data/com.apple.CoreML/other/x",
        "src/main.rs",
    ] {
        let folder = project();
        folder.package("linear_18_f16", "out.mlpackage");
        folder.file(&format!("out.mlpackage/{stray}"), "precious");
        let name = stray.rsplit('/').next().unwrap();
        let name = if name == "x" || name == "main.rs" {
            "is no part"
        } else {
            name
        };
        let quantize = [
            "quantize",
            "proj/p.mlpackage",
            "-o",
            "out.mlpackage",
            "--force",
        ];
        folder.refuses(&quantize, &["out.mlpackage", name]);
    }
    for stray in ["NOTES.md", "main.mlirb.old", "src/main.rs"] {
        let folder = project();
        folder.core_ai("out.aimodel");
        folder.file(&format!("out.aimodel/{stray}"), "precious");
        let name = stray.split('/').next().unwrap();
        let quantize = [&CORE_AI[..], &["-o", "out.aimodel", "--force"]].concat();
        folder.refuses(&quantize, &["out.aimodel", name]);
    }
}

/// A folder that is empty but for a folder counts, too.
#[test]
fn a_model_with_an_empty_folder() {
    let folder = project();
    folder.succeeds(&["quantize", "proj/model", "-o", "out"]);
    fs::create_dir(folder.path("out/src")).unwrap();
    folder.refuses(
        &["quantize", "proj/model", "-o", "out", "--force"],
        &["src"],
    );
}

#[test]
fn models_are_replaced() {
    let folder = project();
    folder.succeeds(&["quantize", "proj/model", "-o", "out"]);
    let first = folder.tree();
    folder.file("out/.DS_Store", "of the Finder");
    folder.succeeds(&["quantize", "proj/model", "-o", "out/", "--force"]);
    assert!(folder.tree() == first, "the same again");
    folder.succeeds(&["dequantize", "out", "-o", "float"]);
    folder.succeeds(&["dequantize", "proj/q", "-o", "float", "--force"]);
    // Another model with fewer shards leaves none of the old ones.
    folder.sharded("small", 1);
    folder.succeeds(&["quantize", "small", "-o", "out", "--force"]);
    let names = [
        "000.safetensors",
        "config.json",
        "model.safetensors.index.json",
    ];
    assert_eq!(folder.names("out"), names);

    folder.succeeds(&["quantize", "proj/p.mlpackage", "-o", "out.mlpackage"]);
    let first = folder.tree();
    folder.succeeds(&[
        "quantize",
        "proj/p.mlpackage",
        "-o",
        "out.mlpackage",
        "--force",
    ]);
    assert!(folder.tree() == first, "the same again");
    let activations = ["activations", "proj/a.mlpackage", "--ranges", "ranges.json"];
    let to = ["-o", "out.mlpackage", "--force"];
    folder.succeeds(&[&activations[..], &to].concat());
    folder.succeeds(&["inspect", "out.mlpackage"]);

    let quantize = [&CORE_AI[..], &["-o", "out.aimodel"]].concat();
    folder.succeeds(&quantize);
    let first = folder.tree();
    folder.succeeds(&[&quantize[..], &["--force"]].concat());
    assert!(folder.tree() == first, "the same again");
    let convert = ["convert", "--format", "native", "proj/ct", "-o", "out"];
    folder.refuses(&convert, &["out"]);
    folder.succeeds(&[&convert[..], &["--force"]].concat());
    assert!(
        folder
            .names("")
            .iter()
            .all(|name| !name.starts_with(".quant-"))
    );
}
