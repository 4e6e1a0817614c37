//! What appears while the work is done is not replaced.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use quant_core::Dialect;
use quant_models::{DequantizeOptions, Encoding, Error, Grouping, Job, QuantizeOptions};
use safetensors::tensor::{Dtype, TensorView};

fn model(path: &Path, tensor: &str) {
    let values = (0..64 * 96).map(|i| ((i * 7919) % 1009) as f32 / 500.0 - 1.0);
    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    let view = TensorView::new(Dtype::F32, vec![64, 96], &bytes).unwrap();
    fs::write(
        path,
        safetensors::serialize([(tensor, view)], None).unwrap(),
    )
    .unwrap();
}

fn sharded(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for i in 0..3 {
        model(&folder.join(format!("{i}.safetensors")), &format!("w{i}"));
    }
    let index =
        r#"{"weight_map": {"w0": "0.safetensors", "w1": "1.safetensors", "w2": "2.safetensors"}}"#;
    fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
}

fn package(to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/coreml/packages");
    copy(&from.join("linear_18_f16.mlpackage"), to);
}

fn gguf(to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gguf/models/llm.gguf");
    fs::copy(from, to).unwrap();
}

fn core_ai(to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/coreai/models");
    copy(&from.join("uint4/float.aimodel"), to);
}

/// What suits the format.
fn options(input: &Path) -> QuantizeOptions {
    let name = input.to_str().unwrap();
    if name.ends_with(".gguf") {
        return QuantizeOptions::for_encoding(Encoding::Gguf);
    }
    let mut options = QuantizeOptions::default();
    if name.ends_with(".aimodel") {
        options.scheme = options.scheme.with_dialect(Dialect::Coreai);
        options.min_elements = 0;
    }
    options
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

fn tree(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(tree(&path)),
            false => drop(found.insert(path.clone(), fs::read(&path).unwrap())),
        }
        found.entry(path).or_default();
    }
    found
}

type Run<'a> = (&'a str, &'a dyn Fn(&Path, &Job<'_>) -> Result<(), Error>);

#[test]
fn nothing_appears_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    model(&at("m.safetensors"), "w");
    sharded(&at("model"));
    package(&at("m.mlpackage"));
    gguf(&at("m.gguf"));
    core_ai(&at("m.aimodel"));
    let quantize = |input: PathBuf| {
        move |output: &Path, job: &Job<'_>| {
            quant_models::quantize(&input, output, &options(&input), job).map(drop)
        }
    };
    let dequantize = |input: PathBuf| {
        move |output: &Path, job: &Job<'_>| {
            let options = DequantizeOptions::default();
            quant_models::dequantize(&input, output, &options, job).map(drop)
        }
    };
    let free = Job::UNWATCHED;
    fs::create_dir(at("ct")).unwrap();
    model(&at("ct/model.safetensors"), "layers.0.mlp.up_proj.weight");
    fs::write(at("ct/config.json"), "{}").unwrap();
    let compressed = QuantizeOptions::for_encoding(Encoding::CompressedTensors);
    let compressed = compressed.with_granularity(Grouping::PerChannel { axis: None });
    quant_models::quantize(&at("ct"), &at("c"), &compressed, &free).unwrap();
    let converted = |output: &Path, job: &Job<'_>| {
        let options = DequantizeOptions::default();
        quant_models::convert(&at("c"), output, Encoding::Native, &options, job).map(drop)
    };
    for (from, to) in [
        ("model", "q"),
        ("m.mlpackage", "q.mlpackage"),
        ("m.aimodel", "q.aimodel"),
    ] {
        quantize(at(from))(&at(to), &free).unwrap();
    }
    let runs: [Run<'_>; 9] = [
        ("file", &quantize(at("m.safetensors"))),
        ("folder", &quantize(at("model"))),
        ("float folder", &dequantize(at("q"))),
        ("package", &quantize(at("m.mlpackage"))),
        ("float package", &dequantize(at("q.mlpackage"))),
        ("blocks", &quantize(at("m.gguf"))),
        ("program", &quantize(at("m.aimodel"))),
        ("float program", &dequantize(at("q.aimodel"))),
        ("converted", &converted),
    ];
    for (what, run) in runs {
        for force in [false, true] {
            for appears in ["file", "folder", "empty folder", "link"] {
                let output = at("out");
                let once = AtomicUsize::new(0);
                let put = || match appears {
                    "file" => fs::write(&output, "precious").unwrap(),
                    "link" => std::os::unix::fs::symlink("nowhere", &output).unwrap(),
                    _ => {
                        fs::create_dir(&output).unwrap();
                        if appears == "folder" {
                            fs::write(output.join("notes"), "precious").unwrap();
                        }
                    }
                };
                let put_once = |_| {
                    if once.fetch_add(1, Ordering::SeqCst) == 0 {
                        put();
                    }
                };
                let job = Job::UNWATCHED.with_force(force).with_progress(&put_once);
                let said = run(&output, &job).expect_err(what).to_string();
                assert!(said.contains("meanwhile"), "{what}, {appears}: {said}");
                match appears {
                    "file" => assert_eq!(fs::read(&output).unwrap(), b"precious"),
                    "link" => drop(fs::read_link(&output).unwrap()),
                    "folder" => assert_eq!(fs::read(output.join("notes")).unwrap(), b"precious"),
                    _ => assert_eq!(fs::read_dir(&output).unwrap().count(), 0),
                }
                match appears {
                    "file" | "link" => fs::remove_file(&output).unwrap(),
                    _ => fs::remove_dir_all(&output).unwrap(),
                }
                for entry in fs::read_dir(folder.path()).unwrap() {
                    let name = entry.unwrap().file_name().into_string().unwrap();
                    assert!(!name.starts_with(".quant-"), "{what}, {appears}: {name}");
                }
            }
        }
    }
}

