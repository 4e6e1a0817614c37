//! Which file a path leads to, and what is said of files of another kind.

use std::fs;

use safetensors::Dtype;

use crate::folder::{Folder, npy};
use crate::model::{bytes, f32, write};

/// Beginnings of files of other kinds, and what is said of them.
const OTHERS: &[(&[u8], &[&str])] = &[
    (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4\n",
        &["Git LFS pointer", "git lfs pull"],
    ),
    (b"FUGG\0\0\0\x03\0\0\0\0", &["big-endian GGUF"]),
    (b"lmgg\x03\0\0\0", &["GGML", ".safetensors"]),
    (
        b"PK\x03\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0archive/data.pkl",
        &["PyTorch", "save_file"],
    ),
    (
        b"PK\x03\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0a.txt",
        &["zip archive", "unpack"],
    ),
    (
        b"<!DOCTYPE html>\n<html><body>Sign in</body></html>",
        &["HTML page", "fetch"],
    ),
    (
        b"\x08\x08\x12\x07pytorch\x1a\x052.0.1:\x80\x10\x0a\x02\x0a\x01",
        &["ONNX"],
    ),
    (
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
        &["PyTorch", "save_file"],
    ),
    (b"\x93NUMPY\x01\0v\0{'descr': '<f4'}", &["NumPy array"]),
    (b"\x1f\x8b\x08\0\0\0\0\0\0\x03abcdef", &["gzip"]),
    (b"{\"weight_map\": {\"a\": \"b.safetensors\"}}", &["JSON"]),
    (
        b"\x08\x04\x12\x10\x0a\x0e\x0a\x01x\x1a\x09*\x07\x0a\x03\x01\x02\x03",
        &["Core ML", ".mlpackage"],
    ),
    (b"Entry not found", &["`Entry not found`"]),
    (b"Not", &["`Not`"]),
];

#[test]
fn files_of_another_kind_are_named() {
    let folder = Folder::new();
    fs::create_dir(folder.path("m")).unwrap();
    let index = r#"{"weight_map": {"w": "s.safetensors"}}"#;
    fs::write(folder.path("m/model.safetensors.index.json"), index).unwrap();
    for (head, words) in OTHERS {
        for name in ["x.safetensors", "x.bin", "m/s.safetensors"] {
            fs::write(folder.path(name), head).unwrap();
        }
        for command in ["quantize", "inspect", "dequantize"] {
            folder.refuses(
                &[command, "x.safetensors"],
                1,
                &[&["x.safetensors"], *words].concat(),
            );
            folder.refuses(&[command, "x.bin"], 1, words);
            folder.refuses(&[command, "m"], 1, &[&["m/s.safetensors"], *words].concat());
        }
    }
    let lfs = OTHERS[0].0;
    fs::write(folder.path("m/model.safetensors.index.json"), lfs).unwrap();
    folder.refuses(&["inspect", "m"], 1, &["index.json", "git lfs pull"]);
    // A header may begin with any length.
    write(&folder.path("x.safetensors"), &[f32("w", &[64, 96])]);
    folder.said(&["inspect", "x.safetensors"]);
}

/// What is no model may be a pointer or a page, too: configurations, plans, ranges, importance, labels,
/// samples.
#[test]
fn documents_and_samples_of_another_kind_are_named() {
    let folder = Folder::with_package("linear_18_f16");
    write(&folder.path("m.safetensors"), &[f32("w", &[64, 96])]);
    fs::create_dir_all(folder.path("hf")).unwrap();
    write(&folder.path("hf/m.safetensors"), &[f32("w", &[64, 96])]);
    fs::create_dir_all(folder.path("b.mlpackage")).unwrap();
    fs::write(folder.path("x.npy"), npy(&[0.5; 96])).unwrap();
    for (head, words) in [
        (OTHERS[0].0, "`git lfs pull`"),
        (
            b"<!DOCTYPE html>\n<html>",
            "this is an HTML page; the download",
        ),
        (b"GGUF\x03\0\0\0\0\0\0\0", "this is a GGUF file"),
        (b"", "the file is empty"),
    ] {
        let names = "a.json a.yaml a.dat a.txt a.npz s.safetensors l.npy hf/config.json b.mlpackage/Manifest.json";
        for name in names.split(' ') {
            fs::write(folder.path(name), head).unwrap();
        }
        for arguments in [
            "quantize m.safetensors --plan a.json",
            "quantize m.safetensors --config a.json",
            "quantize m.safetensors --config a.yaml",
            "quantize m.safetensors --search mse --importance a.dat",
            "quantize hf --format mlx",
            "quantize m.mlpackage --ranges a.json",
            "inspect b.mlpackage",
            "plot a.json",
            "calibrate --merge a.json -o r.json",
            "calibrate a.npz -o r.json",
            "run m.mlpackage --input a.npz -o o.npz",
            "run m.mlpackage --input l.npy -o o.npz",
            "evaluate m.mlpackage m.mlpackage --samples s.safetensors",
            "evaluate m.mlpackage m.mlpackage --samples x.npy --labels l.npy",
            "evaluate m.mlpackage m.mlpackage --samples x.npy --labels a.txt",
        ] {
            // No line of labels is a count that does not fit.
            if head.is_empty() && arguments.ends_with(".txt") {
                continue;
            }
            folder.refuses(&arguments.split(' ').collect::<Vec<_>>(), 1, &[words]);
        }
    }
}

