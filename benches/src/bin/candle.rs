//! Loads a GGUF file as candle does, and prints a line per tensor: its name, type, shape, and a digest
//! of the values that candle restores. `crates/quant-models/tests/gguf/check.py` compares these.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fs::File;
use std::io::BufReader;

use candle_core::quantized::gguf_file::Content;
use candle_core::{DType, Device};

/// FNV-1a of f32 values, as little-endian bytes.
fn digest(values: &[f32]) -> u64 {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    for path in std::env::args_os().skip(1) {
        let mut file = BufReader::new(File::open(&path)?);
        let content = Content::read(&mut file)?;
        let mut names: Vec<_> = content.tensor_infos.keys().collect();
        names.sort();
        for name in names {
            let tensor = content.tensor(&mut file, name, &Device::Cpu)?;
            let values = tensor.dequantize(&Device::Cpu)?.to_dtype(DType::F32)?;
            let values = values.flatten_all()?.to_vec1::<f32>()?;
            println!(
                "{name} {:?} {:?} {:016x}",
                tensor.dtype(),
                tensor.shape().dims(),
                digest(&values)
            );
        }
    }
    Ok(())
}
