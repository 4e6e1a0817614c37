//! Text that comes from files: whatever names hold, terminals and logs are safe, and tables are tables.

#[path = "../folder/mod.rs"]
mod folder;
mod tables;

use std::fs;
use std::process::Output;

use folder::{Folder, f32_bytes, npy, wave};
use serde_json::{Value, json};

/// What may not reach a terminal: controls, marks of direction, what has no width, ends of lines,
/// what is no character, and marks that select a form.
const HIDDEN: &[char] = &[
    '\u{1}',
    '\u{7}',
    '\u{8}',
    '\t',
    '\n',
    '\r',
    '\u{1b}',
    '\u{7f}',
    '\u{85}',
    '\u{9b}',
    '\u{a0}',
    '\u{ad}',
    '\u{34f}',
    '\u{61c}',
    '\u{115f}',
    '\u{180e}',
    '\u{200b}',
    '\u{200c}',
    '\u{200d}',
    '\u{200e}',
    '\u{200f}',
    '\u{2028}',
    '\u{2029}',
    '\u{202a}',
    '\u{202b}',
    '\u{202c}',
    '\u{202d}',
    '\u{202e}',
    '\u{2060}',
    '\u{2066}',
    '\u{2067}',
    '\u{2068}',
    '\u{2069}',
    '\u{3164}',
    '\u{fe00}',
    '\u{fe0f}',
    '\u{feff}',
    '\u{fff9}',
    '\u{fffe}',
    '\u{ffff}',
    '\u{1fffe}',
    '\u{e0001}',
    '\u{e0041}',
    '\u{e007f}',
    '\u{e0100}',
    '\u{e01ef}',
];

fn hostile() -> String {
    let mut name = String::from("w\u{1b}[31mred\u{1b}]0;title\u{7}");
    for char in HIDDEN {
        name.push(*char);
        name.push('x');
    }
    name
}

/// Nothing hidden on either stream, and it did not panic. Gives standard output.
fn check(output: &Output, what: &str) -> String {
    let mut texts = [&output.stdout, &output.stderr].map(|bytes| {
        let text = String::from_utf8(bytes.clone()).expect("UTF-8");
        // None of ASCII's visible ones is hidden, and there are millions of them.
        for char in text
            .chars()
            .filter(|char| !matches!(char, '\n' | ' '..='~'))
        {
            assert!(
                !HIDDEN.contains(&char) && !char.is_control(),
                "{what}: {char:?} in {text:?}"
            );
        }
        text
    });
    assert!(!texts[1].contains("panicked"), "{what}: {}", texts[1]);
    assert!(
        output.status.code().is_some_and(|code| code <= 3),
        "{what}: {:?}",
        output.status
    );
    std::mem::take(&mut texts[0])
}

