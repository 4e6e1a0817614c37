//! `quant calibrate` on npz archives, files of the system, and recordings that are no floats.

#[allow(dead_code)]
mod recordings;

use std::fs;
use std::io::{Cursor, Write as _};
use std::process::Stdio;

use recordings::{Folder, f32_bytes, npy, npy_f32, values};
use serde_json::Value;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// What NumPy 2 wrote: `conv` of 3 x 400 float32, `ids` of int64, `half` of float16; and one array
/// without a name.
const STORED: &[u8] = include_bytes!("recordings/stored.npz");
const DEFLATED: &[u8] = include_bytes!("recordings/deflated.npz");
const NAMELESS: &[u8] = include_bytes!("recordings/nameless.npz");

fn npz(method: CompressionMethod, arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, array) in arrays {
        let options = SimpleFileOptions::default().compression_method(method);
        archive.start_file(*name, options).unwrap();
        archive.write_all(array).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn run(folder: &Folder, arguments: &str) -> (Option<i32>, String) {
    let arguments: Vec<&str> = arguments.split(' ').chain(["-o", "out.json"]).collect();
    let output = folder.command(&arguments).output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn refuses(folder: &Folder, arguments: &str, words: &[&str]) {
    let (code, stderr) = run(folder, arguments);
    assert_eq!((code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "no `{word}` in {stderr}");
    }
    assert!(!folder.path("out.json").exists());
}

#[test]
fn archives_of_numpy_are_read() {
    let folder = Folder::new();
    let mut documents = Vec::new();
    for archive in [STORED, DEFLATED] {
        folder.write("data/0.npz", archive);
        let text = folder.calibrated("data --observer mse --quiet");
        let document: Value = serde_json::from_str(&text).unwrap();
        let conv = &document["activations"]["conv"];
        assert_eq!(
            (conv["samples"].as_u64(), conv["elements"].as_u64()),
            (Some(1), Some(1200))
        );
        assert_eq!(conv["observed_min"], -600.0 / 64.0);
        assert_eq!(document["activations"]["half"]["observed_max"], 3.0);
        assert_eq!(document["passed_over"]["ids"], "I64");
        documents.push(text);
    }
    assert_eq!(documents[0], documents[1]);
    // The name is that of the folder, of the file, or the one given, as for an npy file.
    folder.write("named/input/0.npz", NAMELESS);
    folder.write("x.npz", NAMELESS);
    for (arguments, name) in [("named", "input"), ("x.npz", "x"), ("x.npz --name y", "y")] {
        let document: Value = serde_json::from_str(&folder.calibrated(arguments)).unwrap();
        assert_eq!(
            document["activations"][name]["elements"], 1200,
            "{arguments}"
        );
    }
}

/// Archives larger than what is held of them give what the same arrays give as files, on any number of
/// threads.
#[test]
fn archives_give_what_files_give() {
    let (files, archives) = (Folder::new(), Folder::new());
    for sample in 0..3 {
        let conv = npy_f32(&values(sample, 3_000_000));
        let double: Vec<u8> = values(sample + 7, 5000)
            .iter()
            .flat_map(|&value| f64::from(value).to_be_bytes())
            .collect();
        let double = npy(">f8", "(5000,)", &double);
        files.write(&format!("data/conv/{sample}.npy"), &conv);
        files.write(&format!("data/double/{sample}.npy"), &double);
        let method = [CompressionMethod::Stored, CompressionMethod::Deflated][sample % 2];
        let archive = npz(method, &[("conv.npy", conv), ("double.npy", double)]);
        archives.write(&format!("data/{sample}.npz"), &archive);
    }
    for observer in ["percentile", "moving-average"] {
        let arguments = format!("data --quiet --observer {observer}");
        let expected = files.calibrated(&arguments);
        assert_eq!(archives.calibrated(&arguments), expected);
        assert_eq!(
            archives.calibrated(&format!("{arguments} --threads 1")),
            expected
        );
    }
}

#[test]
fn damaged_archives_are_refused() {
    let folder = Folder::new();
    let array = || npy_f32(&values(1, 5000));
    let deflated = npz(CompressionMethod::Deflated, &[("a.npy", array())]);
    let refused = |bytes: &[u8], words: &[&str]| {
        folder.write("d.npz", bytes);
        refuses(&folder, "d.npz", &[&["d.npz"], words].concat());
    };
    refused(b"PK\x03\x04", &["npz archive"]);
    refused(b"", &["npz archive"]);
    refused(&deflated[..deflated.len() - 30], &["npz archive"]);
    let stored = |name, bytes| npz(CompressionMethod::Stored, &[(name, bytes)]);
    refused(
        &stored("a.txt", b"x".to_vec()),
        &["a.txt", "not an npy array"],
    );
    refused(
        &stored("a.npy", b"x".to_vec()),
        &["`a`", "not an npy array"],
    );
    refused(
        &stored("a.npy", npy("|O", "(1,)", b"x")),
        &["`a`", "Python objects"],
    );
    let short = npy("<f4", "(2000,)", &[0; 7996]);
    refused(
        &stored("a.npy", short.clone()),
        &["`a`", "7996 bytes", "8000"],
    );
    refused(
        &npz(CompressionMethod::Deflated, &[("a.npy", short)]),
        &["`a`", "7996 bytes"],
    );
    refused(
        &npz(
            CompressionMethod::Deflated,
            &[("a.npy", npy("<f4", "(2000000000,)", &[0; 8000]))],
        ),
        &["`a`", "8000000000"],
    );
    // Any byte but those of times, names and the like is noticed, or does not matter.
    for at in (40..deflated.len()).step_by(97) {
        let mut bytes = deflated.clone();
        bytes[at] ^= 0x5a;
        folder.write("d.npz", &bytes);
        let (code, stderr) = run(&folder, "d.npz --force --quiet");
        assert!(matches!(code, Some(0 | 1)), "{at}: {stderr}");
        assert!(!stderr.contains("panicked"), "{at}: {stderr}");
        let data = 100..deflated.len() - 120;
        assert!(
            code == Some(1) || !data.contains(&at),
            "{at} of {}",
            deflated.len()
        );
        let _ = fs::remove_file(folder.path("out.json"));
        let _ = fs::remove_file(folder.path("out.json.checkpoint"));
    }
}

#[test]
fn an_archive_in_a_stream_is_refused() {
    let folder = Folder::new();
    let mut command = folder.command(&["-", "--name", "x", "-o", "out.json"]);
    let command = command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(STORED).unwrap();
    folder.check_refusal(&child.wait_with_output().unwrap(), &["npz archive", ".npz"]);
}

#[test]
fn files_of_the_system_are_passed_over() {
    let folder = Folder::new();
    folder.write("data/conv/000001.npy", &npy_f32(&[1.0, 2.0]));
    let expected = folder.calibrated("data");
    for name in [
        "data/conv/._000001.npy",
        "data/._conv.npz",
        "data/.DS_Store",
        "data/conv/.DS_Store",
        "data/conv/Thumbs.db",
        "data/conv/desktop.ini",
        "data/.hidden/a.npy",
        "data/__MACOSX/conv/000001.npy",
        "data/.000001.safetensors.swp",
    ] {
        folder.write(name, b"\0\x05\x16\x07\0\x02\0\0Mac OS X");
    }
    assert_eq!(folder.calibrated("data"), expected);
    // As `data/conv/*` in a shell gives them.
    let named = "data/conv/000001.npy data/conv/Thumbs.db data/conv/.DS_Store --name conv";
    assert_eq!(folder.calibrated(named), expected);
    fs::remove_file(folder.path("out.json")).unwrap();
    refuses(&folder, "data/conv/Thumbs.db", &["no tensor"]);
    // Whatever else cannot be read ends it.
    folder.write(
        "data/conv/000002.npy",
        b"version https://git-lfs.github.com/spec/v1\noid\n",
    );
    refuses(&folder, "data", &["000002.npy", "Git LFS pointer"]);
}

#[test]
fn integers_are_listed_and_passed_over() {
    let folder = Folder::new();
    folder.write("data/conv/0.npy", &npy_f32(&[1.0, 2.0]));
    folder.write("data/ids/0.npy", &npy("<i8", "(1,)", &[0; 8]));
    folder.write("data/mask/0.npy", &npy("|b1", "(3,)", &[0; 3]));
    let ids = safetensors::tensor::TensorView::new(safetensors::Dtype::U8, vec![2], &[1, 2]);
    let file = safetensors::serialize([("bytes", ids.unwrap())], None).unwrap();
    folder.write("data/more.safetensors", &file);
    let (code, stderr) = run(&folder, "data --quiet");
    assert_eq!((code, stderr.lines().count()), (Some(0), 3), "{stderr}");
    for (name, dtype) in [("ids", "I64"), ("mask", "BOOL"), ("bytes", "U8")] {
        let text = format!("activation `{name}`: passed over, since its type is {dtype}");
        assert!(stderr.contains(&text), "{stderr}");
    }
    let document = fs::read_to_string(folder.path("out.json")).unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["activations"].as_object().unwrap().len(), 1);
    // They stay listed when documents are merged.
    fs::rename(folder.path("out.json"), folder.path("a.json")).unwrap();
    let merged: Value = serde_json::from_str(&folder.calibrated("--merge a.json")).unwrap();
    assert_eq!(merged, document);
    fs::remove_file(folder.path("out.json")).unwrap();
    fs::remove_dir_all(folder.path("data/conv")).unwrap();
    refuses(
        &folder,
        "data --force",
        &["no tensor of floats", "`bytes` is of U8"],
    );
    // A complex number is neither.
    folder.write("c/x.npy", &npy("<c8", "(1,)", &[0; 8]));
    refuses(&folder, "c --force", &["x.npy", "type `<c8`"]);
}

/// Histograms of too many activations are refused before memory is gone.
#[test]
fn histograms_of_too_many_activations_are_refused() {
    let folder = Folder::new();
    let names: Vec<String> = (0..9000).map(|i| format!("a{i}")).collect();
    let value = f32_bytes(&[1.0]);
    let view = || safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &value);
    let tensors = names.iter().map(|name| (name.as_str(), view().unwrap()));
    folder.write(
        "d.safetensors",
        &safetensors::serialize(tensors, None).unwrap(),
    );
    refuses(
        &folder,
        "d.safetensors --observer mse --bins 8192 --force",
        &["histograms of 8192 bins", "512 MiB", "fewer --bins"],
    );
    // Without histograms, there is room for all.
    assert_eq!(run(&folder, "d.safetensors --force --quiet").0, Some(0));
}
