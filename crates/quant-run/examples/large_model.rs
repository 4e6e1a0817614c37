//! Writes a package whose weights take a GiB in f16, all zeros, in a file without blocks on the disk:
//! `large_model PACKAGE`. `cargo xtask memory` looks at what a run of it takes.

use std::error::Error;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

#[path = "../tests/packages/mod.rs"]
#[allow(dead_code)]
mod packages;

use packages::{FLOAT16, FLOAT32, block, bytes, named, operation, text};

const SIDE: u64 = 4096;
const LAYERS: u64 = 32;
const FILE: &str = "@model_path/weights/weight.bin";

/// Where a layer's weight begins: after the file's head, heads and weights in turn.
fn place(layer: u64) -> u64 {
    64 + layer * (64 + 2 * SIDE * SIDE)
}

fn number(field: u32, value: u64) -> Vec<u8> {
    let mut out = vec![(field << 3) as u8];
    let mut rest = value;
    while rest >= 128 {
        out.push(rest as u8 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
    out
}

fn weight(layer: u64) -> Vec<u8> {
    let name = format!("w{layer}");
    let side = SIDE as i64;
    let output = named(3, &name, FLOAT16, &[side, side]);
    // The type is what stands in a named value after its name.
    let inner = &named(1, "", FLOAT16, &[side, side])[2..];
    let kind = &inner[2..];
    let blob = [bytes(1, FILE.as_bytes()), number(2, place(layer))].concat();
    let value = [kind.to_vec(), bytes(5, &blob)].concat();
    let attribute = [bytes(1, b"val"), bytes(2, &value)].concat();
    [bytes(1, b"const"), output, bytes(5, &attribute)].concat()
}

fn weights(path: &Path) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let mut head = [0; 64];
    head[..4].copy_from_slice(&(LAYERS as u32).to_le_bytes());
    head[4..8].copy_from_slice(&2_u32.to_le_bytes());
    file.write_all(&head)?;
    for layer in 0..LAYERS {
        let mut head = [0; 64];
        head[..4].copy_from_slice(&0xdead_beef_u32.to_le_bytes());
        head[4..8].copy_from_slice(&1_u32.to_le_bytes());
        head[8..16].copy_from_slice(&(2 * SIDE * SIDE).to_le_bytes());
        head[16..24].copy_from_slice(&(place(layer) + 64).to_le_bytes());
        file.seek(SeekFrom::Start(place(layer)))?;
        file.write_all(&head)?;
    }
    file.set_len(place(LAYERS))
}

fn main() -> Result<(), Box<dyn Error>> {
    let target = std::env::args().nth(1).ok_or("large_model PACKAGE")?;
    let mut operations: Vec<Vec<u8>> = (0..LAYERS).map(weight).collect();
    operations.push(text("half", "fp16"));
    let dims: &[i64] = &[1, SIDE as i64];
    let cast: [(&str, &[&str]); 2] = [("x", &["x"]), ("dtype", &["half"])];
    operations.push(operation("cast", &cast, &[("v0", FLOAT16, dims)], &[]));
    for layer in 0..LAYERS {
        let [from, weight, to] = [
            format!("v{layer}"),
            format!("w{layer}"),
            format!("v{}", layer + 1),
        ];
        let inputs: [(&str, &[&str]); 2] = [("x", &[&from]), ("weight", &[&weight])];
        operations.push(operation("linear", &inputs, &[(&to, FLOAT16, dims)], &[]));
    }
    let output = format!("v{LAYERS}");
    let input = named(1, "x", FLOAT32, dims);
    let (_folder, package) = packages::package(&[input], &block(&[], &[&output], &operations));
    let data = "Data/com.apple.CoreML";
    let target = Path::new(&target);
    fs::create_dir_all(target.join(data).join("weights"))?;
    for file in ["Manifest.json", &format!("{data}/model.mlmodel")] {
        fs::copy(package.join(file), target.join(file))?;
    }
    Ok(weights(&target.join(data).join("weights/weight.bin"))?)
}