/// All commands that read a model whose tensors have that name.
fn every_command(folder: &Folder, name: &str) {
    let (w, other) = (
        f32_bytes(64 * 96, wave),
        f32_bytes(64 * 96, |i| wave(i + 1)),
    );
    let shape = &[64, 96][..];
    folder.model(
        "m.safetensors",
        &[(name, "F32", shape, &w), ("b", name, &[3], &[0; 5])],
    );
    folder.model("n.safetensors", &[(name, "F32", shape, &other)]);
    let nan = f32_bytes(64 * 96, |_| f32::NAN);
    folder.model("nan.safetensors", &[(name, "F32", shape, &nan)]);
    folder.model("bad.safetensors", &[(name, "F32", &[65, 96], &w)]);
    for arguments in [
        "quantize m.safetensors -f",
        "quantize m.safetensors -f --granularity per-block",
        "quantize m.safetensors --dry-run",
        "quantize m.safetensors --dry-run --json",
        "quantize m.safetensors -f --axis 7",
        "quantize m.safetensors -f --axis 7 --strict",
        "quantize nan.safetensors",
        "quantize nan.safetensors --non-finite skip --strict",
        "quantize bad.safetensors",
        "inspect m.safetensors --values",
        "inspect m.int8.safetensors",
        "inspect m.safetensors --json",
        "diff m.safetensors n.safetensors",
        "diff m.safetensors n.safetensors --json",
        "diff m.safetensors m.int8.safetensors",
        "diff m.safetensors nan.safetensors",
        "dequantize m.int8.safetensors -f",
        "dequantize m.safetensors",
        "quantize m.int8.safetensors",
        "quantize m.mlpackage --dry-run",
        "calibrate n.safetensors -o ranges.json -f",
        "calibrate n.safetensors -o ranges.json -f --observer mse --json",
        "calibrate nan.safetensors -o none.json -f",
        "calibrate --merge ranges.json ranges.json -o merged.json -f",
        "plot ranges.json -f",
        "plot ranges.json -o ranges.svg -f",
        "plan m.safetensors",
        "plan n.safetensors -o plan.json -f",
        "plan n.safetensors --target-bits 6",
        "quantize n.safetensors --plan plan.json -f",
        "quantize n.safetensors --format gguf -o n.gguf -f",
        "quantize n.safetensors --format compressed-tensors -f",
        "convert m.int8.safetensors --format gguf -f",
        "convert m.int8.safetensors --format compressed-tensors -f",
        "inspect n.gguf",
        "diff n.gguf n.safetensors",
        "dequantize n.gguf -f",
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        check(&folder.quant(&arguments), &arguments.join(" "));
    }
    for file in ["ranges.html", "ranges.svg"] {
        let text = fs::read_to_string(folder.path(file)).unwrap();
        assert!(
            !text.contains(|char| char != '\n' && HIDDEN.contains(&char)),
            "{file}"
        );
    }
}

#[test]
fn names_from_files_are_escaped() {
    let folder = Folder::new();
    let name = hostile();
    every_command(&folder, &name);
    for arguments in [
        "plan n.safetensors --target-bits 6 -o mixed.json --report plan.html -f",
        "quantize n.safetensors --auto -f",
        "calibrate n.safetensors --importance -o i.safetensors -f",
        "quantize n.safetensors --search mse --importance i.safetensors -f",
        "quantize m.safetensors --method gptq --hessians n.safetensors -f",
    ] {
        let words: Vec<&str> = arguments.split(' ').collect();
        check(&folder.quant(&words), arguments);
    }
    let page = fs::read_to_string(folder.path("plan.html")).unwrap();
    assert!(!page.contains(|char| char != '\n' && HIDDEN.contains(&char)));
    let text = folder.succeeds(&["inspect", "m.safetensors"]);
    assert!(text.contains("w\\u{1b}[31mred"), "{text}");
    // JSON keeps the whole name.
    for command in [
        &["inspect", "m.safetensors", "--json"][..],
        &["quantize", "m.safetensors", "-n", "--json"],
    ] {
        let document: Value = serde_json::from_str(&folder.succeeds(command)).unwrap();
        let names = document["tensors"].as_array().unwrap();
        assert!(names.iter().any(|tensor| tensor["name"] == name.as_str()));
    }
}