#[test]
fn the_only_model_of_a_folder_is_taken() {
    let folder = Folder::new();
    let listed = |path: &str| folder.json(&["inspect", path])["tensors"].clone();
    fs::create_dir(folder.path("one")).unwrap();
    write(
        &folder.path("one/weights.safetensors"),
        &[f32("w", &[64, 96])],
    );
    for other in [
        "config.json",
        "._weights.safetensors",
        ".DS_Store",
        "tokenizer.json",
    ] {
        fs::write(folder.path("one").join(other), "x").unwrap();
    }
    assert_eq!(listed("one")[0]["name"], "w");
    write(&folder.path("one/more.safetensors"), &[f32("v", &[64, 96])]);
    folder.refuses(
        &["inspect", "one"],
        1,
        &[
            "2 safetensors files",
            "more.safetensors, weights.safetensors",
        ],
    );

    fs::create_dir(folder.path("unet")).unwrap();
    write(
        &folder.path("unet/part-1.safetensors"),
        &[f32("w", &[64, 96])],
    );
    write(
        &folder.path("unet/part-2.safetensors"),
        &[f32("v", &[64, 96])],
    );
    let index = r#"{"metadata": {"total_size": 49152}, "weight_map": {"w": "part-1.safetensors", "v": "part-2.safetensors"}}"#;
    let name = "diffusion_pytorch_model.safetensors.index.json";
    fs::write(folder.path("unet").join(name), index).unwrap();
    assert_eq!(listed("unet").as_array().unwrap().len(), 2);
    folder.said(&["quantize", "unet"]);
    assert!(folder.path("unet.int8").join(name).is_file());
    assert_eq!(listed("unet.int8").as_array().unwrap().len(), 2);
    let other = "diffusion_pytorch_model.fp16.safetensors.index.json";
    fs::write(folder.path("unet").join(other), index).unwrap();
    folder.refuses(&["inspect", "unet"], 1, &["2 indexes", name, other]);
    // The name that loaders look for comes before others.
    fs::write(folder.path("unet/model.safetensors.index.json"), index).unwrap();
    assert_eq!(listed("unet").as_array().unwrap().len(), 2);

    fs::create_dir(folder.path("none")).unwrap();
    folder.refuses(&["inspect", "none"], 1, &["none", "no .safetensors file"]);
}