/// With force: the model that was checked is exchanged or changed while the work is done.
#[test]
fn what_is_replaced_is_what_was_checked() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    sharded(&at("model"));
    package(&at("m.mlpackage"));
    core_ai(&at("m.aimodel"));
    for input in ["model", "m.mlpackage", "m.aimodel"] {
        let options = options(&at(input));
        let free = Job::UNWATCHED.with_force(true);
        quant_models::quantize(&at(input), &at("out"), &options, &free).unwrap();
        let change = |done: &(dyn Fn() + Sync)| {
            let once = AtomicUsize::new(0);
            let seen = std::sync::Mutex::new(BTreeMap::new());
            let progress = |_| {
                if once.fetch_add(1, Ordering::SeqCst) == 0 {
                    done();
                    *seen.lock().unwrap() = tree(&at("out"));
                }
            };
            let job = free.with_progress(&progress);
            let said = quant_models::quantize(&at(input), &at("out"), &options, &job);
            let said = said.unwrap_err().to_string();
            assert!(said.contains("meanwhile"), "{input}: {said}");
            assert!(
                tree(&at("out")) == *seen.lock().unwrap(),
                "{input}: it stays"
            );
        };
        change(&|| fs::write(at("out/notes"), "precious").unwrap());
        fs::remove_file(at("out/notes")).unwrap();
        change(&|| {
            fs::rename(at("out"), at("kept")).unwrap();
            copy(&at("kept"), &at("out"));
        });
        fs::remove_dir_all(at("kept")).unwrap();
        quant_models::quantize(&at(input), &at("out"), &options, &free).unwrap();
        fs::remove_dir_all(at("out")).unwrap();
    }
}

/// One of two runs to one place succeeds, and its model is whole.
#[test]
fn of_two_runs_only_one_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    model(&at("m.safetensors"), "w");
    sharded(&at("model"));
    package(&at("m.mlpackage"));
    gguf(&at("m.gguf"));
    core_ai(&at("m.aimodel"));
    for input in [
        "m.safetensors",
        "model",
        "m.mlpackage",
        "m.gguf",
        "m.aimodel",
    ] {
        let options = options(&at(input));
        for force in [false, true] {
            for _ in 0..10 {
                let start = std::sync::Barrier::new(2);
                let run = || {
                    // Both have looked at the place before one is done.
                    let once = AtomicBool::new(false);
                    let wait = |_| {
                        if !once.swap(true, Ordering::SeqCst) {
                            start.wait();
                        }
                    };
                    let job = Job::UNWATCHED.with_force(force).with_progress(&wait);
                    quant_models::quantize(&at(input), &at("out"), &options, &job)
                };
                let done: Vec<_> = std::thread::scope(|scope| {
                    let runs = [scope.spawn(run), scope.spawn(run)];
                    runs.into_iter().map(|run| run.join().unwrap()).collect()
                });
                let succeeded = done.iter().filter(|done| done.is_ok()).count();
                assert_eq!(succeeded, 1, "{input}, force {force}: {done:?}");
                quant_models::inspect(&at("out"), false).unwrap();
                match at("out").is_dir() {
                    true => fs::remove_dir_all(at("out")).unwrap(),
                    false => fs::remove_file(at("out")).unwrap(),
                }
            }
        }
    }
}