/// Every text of a GGUF file: keys, values, the architecture, tensors.
#[test]
fn names_of_gguf_files_are_escaped() {
    let folder = Folder::new();
    let name = hostile();
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let number = |number: u64| number.to_le_bytes().to_vec();
    let kind = |kind: u32| kind.to_le_bytes().to_vec();
    // The whole name is longer than those of tensors may be.
    let at = (60..).find(|at| name.is_char_boundary(*at)).unwrap();
    let (first, last) = name.split_at(at);
    let (middle, last) = last.split_at((60..).find(|at| last.is_char_boundary(*at)).unwrap());
    assert!(last.len() < 128);
    for (key, value, tensor) in [
        ("general.architecture", name.as_str(), first),
        ("general.architecture", &name, name.as_str()),
        (&name, &name, middle),
        ("general.file_type", &name, last),
    ] {
        let head = [&b"GGUF"[..], &kind(3), &number(1), &number(1)].concat();
        let pair = [text(key), kind(8), text(value)].concat();
        for (kind_of_tensor, dims) in [(0, [96, 64]), (77, [96, 64]), (0, [u64::MAX, 64])] {
            let dims = dims.map(u64::to_le_bytes).concat();
            let entry = [text(tensor), kind(2), dims, kind(kind_of_tensor), number(0)].concat();
            let mut bytes = [&head[..], &pair, &entry].concat();
            bytes.resize(bytes.len().next_multiple_of(32), 0);
            bytes.extend(f32_bytes(64 * 96, wave));
            fs::write(folder.path("m.gguf"), bytes).unwrap();
            for arguments in [
                "inspect m.gguf",
                "inspect m.gguf --json",
                "plan m.gguf",
                "quantize m.gguf -o q.gguf -f",
                "quantize m.gguf -o q.gguf -f --exclude nothing --strict",
                "quantize q.gguf -o r.gguf -f",
                "dequantize q.gguf -o f.gguf -f",
                "diff m.gguf q.gguf",
            ] {
                let words: Vec<&str> = arguments.split(' ').collect();
                check(&folder.quant(&words), arguments);
            }
        }
    }
}

#[test]
fn names_of_shards_files_and_activations_are_escaped() {
    let folder = Folder::new();
    let name = hostile().replace('\0', "");
    fs::create_dir(folder.path("model")).unwrap();
    for shard in [name.as_str(), "../x\u{1b}[2J", "a\u{202e}b.safetensors"] {
        let index = json!({"weight_map": {"w": shard, &name: shard}});
        fs::write(
            folder.path("model/model.safetensors.index.json"),
            index.to_string(),
        )
        .unwrap();
        for command in ["inspect", "quantize", "dequantize"] {
            let output = folder.quant(&[command, "model"]);
            assert_eq!(output.status.code(), Some(1));
            check(&output, command);
        }
    }
    let file = "a\u{1b}[31m\u{202e}b\nc.safetensors";
    folder.model(file, &[("w", "F32", &[64, 96], &f32_bytes(64 * 96, wave))]);
    for arguments in [
        &["quantize", file][..],
        &["inspect", file],
        &["dequantize", file],
        &["diff", file, "none\u{1b}"],
    ] {
        check(&folder.quant(arguments), arguments[0]);
    }
    let bounds: Vec<_> = [-1.0, 2.0, f32::NAN].to_vec();
    fs::write(folder.path("x.npy"), npy(&bounds)).unwrap();
    let calibrate = ["calibrate", "x.npy", "--name", &name, "-o", "ranges.json"];
    let text = check(&folder.quant(&calibrate), "calibrate");
    assert_eq!(text.lines().count(), 3, "{text}");
    for arguments in [
        &["plot", "ranges.json"][..],
        &["plot", "ranges.json", "-o", "r\u{1b}.svg"],
        &[
            "calibrate",
            "--merge",
            "ranges.json",
            "none\u{9b}.json",
            "-o",
            "out.json",
        ],
        &["quantize", file, "--include", "(\u{1b}[31m\n"],
        &["quantize", file, "--config", "c\u{202e}.yaml"],
        &["quantize", "--\u{1b}[31m"],
        &["inspect", "none\u{1b}.safetensors"],
    ] {
        check(&folder.quant(arguments), arguments[0]);
    }
}

