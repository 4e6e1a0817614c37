//! Where outputs go when nobody says, and where they cannot go.

use std::fs;

use crate::folder::Folder;

/// Beside the link that was named, not in the cache that it leads to.
#[test]
fn a_linked_model_is_written_beside_the_link() {
    let folder = Folder::new();
    folder.sharded("hub/snapshots/abc123", 1);
    folder.package("linear_18_f16", "hub/snapshots/def456");
    folder.model("hub/blobs/9f", "w");
    folder.link("../hub/snapshots/abc123", "work/model");
    folder.link("../hub/snapshots/def456", "work/net.mlpackage");
    folder.link("../hub/blobs/9f", "work/one.safetensors");
    let hub = folder.names("hub/snapshots");
    folder.succeeds(&["quantize", "work/model"]);
    folder.succeeds(&["quantize", "work/model/", "--dtype", "uint8"]);
    folder.succeeds(&["quantize", "work/net.mlpackage"]);
    folder.succeeds(&["quantize", "work/one.safetensors"]);
    folder.succeeds(&["dequantize", "work/model.int8"]);
    let made = ["model", "model.int8", "model.int8.float", "model.uint8"];
    let made = made
        .into_iter()
        .chain(["net.int8.mlpackage", "net.mlpackage"]);
    let made: Vec<_> = made
        .chain(["one.int8.safetensors", "one.safetensors"])
        .collect();
    assert_eq!(folder.names("work"), made);
    assert_eq!(folder.names("hub/snapshots"), hub);
    // From within it.
    let output = folder.command(&["quantize", ".", "--dtype", "int4"]);
    let mut output = output;
    let output = output
        .current_dir(folder.path("hub/snapshots/abc123"))
        .output();
    assert!(output.unwrap().status.success());
    assert!(folder.path("hub/snapshots/abc123.int4").is_dir());
}

#[test]
fn folders_that_are_missing_are_named() {
    let folder = Folder::new();
    folder.model("m.safetensors", "w");
    folder.sharded("model", 1);
    folder.package("linear_18_f16", "p.mlpackage");
    folder.file("file", "");
    for input in ["m.safetensors", "model", "p.mlpackage"] {
        let refuses = |option: &str, place: &str, words: &[&str]| {
            folder.refuses(&["quantize", input, option, place], words);
        };
        refuses(
            "-o",
            "missing/x",
            &["missing/x", "`missing` does not exist"],
        );
        refuses("-o", "missing/deep/x", &["`missing` does not exist"]);
        refuses("-o", "model/none/x", &["model/none` does not exist"]);
        refuses("-o", "file/x", &["`file` is no folder"]);
        refuses("--report", "missing/r.json", &["`missing` does not exist"]);
    }
    folder.succeeds(&["calibrate", "m.safetensors", "-o", "r.json"]);
    folder.refuses(
        &["plot", "r.json", "-o", "missing/x.html"],
        &["`missing` does not exist"],
    );
    let calibrate = ["calibrate", "m.safetensors", "-o", "missing/r.json"];
    folder.refuses(&calibrate, &["`missing` does not exist"]);
}