/// Another process shortens the input while it is read: an error that says so, and nothing is left.
#[test]
fn an_input_that_becomes_shorter_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let large = |name: &str, tensors: usize| {
        let bytes: Vec<u8> = (0..1 << 22).map(|i: u32| (i % 53) as u8).collect();
        let view = || TensorView::new(Dtype::F32, vec![1024, 1024], &bytes).unwrap();
        let views = (0..tensors).map(|i| (format!("w{i}"), view()));
        fs::write(at(name), safetensors::serialize(views, None).unwrap()).unwrap();
    };
    let free = Job::UNWATCHED;
    large("m.safetensors", 8);
    let quantize = |input: &Path, output: &Path, job: &Job<'_>| {
        quant_models::quantize(input, output, &options(input), job).map(drop)
    };
    quantize(&at("m.safetensors"), &at("q.safetensors"), &free).unwrap();
    package(&at("m.mlpackage"));
    gguf(&at("m.gguf"));
    core_ai(&at("m.aimodel"));
    let weights = "m.mlpackage/Data/com.apple.CoreML/weights/weight.bin";
    for (input, shortened, is_quantized) in [
        ("m.safetensors", "m.safetensors", false),
        ("q.safetensors", "q.safetensors", true),
        ("m.mlpackage", weights, false),
        ("m.gguf", "m.gguf", false),
        ("m.aimodel", "m.aimodel/main.mlirb", false),
    ] {
        for divisor in [2, 1000] {
            let whole = fs::read(at(shortened)).unwrap();
            let once = AtomicBool::new(false);
            let shorten = |_| {
                if !once.swap(true, Ordering::SeqCst) {
                    let file = fs::File::options().write(true).open(at(shortened)).unwrap();
                    file.set_len(whole.len() as u64 / divisor).unwrap();
                }
            };
            let job = free.with_progress(&shorten);
            let done = match is_quantized {
                true => {
                    let options = DequantizeOptions::default();
                    quant_models::dequantize(&at(input), &at("out"), &options, &job).map(drop)
                }
                false => quantize(&at(input), &at("out"), &job),
            };
            let said = done.unwrap_err().to_string();
            assert!(said.contains("shorter"), "{input}: {said}");
            assert!(said.contains(shortened), "{input}: {said}");
            let names = fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(names, 5, "{input}: only the inputs");
            fs::write(at(shortened), whole).unwrap();
        }
    }
}

#[test]
fn a_float_model_is_not_restored() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    model(&at("m.safetensors"), "w");
    sharded(&at("model"));
    package(&at("m.mlpackage"));
    core_ai(&at("m.aimodel"));
    gguf(&at("llm.gguf"));
    let floats = at("m.gguf");
    let options = DequantizeOptions::default();
    quant_models::dequantize(&at("llm.gguf"), &floats, &options, &Job::UNWATCHED).unwrap();
    let before = tree(folder.path());
    for input in [
        "m.safetensors",
        "model",
        "m.mlpackage",
        "m.aimodel",
        "m.gguf",
    ] {
        let input = at(input);
        let said = quant_models::dequantize(&input, &at("out"), &options, &Job::UNWATCHED);
        let said = said.unwrap_err().to_string();
        assert!(said.contains(input.to_str().unwrap()), "{said}");
        assert!(said.ends_with("there is nothing to do"), "{said}");
    }
    assert_eq!(before, tree(folder.path()));
}
