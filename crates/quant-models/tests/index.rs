//! An index for shards that were made one by one.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use quant_models::{Job, Model, QuantizeOptions, quantize, write_index};

/// A file with these tensors, each of so many rows of 64.
fn shard(path: &Path, tensors: &[(&str, usize)]) {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, rows) in tensors {
        let start = data.len();
        for i in 0..rows * 64 {
            data.extend((i as f32 * 0.37 + *rows as f32).sin().to_le_bytes());
        }
        entries.push(format!(
            r#""{name}":{{"dtype":"F32","shape":[{rows},64],"data_offsets":[{start},{}]}}"#,
            data.len()
        ));
    }
    let header = format!("{{{}}}", entries.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend(data);
    fs::write(path, file).unwrap();
}

const JOB: Job<'_> = Job::UNWATCHED.with_cancel(&NEVER);
static NEVER: AtomicBool = AtomicBool::new(false);

const SHARDS: [&str; 2] = [
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
];

fn model(folder: &Path) {
    fs::create_dir(folder).unwrap();
    shard(&folder.join(SHARDS[0]), &[("a", 64), ("b", 33)]);
    shard(&folder.join(SHARDS[1]), &[("c", 128), ("d", 1)]);
}

fn error(folder: &Path) -> String {
    let error = write_index(folder, &JOB).unwrap_err();
    error.to_string()
}

#[test]
fn shard_by_shard_equals_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let [input, whole, parts] = ["input", "whole", "parts"].map(|name| folder.path().join(name));
    model(&input);
    let written = write_index(&input, &JOB).unwrap();
    assert_eq!((written.shards, written.tensors), (2, 4));
    assert_eq!(written.bytes, 4 * 64 * (64 + 33 + 128 + 1));
    assert_eq!(Model::open(&input).unwrap().tensors().unwrap().len(), 4);

    let options = QuantizeOptions::default();
    quantize(&input, &whole, &options, &JOB).unwrap();
    fs::create_dir(&parts).unwrap();
    for name in SHARDS {
        let (from, to) = (input.join(name), parts.join(name));
        quantize(&from, &to, &options, &JOB).unwrap();
    }
    let written = write_index(&parts, &JOB).unwrap();
    for name in SHARDS
        .iter()
        .copied()
        .chain(written.path.file_name().and_then(|it| it.to_str()))
    {
        let [whole, parts] = [&whole, &parts].map(|folder| fs::read(folder.join(name)).unwrap());
        assert!(whole == parts, "{name}");
    }
}

#[test]
fn an_index_is_not_replaced_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input");
    model(&input);
    write_index(&input, &JOB).unwrap();
    let problem = error(&input);
    assert!(problem.contains("exists"), "{problem}");
    let job = JOB.with_force(true);
    write_index(&input, &job).unwrap();
}

#[test]
fn what_is_no_whole_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let problem = error(&folder.path().join("missing"));
    assert!(problem.contains("missing"), "{problem}");
    let problem = error(folder.path());
    assert!(problem.contains("no .safetensors file"), "{problem}");

    let input = folder.path().join("input");
    model(&input);
    shard(&input.join("more.safetensors"), &[("c", 2)]);
    let problem = error(&input);
    assert!(
        problem.contains("`c`") && problem.contains(SHARDS[1]),
        "{problem}"
    );
    fs::remove_file(input.join("more.safetensors")).unwrap();
    let unfetched = input.join("more.safetensors");
    std::os::unix::fs::symlink("annex/of/more", &unfetched).unwrap();
    let problem = error(&input);
    assert!(
        problem.contains("more.safetensors: cannot open it"),
        "{problem}"
    );
    fs::remove_file(unfetched).unwrap();
    fs::remove_file(input.join(SHARDS[0])).unwrap();
    let problem = error(&input);
    let missing = format!("`{}` is missing; add it", SHARDS[0]);
    assert!(problem.contains(&missing), "{problem}");
    let many = input.join("model-00002-of-00009.safetensors");
    fs::rename(input.join(SHARDS[1]), &many).unwrap();
    let problem = error(&input);
    assert!(problem.contains("is missing, and 7 more"), "{problem}");
    fs::rename(many, input.join(SHARDS[1])).unwrap();
    fs::write(input.join(SHARDS[0]), b"short").unwrap();
    let problem = error(&input);
    assert!(problem.contains("fetch the file again"), "{problem}");
    assert_eq!(fs::read_dir(&input).unwrap().count(), 2, "nothing is left");
}