#[test]
fn what_a_loader_needs_goes_along() {
    let folder = Folder::new();
    folder.sharded("model", 2);
    let needed = [
        "chat_template.jinja",
        "generation_config.json",
        "merges.txt",
        "preprocessor_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
        "LICENSE",
        "README.md",
    ];
    for name in needed {
        folder.file(&format!("model/{name}"), name);
    }
    folder.file("model/notes.txt", "mine");
    folder.file("model/pytorch_model.bin", "other weights");
    folder.file("model/old.safetensors", "other weights");
    fs::create_dir(folder.path("model/tokenizer.d")).unwrap();
    folder.file("key", "secret");
    folder.link("../key", "model/tokenizer.key");
    let (said, warned) = folder.succeeds(&["quantize", "model", "-o", "out"]);
    assert!(
        said.contains("copied") && said.contains("tokenizer.json"),
        "{said}"
    );
    assert!(
        warned.contains("tokenizer.key") && warned.contains("not copied"),
        "{warned}"
    );
    let weights = [
        "000.safetensors",
        "001.safetensors",
        "model.safetensors.index.json",
    ];
    let mut wanted: Vec<_> = needed
        .into_iter()
        .chain(weights)
        .chain(["config.json"])
        .collect();
    wanted.sort_unstable();
    assert_eq!(folder.names("out"), wanted);
    for name in needed {
        assert_eq!(
            fs::read_to_string(folder.path("out").join(name)).unwrap(),
            name
        );
    }
    let (said, _) = folder.succeeds(&["dequantize", "out", "-o", "back"]);
    assert!(said.contains("tokenizer.json"), "{said}");
    assert_eq!(folder.names("back"), wanted);
    // All of this may be replaced, but no text that somebody has changed.
    folder.succeeds(&["quantize", "model", "-o", "out", "--force"]);
    folder.file("out/README.md", "my own words");
    folder.refuses(
        &["quantize", "model", "-o", "out", "--force"],
        &["README.md"],
    );
    for (command, input) in [("quantize", "model"), ("dequantize", "out")] {
        let output = format!("only-{command}");
        let (said, _) = folder.succeeds(&[command, input, "-o", &output, "--weights-only"]);
        assert!(!said.contains("copied"), "{said}");
        assert_eq!(folder.names(&output), weights);
    }
    let (json, _) = folder.succeeds(&["quantize", "model", "-o", "again", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["copied"].as_array().unwrap().len(), needed.len() + 1);
}

/// In a hub's cache everything is a link; what a link leads to elsewhere is no part of a package.
/// What such a configuration says would be in the result.
#[test]
fn a_configuration_that_is_elsewhere_is_refused() {
    let folder = Folder::new();
    let secret = r#"{"model_type": "llama", "token": "secret"}"#;
    folder.file("secret.json", secret);
    folder.model(
        "model/model.safetensors",
        "model.layers.0.mlp.up_proj.weight",
    );
    folder.link("../secret.json", "model/config.json");
    for format in ["mlx", "compressed-tensors"] {
        let quantize = ["quantize", "model", "--format", format, "-o", "out"];
        let quantize = [&quantize[..], &["--group-size", "32"]].concat();
        folder.refuses(&quantize, &["config.json", "leads out of the model"]);
        // Of a quantized model, too.
        fs::remove_file(folder.path("model/config.json")).unwrap();
        folder.file("model/config.json", secret);
        folder.succeeds(&quantize);
        fs::rename(folder.path("out/config.json"), folder.path("moved.json")).unwrap();
        folder.link("../moved.json", "out/config.json");
        let dequantize = ["dequantize", "out", "-o", "back"];
        folder.refuses(&dequantize, &["config.json", "leads out of the model"]);
        fs::remove_dir_all(folder.path("out")).unwrap();
        fs::remove_file(folder.path("model/config.json")).unwrap();
        folder.link("../secret.json", "model/config.json");
    }
}

#[test]
fn links_out_of_a_package_are_refused() {
    let folder = Folder::new();
    folder.file("key", "secret");
    let inner = "Data/com.apple.CoreML";
    for (name, replaced) in [
        ("Data/notes.txt", false),
        (&*format!("{inner}/weights/extra.bin"), false),
        ("Manifest.json", true),
        (&format!("{inner}/model.mlmodel"), true),
        (&format!("{inner}/weights/weight.bin"), true),
    ] {
        let package = format!("{}.mlpackage", name.len());
        folder.package("linear_18_f16", &package);
        let link = format!("{package}/{name}");
        let target = folder.path("key");
        if replaced {
            // It is all that it should be, but for where it is.
            fs::rename(folder.path(&link), &target).unwrap();
        }
        folder.link(target.to_str().unwrap(), &link);
        folder.refuses(&["quantize", &package], &[name, "leads out of the package"]);
        fs::write(&target, "secret").unwrap();
    }
    folder.package("linear_18_f16", "whole.mlpackage");
    for name in [
        "Manifest.json",
        &format!("{inner}/model.mlmodel"),
        &format!("{inner}/weights/weight.bin"),
    ] {
        let blob = format!("hub/blobs/{}", name.len());
        fs::create_dir_all(folder.path("hub/blobs")).unwrap();
        fs::copy(
            folder.path("whole.mlpackage").join(name),
            folder.path(&blob),
        )
        .unwrap();
        let up = "../".repeat(2 + name.split('/').count());
        folder.link(
            &format!("{up}blobs/{}", name.len()),
            &format!("hub/snapshots/1/m.mlpackage/{name}"),
        );
    }
    folder.succeeds(&[
        "quantize",
        "hub/snapshots/1/m.mlpackage",
        "-o",
        "o.mlpackage",
    ]);
    folder.succeeds(&["inspect", "o.mlpackage"]);
    for (path, content) in folder.tree() {
        if path.starts_with(folder.path("o.mlpackage")) {
            assert!(!path.is_symlink() && content != b"secret", "{path:?}");
        }
    }
}

/// What never ends is not read.
#[test]
#[cfg(target_os = "linux")]
fn endless_files_are_refused() {
    let folder = Folder::new();
    folder.model("m.safetensors", "w");
    folder.package("linear_18_f16", "m.mlpackage");
    folder.sharded("model", 1);
    fs::remove_file(folder.path("model/model.safetensors.index.json")).unwrap();
    folder.link("/dev/zero", "model/model.safetensors.index.json");
    folder.link("/dev/zero", "zero.json");
    folder.link("/dev/zero", "e.mlpackage/Manifest.json");
    for kind in ["safetensors", "gguf", "npz", "npy", "dat"] {
        let name = format!("zero.{kind}");
        folder.link("/dev/zero", &name);
        let importance = ["--search", "mse", "--importance", &name];
        let moments = ["--method", "gptq", "--hessians", &name];
        let samples = ["--target-bits", "6", "--samples", &name];
        folder.refuses(
            &[&["quantize", "m.safetensors"][..], &importance].concat(),
            &[&name],
        );
        if cfg!(feature = "run") {
            folder.refuses(
                &[&["quantize", "m.safetensors"][..], &moments].concat(),
                &[&name],
            );
            folder.refuses(&[&["plan", "m.mlpackage"][..], &samples].concat(), &[&name]);
        }
    }
    for arguments in [
        &["quantize", "m.safetensors", "--config", "/dev/zero"][..],
        &["quantize", "m.safetensors", "--config", "zero.json"],
        &["quantize", "m.mlpackage", "--ranges", "/dev/zero"],
        &["quantize", "model/model.safetensors.index.json"],
        &["quantize", "zero.json"],
        &["inspect", "e.mlpackage"],
        &["inspect", "/dev/zero"],
        &["plot", "/dev/zero", "-o", "x.html"],
        &["calibrate", "--merge", "/dev/zero", "-o", "x.json"],
        &["calibrate", "zero.npz", "-o", "x.json"],
        &["quantize", "m.safetensors", "--plan", "/dev/zero"],
        &["quantize", "zero.gguf", "-o", "x.gguf"],
    ] {
        folder.refuses(arguments, &[]);
    }
}

/// `-` and the process' own streams are no names of files: a link such as /dev/stdout would be replaced.
#[test]
fn streams_are_no_outputs() {
    let folder = Folder::new();
    folder.model("m.safetensors", "w");
    folder.package("linear_18_f16", "p.mlpackage");
    folder.link("/proc/self/fd/1", "s");
    folder.link("s", "linked");
    for (command, words) in [
        ("quantize m.safetensors -o -", "./-"),
        ("quantize p.mlpackage -o -", "./-"),
        ("plan m.safetensors -o -", "./-"),
        ("quantize m.safetensors --report -", "./-"),
        ("quantize m.safetensors -o s", "a device or a pipe"),
        ("quantize m.safetensors -o linked", "a device or a pipe"),
        ("plan m.safetensors -o ./s", "a device or a pipe"),
        ("quantize m.safetensors --report s", "a device or a pipe"),
        ("quantize p.mlpackage -o s", "is a link"),
    ] {
        for force in ["", "--force"] {
            let is_link = words == "is a link";
            let arguments: Vec<&str> = command
                .split(' ')
                .chain([force].into_iter().filter(|it| !it.is_empty()))
                .collect();
            let printed = fs::File::create(folder.path("printed")).unwrap();
            let output = folder.command(&arguments).stdout(printed).output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
            assert!(
                stderr.contains(words) || is_link && force.is_empty(),
                "{stderr}"
            );
            assert!(folder.path("s").is_symlink() && !folder.path("-").exists());
            assert_eq!(fs::read(folder.path("printed")).unwrap(), b"");
        }
    }
    folder.succeeds(&["quantize", "m.safetensors", "-o", "./-"]);
}