/// Names of the same length as those in the file, so that the message stays well-formed.
#[test]
fn names_of_operations_are_escaped() {
    let folder = Folder::with_package("../activations/consumers_18_f16");
    let path = folder.path("m.mlpackage/Data/com.apple.CoreML/model.mlmodel");
    let mut bytes = fs::read(&path).unwrap();
    for (old, new) in [
        (&b"stem"[..], "\u{1b}[2J"),
        (b"head", "\u{202e}h"),
        (b"conv_1", "\u{9b}\u{2028}x"),
    ] {
        assert_eq!(old.len(), new.len());
        let places: Vec<usize> = (0..bytes.len() - old.len())
            .filter(|&at| bytes[at..].starts_with(old))
            .collect();
        for at in places {
            bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
        }
    }
    fs::write(&path, bytes).unwrap();
    fs::write(
        folder.path("r.json"),
        r#"{"version": 1, "activations": {"x\u001b[1m\u202e": {"min": 0, "max": 1}}}"#,
    )
    .unwrap();
    fs::write(
        folder.path("c.yaml"),
        "config_type: OpLinearQuantizerConfig\nop_name_configs:\n  \"a\\e[1m\": null\n",
    )
    .unwrap();
    for arguments in [
        "inspect m.mlpackage",
        "inspect m.mlpackage --json",
        "quantize m.mlpackage --min-elements 1 -f",
        "quantize m.mlpackage --config c.yaml -f",
        "diff m.mlpackage m.int8.mlpackage",
        "dequantize m.int8.mlpackage -f",
        "activations m.mlpackage --list",
        "activations m.mlpackage --list --json",
        "activations m.mlpackage --ranges r.json -f",
        "quantize m.mlpackage --ranges r.json -f",
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        check(&folder.quant(&arguments), &arguments.join(" "));
    }
    let listed = folder.succeeds(&["inspect", "m.mlpackage"]);
    assert!(
        listed.contains("\\u{1b}[2J") || listed.contains("\\u{202e}h"),
        "{listed}"
    );
}

#[test]
fn long_names_end_nothing() {
    for (unit, lengths) in [
        ("n", &[65_535, 65_536, 1_000_000][..]),
        ("重", &[1_000_000]),
        ("\u{202e}", &[65_536]),
    ] {
        for length in lengths {
            let folder = Folder::new();
            let name = unit.repeat(length / unit.len());
            every_command(&folder, &name);
            for command in [
                &["inspect", "m.safetensors"][..],
                &["quantize", "m.safetensors", "-n"],
            ] {
                let text = folder.succeeds(command);
                assert!(text.len() < 8192, "{} bytes", text.len());
            }
            let document = folder.succeeds(&["inspect", "n.safetensors", "--json"]);
            let document: Value = serde_json::from_str(&document).unwrap();
            assert_eq!(document["tensors"][0]["name"], name.as_str());
        }
    }
}

#[test]
fn a_wrong_pattern_is_explained_in_a_line() {
    let folder = Folder::new();
    folder.model("m.safetensors", &[("w", "F32", &[1], &[0; 4])]);
    for (pattern, words) in [
        ("(", "unclosed group"),
        ("[", "unclosed character class"),
        ("a{2,1}", "invalid repetition"),
        ("(\n|", "unclosed group"),
        ("(?=x)", "look-around"),
    ] {
        for option in ["--include", "--exclude"] {
            let arguments = ["quantize", "m.safetensors", option, pattern];
            folder.refuses(
                &arguments,
                2,
                &[option, "is not a regular expression", words],
            );
            let stderr = String::from_utf8(folder.quant(&arguments).stderr).unwrap();
            assert!(
                !stderr.contains('^') && !stderr.contains("error:"),
                "{stderr}"
            );
        }
    }
}

/// What a damaged file says is told in words.
#[test]
fn errors_hold_no_names_of_types() {
    let folder = Folder::new();
    folder.model(
        "m.safetensors",
        &[("w", "F32", &[64, 96], &f32_bytes(64 * 96, wave))],
    );
    folder.succeeds(&["quantize", "m.safetensors", "--granularity", "per-tensor"]);
    let path = folder.path("m.int8.safetensors");
    let bytes = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let info: Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let at = header + info["w.scale"]["data_offsets"][0].as_u64().unwrap() as usize;
    for scale in [f32::NAN, f32::INFINITY, -1.0] {
        let mut damaged = bytes.clone();
        damaged[at..at + 4].copy_from_slice(&scale.to_le_bytes());
        fs::write(&path, damaged).unwrap();
        let output = folder.quant(&["dequantize", "m.int8.safetensors", "-f"]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{scale}: {stderr}");
        assert!(
            stderr.contains("tensor `w`: block 0: ") && !stderr.contains('{'),
            "{stderr}"
        );
    }
}
