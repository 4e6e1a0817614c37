//! A folder of shards as language models come, in each format that their loaders read: time beside
//! that of `cp`, and peak memory.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::{PER_GIB, SIDE, Usage, build_quant, watch, write_tensors};

/// Anonymous memory that any format may take, whatever the model's size.
const MOST_MIB: f64 = 150.0;
const FORMATS: [&str; 8] = [
    "--format mlx",
    "--format compressed-tensors --preset w4a16",
    "--format compressed-tensors --preset w4a16-asym",
    "--format compressed-tensors --preset w8a16",
    "--format compressed-tensors --preset w8a8",
    "--format gguf --type q4_0",
    "--format gguf --type q8_0",
    "--dtype int4 --granularity per-block",
];

/// Quantizes a model of so many GiB of f16, a shard each, in all formats.
///
/// # Errors
/// If one fails, or takes too much memory.
pub fn report(gib: usize, folder: &Path) -> Result<(), Box<dyn Error>> {
    build_quant()?;
    let _removed = Folder(folder.to_owned());
    let (model, out) = (folder.join("model"), folder.join("out"));
    write_model(&model, gib)?;
    let mut index = Command::new("target/release/quant");
    watch(index.args(["index", "--quiet"]).arg(&model))?;
    let copied = |then: &str| -> Result<Usage, Box<dyn Error>> {
        let mut copy = Command::new("sh");
        copy.args(["-c", &format!("cp -r \"$0\" \"$1\"{then}")]);
        let usage = watch(copy.args([&model, &out]))?;
        fs::remove_dir_all(&out)?;
        Ok(usage)
    };
    let (copy, synced) = (copied("")?, copied(" && sync \"$1\"/*")?);
    println!(
        "{gib} GiB of f16 in {gib} shards; cp {:.1} s, cp and sync {:.1} s",
        copy.seconds, synced.seconds
    );
    println!(
        "{:<48} {:>8} {:>9} {:>14} {:>13}",
        "quant quantize", "seconds", "of cp", "of cp, sync", "anonymous"
    );
    let mut most: f64 = 0.0;
    for options in FORMATS {
        // GGUF is a file, the others are folders.
        let is_file = options.contains("gguf");
        let out = if is_file {
            out.with_extension("gguf")
        } else {
            out.clone()
        };
        let mut quantize = Command::new("target/release/quant");
        quantize
            .args(["quantize", "--quiet", "-o"])
            .args([&out, &model]);
        let usage = watch(quantize.args(options.split(' ')))?;
        match is_file {
            true => fs::remove_file(&out)?,
            false => fs::remove_dir_all(&out)?,
        }
        println!(
            "{options:<48} {:>8.1} {:>9.2} {:>14.2} {:>9.1} MiB",
            usage.seconds,
            usage.seconds / copy.seconds,
            usage.seconds / synced.seconds,
            usage.anonymous_mib
        );
        most = most.max(usage.anonymous_mib);
    }
    match most <= MOST_MIB {
        true => Ok(()),
        false => Err(format!("more than {MOST_MIB} MiB").into()),
    }
}

/// Shards with the names of a Llama's layers, and what loaders want to know of it.
fn write_model(model: &Path, gib: usize) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(model)?;
    for shard in 0..gib {
        let names: Vec<String> = (0..PER_GIB)
            .map(|i| {
                let part = ["q", "k", "v", "o"][i % 4];
                let layer = shard * PER_GIB / 4 + i / 4;
                format!("model.layers.{layer}.self_attn.{part}_proj.weight")
            })
            .collect();
        let name = format!("model-{:05}-of-{gib:05}.safetensors", shard + 1);
        write_tensors(&model.join(name), &names)?;
    }
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": SIDE,
        "num_hidden_layers": gib * PER_GIB / 4,
        "torch_dtype": "float16",
    });
    Ok(fs::write(model.join("config.json"), config.to_string())?)
}

/// Removed with all in it, whatever happens.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // It lies under target, where nobody misses the space for long.
        let _ = fs::remove_dir_all(&self.0);
    }
}
