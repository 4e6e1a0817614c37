//! Models of many shards.

use std::fs;
use std::io::Write;

use crate::folder::Folder;

/// Runs the command with so many descriptors.
fn succeeds_with(folder: &Folder, descriptors: u32, command: &str) {
    let quant = env!("CARGO_BIN_EXE_quant");
    let script = format!("ulimit -n {descriptors}; exec '{quant}' {command}");
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .current_dir(folder.path(""))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {stderr}");
}

/// Shards are closed when they are whole.
#[test]
fn three_hundred_shards_with_a_hundred_descriptors() {
    let folder = Folder::new();
    folder.sharded("model", 300);
    for command in [
        "quantize model -o q --quiet",
        "inspect q --json",
        "diff q q",
        "dequantize q -o back --quiet",
    ] {
        succeeds_with(&folder, 128, command);
    }
    assert_eq!(folder.names("back").len(), 302);
}

/// The same in the formats of other tools, and from one to the other.
#[test]
fn many_shards_of_other_tools() {
    let folder = Folder::new();
    for i in 0..70 {
        let tensor = format!("model.layers.{i}.mlp.up_proj.weight");
        let file = format!("model/model-{:05}-of-00070.safetensors", i + 1);
        folder.model(&file, &tensor);
    }
    folder.file("model/config.json", r#"{"model_type": "llama"}"#);
    for command in [
        "index model",
        "quantize model -o m --format mlx --group-size 32 --quiet",
        "quantize model -o c --format compressed-tensors --group-size 32 --quiet",
        "dequantize m -o mf --quiet",
        "dequantize c -o cf --quiet",
        "convert c -o n --format native --quiet",
    ] {
        succeeds_with(&folder, 64, command);
    }
    // mlx-lm fills its shards, so that there is one.
    for made in ["c", "cf", "n"] {
        let names = folder.names(made);
        let shards = names.iter().filter(|name| name.ends_with(".safetensors"));
        assert_eq!(shards.count(), 70, "{made}: {names:?}");
    }
}

/// Each shard would fit, all of them do not: that shows before any work.
#[test]
#[cfg(target_os = "linux")]
fn room_for_all_shards_is_looked_for_first() {
    let folder = Folder::new();
    let free = free_bytes(&folder);
    let mut map = serde_json::Map::new();
    for i in 0..4 {
        let (name, len) = (format!("{i}.safetensors"), free / 2);
        let header =
            format!(r#"{{"w{i}":{{"dtype":"I8","shape":[{len}],"data_offsets":[0,{len}]}}}}"#);
        let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
        let mut file = fs::File::create(folder.path(&name)).unwrap();
        file.write_all(&(header.len() as u64).to_le_bytes())
            .unwrap();
        file.write_all(header.as_bytes()).unwrap();
        // A hole: it takes no room.
        file.set_len(8 + header.len() as u64 + len).unwrap();
        map.insert(format!("w{i}"), name.into());
    }
    let index = serde_json::json!({ "weight_map": map });
    fs::write(
        folder.path("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
    let out = tempfile::tempdir_in(folder.path("").parent().unwrap()).unwrap();
    let output = out.path().join("out");
    let begun = std::time::Instant::now();
    let arguments = ["quantize", ".", "-o", output.to_str().unwrap()];
    let output = folder.quant(&arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("room") && stderr.lines().count() == 1,
        "{stderr}"
    );
    assert!(begun.elapsed().as_secs() < 10, "before any work");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[cfg(target_os = "linux")]
fn free_bytes(folder: &Folder) -> u64 {
    let output = std::process::Command::new("df")
        .args(["--output=avail", "-B1"])
        .arg(folder.path(""))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().last().unwrap().trim().parse().unwrap()
}

#[test]
fn shards_have_one_spelling() {
    let folder = Folder::new();
    folder.sharded("model", 2);
    let index = "model/model.safetensors.index.json";
    let good = fs::read_to_string(folder.path(index)).unwrap();
    for name in [
        "./001.safetensors",
        "../model/001.safetensors",
        "x/../001.safetensors",
    ] {
        folder.file(index, &good.replace("001.safetensors", name));
        folder.refuses(&["inspect", "model"], &["plain file name"]);
    }
}

#[test]
fn one_shard_is_one() {
    let folder = Folder::new();
    folder.model("model/model.safetensors", "m.weight");
    let said = folder.succeeds(&["index", "model"]);
    assert!(said.0.contains("  1 shard, 1 tensor, "), "{said:?}");
}