#[test]
fn an_index_names_a_tensor_once() {
    let folder = Folder::new();
    write(&folder.path("a.safetensors"), &[f32("w", &[64, 96])]);
    write(&folder.path("b.safetensors"), &[f32("v", &[64, 96])]);
    let refuses = |text: &str, words: &[&str]| {
        fs::write(folder.path("i.json"), text).unwrap();
        folder.refuses(&["inspect", "i.json"], 1, &[&["i.json"], words].concat());
    };
    refuses(
        r#"{"weight_map": {"w": "a.safetensors", "w": "b.safetensors"}}"#,
        &["`w`", "twice"],
    );
    refuses(
        r#"{"weight_map": {"w": "a.safetensors"}, "weight_map": {"v": "b.safetensors"}}"#,
        &["`weight_map`", "twice"],
    );
    refuses(r#"{"weight_map": {"w": 1}}"#, &["not an index"]);
    refuses(r#"{"weight_map": 1}"#, &["not an index"]);
    refuses("[]", &["not an index"]);
    refuses(r#"{"model_type": "llama"}"#, &["weight_map"]);
    #[cfg(target_os = "linux")]
    {
        std::os::unix::fs::symlink("/dev/zero", folder.path("z.json")).unwrap();
        folder.refuses(&["inspect", "z.json"], 1, &["z.json", "not a file"]);
    }
}

/// What was given as a folder becomes one.
#[test]
fn a_folder_with_one_file_becomes_a_folder() {
    let folder = Folder::new();
    fs::create_dir(folder.path("m")).unwrap();
    write(
        &folder.path("m/weights.safetensors"),
        &[f32("w", &[64, 96])],
    );
    fs::write(folder.path("m/config.json"), "{}").unwrap();
    folder.said(&["quantize", "m"]);
    assert_eq!(folder.names(), ["m", "m.int8"]);
    assert!(folder.path("m.int8/weights.safetensors").is_file());
    assert!(folder.path("m.int8/config.json").is_file());
    folder.refuses(&["quantize", "m"], 1, &["m.int8", "--force"]);
    folder.said(&[
        "quantize", "m", "--force", "--dtype", "int4", "-o", "m.int8",
    ]);
    let listed = folder.json(&["inspect", "m.int8"]);
    assert_eq!(listed["tensors"][0]["dtype"], "int4");
    folder.said(&["dequantize", "m.int8"]);
    assert!(folder.path("m.int8.float/weights.safetensors").is_file());
    // What is not the model's own keeps it from being replaced.
    fs::write(folder.path("m.int8/notes.txt"), "precious").unwrap();
    folder.refuses(&["quantize", "m", "--force"], 1, &["m.int8", "notes.txt"]);
    fs::create_dir(folder.path("photos")).unwrap();
    fs::write(folder.path("photos/a.jpg"), "precious").unwrap();
    folder.refuses(
        &["quantize", "m", "--force", "-o", "photos"],
        1,
        &["photos", "a.jpg"],
    );
    folder.refuses(&["quantize", "m", "--force", "-o", "m"], 1, &["input"]);
    let nothing = folder.json(&["inspect", "m"]);
    assert_eq!(nothing["tensors"][0]["dtype"], "F32");
}

/// Documents that are something else.
#[test]
fn ranges_of_another_kind_are_named() {
    let folder = Folder::new();
    for (head, words) in &OTHERS[..5] {
        fs::write(folder.path("r.json"), head).unwrap();
        let merge = ["calibrate", "--merge", "r.json", "-o", "o.json"];
        folder.refuses(&merge, 1, &[&["r.json"], &words[..1]].concat());
    }
    let endless = ["calibrate", "--merge", "/dev/zero", "-o", "o.json"];
    folder.refuses(&endless, 1, &["/dev/zero", "not a file"]);
}

/// What the safetensors library reads we read, and what it refuses we refuse, but for two things: its
/// format forbids a name that appears twice, and we carry tensors of types along that it does not
/// know.
#[test]
fn headers_are_read_as_the_library_reads_them() {
    let folder = Folder::new();
    let entry = |dtype: &str, shape: &str, from: usize, to: usize| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let mut cases: Vec<(String, usize)> = Vec::new();
    let w = entry("F32", "[2]", 0, 8);
    for metadata in [
        "null",
        "{}",
        r#"{"a":"b"}"#,
        r#"{"a":"b","a":"c"}"#,
        "[]",
        r#"{"a":1}"#,
        r#"{"a":null}"#,
        "1",
        r#""x""#,
    ] {
        cases.push((format!(r#"{{"__metadata__":{metadata},"w":{w}}}"#), 8));
        cases.push((format!(r#"{{"w":{w},"__metadata__":{metadata}}}"#), 8));
    }
    for text in [
        format!(" \n\t{{ \"w\" : {w} }} \r\n  "),
        format!("{{\"w\":{w}}}\0\0"),
        format!("\u{feff}{{\"w\":{w}}}"),
        format!("{{\"w\":{w},}}"),
        format!("{{\"\":{w}}}"),
        format!(r#"{{"é\n\u0000":{w}}}"#),
        format!(r#"{{"w":{}}}"#, w.replace('}', r#","more":{"a":[1,2]}}"#)),
        format!(r#"{{"w":{}}}"#, w.replace("[2]", "[2.0]")),
        format!(r#"{{"w":{}}}"#, w.replace("[2]", "[-2]")),
        format!(r#"{{"w":{}}}"#, w.replace("[0,8]", "[0,8,8]")),
        format!(r#"{{"w":{}}}"#, w.replace(r#""dtype":"F32","#, "")),
        format!("[{w}]"),
        "null".into(),
        String::new(),
    ] {
        cases.push((text, 8));
    }
    cases.push(("{}".into(), 0));
    cases.push(("{}".into(), 8));
    cases.push((r#"{"__metadata__":null}"#.into(), 0));
    for dtype in [
        "BOOL",
        "F4",
        "F6_E2M3",
        "F6_E3M2",
        "U8",
        "I8",
        "F8_E5M2",
        "F8_E4M3",
        "F8_E8M0",
        "F8_E4M3FNUZ",
        "F8_E5M2FNUZ",
        "I16",
        "U16",
        "F16",
        "BF16",
        "I32",
        "U32",
        "F32",
        "C64",
        "F64",
        "I64",
        "U64",
    ] {
        for (shape, count) in [
            ("[]", 1),
            ("[0]", 0),
            ("[3,0]", 0),
            ("[4]", 4),
            ("[2,3]", 6),
            ("[1]", 1),
        ] {
            for bits in [4, 6, 8, 16, 32, 64] {
                let len = (count * bits) / 8_usize;
                cases.push((format!(r#"{{"w":{}}}"#, entry(dtype, shape, 0, len)), len));
            }
        }
    }
    let (a, none) = (entry("F32", "[2]", 8, 16), entry("F32", "[0]", 8, 8));
    cases.push((format!(r#"{{"a":{a},"w":{w}}}"#), 16));
    cases.push((format!(r#"{{"a":{a},"n":{none},"w":{w}}}"#), 16));
    cases.push((format!(r#"{{"a":{a}}}"#), 16));
    cases.push((format!(r#"{{"w":{w},"b":{w}}}"#), 8));
    cases.push((
        format!(
            r#"{{"w":{}}}"#,
            entry("F32", "[0,18446744073709551615,4]", 0, 0)
        ),
        0,
    ));
    cases.push((
        format!(
            r#"{{"w":{}}}"#,
            entry("F32", "[18446744073709551615,4,0]", 0, 0)
        ),
        0,
    ));
    cases.push((format!(r#"{{"w":{}}}"#, entry("F32", "[2]", 0, 8)), 9));
    cases.push((format!(r#"{{"w":{}}}"#, entry("F32", "[2]", 8, 0)), 8));
    let path = folder.path("m.safetensors");
    let mut read = 0;
    for (header, data) in &cases {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.resize(file.len() + data, 0);
        fs::write(&path, &file).unwrap();
        let library = safetensors::SafeTensors::deserialize(&file);
        let ours = quant_models::SafetensorsFile::open(&path);
        assert_eq!(
            ours.is_ok(),
            library.is_ok(),
            "{header}, {data} bytes: {ours:?} {library:?}"
        );
        if let (Ok(ours), Ok(library)) = (ours, library) {
            read += 1;
            assert_eq!(ours.entries().len(), library.len());
            for (name, entry) in ours.entries() {
                assert_eq!(
                    ours.read(entry).unwrap(),
                    library.tensor(name).unwrap().data()
                );
            }
        }
    }
    assert!(
        read > 60 && read < cases.len() - 60,
        "{read} of {}",
        cases.len()
    );
    // Exceptions.
    for (header, reads) in [
        (format!(r#"{{"w":{w},"w":{w}}}"#), false),
        (format!(r#"{{"w":{}}}"#, w.replace("F32", "F12")), true),
    ] {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.resize(file.len() + 8, 0);
        fs::write(&path, &file).unwrap();
        assert_eq!(
            quant_models::SafetensorsFile::open(&path).is_ok(),
            reads,
            "{header}"
        );
        assert_ne!(
            safetensors::SafeTensors::deserialize(&file).is_ok(),
            reads,
            "{header}"
        );
    }
}

/// Every type goes through as it is.
#[test]
fn all_types_are_carried_along() {
    let folder = Folder::new();
    let tensors = [
        f32("w", &[64, 96]),
        bytes("f4", Dtype::F4, &[2, 2]),
        bytes("f6", Dtype::F6_E2M3, &[4]),
        bytes("f8", Dtype::F8_E5M2, &[3]),
        bytes("c64", Dtype::C64, &[2]),
        bytes("bool", Dtype::BOOL, &[5]),
        bytes("none", Dtype::I16, &[0, 3]),
        bytes("one", Dtype::F64, &[]),
    ];
    write(&folder.path("m.safetensors"), &tensors);
    folder.said(&["quantize", "m.safetensors"]);
    folder.said(&["dequantize", "m.int8.safetensors", "-o", "f.safetensors"]);
    for file in ["m.int8.safetensors", "f.safetensors"] {
        let file = fs::read(folder.path(file)).unwrap();
        let read = safetensors::SafeTensors::deserialize(&file).unwrap();
        for (name, dtype, shape, data) in &tensors[1..] {
            let tensor = read.tensor(name).unwrap();
            let found = (tensor.dtype(), tensor.shape(), tensor.data());
            assert_eq!(found, (*dtype, &shape[..], &data[..]), "{name}");
        }
    }
}
