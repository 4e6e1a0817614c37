//! Golden vectors: what ggml's own reference quantizers make of small, hurtful blocks.
//!
//! `golden/make_ggml.py` made the file and describes its layout.

use quant_core::{FloatType, GgmlType};
use safetensors::SafeTensors;

static FILE: &[u8] = include_bytes!("../golden/ggml.safetensors");

/// Blocks of one type, from values of one type.
#[derive(Clone, Debug)]
pub struct Case {
    /// The type of the values.
    pub float: FloatType,
    /// The type of the blocks.
    pub block_type: GgmlType,
    /// Values that `float` holds, 32 for each block.
    pub input: Vec<f32>,
    /// The blocks.
    pub blocks: Vec<u8>,
    /// What the blocks stand for, of some cases.
    pub values: Option<Vec<f32>>,
}

/// Every case: three types of values, five of blocks.
///
/// # Panics
/// If the file is not whole.
pub fn cases() -> Vec<Case> {
    let file = SafeTensors::deserialize(FILE).expect("golden file is valid");
    let bytes = |name: &str| file.tensor(name).ok().map(|it| it.data().to_vec());
    let mut all = Vec::new();
    for float in FloatType::ALL {
        let inputs = floats(&bytes(&format!("{float}.input")).expect("an input"));
        for block_type in GgmlType::ALL {
            let rows = bytes(&format!("{float}.{block_type}.rows")).expect("rows");
            let rows = rows.iter().map(|&row| usize::from(row) * GgmlType::VALUES);
            let values = match float {
                FloatType::F32 => bytes(&format!("{block_type}.values")),
                FloatType::F16 | FloatType::Bf16 => None,
            };
            all.push(Case {
                float,
                block_type,
                input: rows
                    .flat_map(|row| &inputs[row..row + GgmlType::VALUES])
                    .copied()
                    .collect(),
                blocks: bytes(&format!("{float}.{block_type}")).expect("blocks"),
                values: values.as_deref().map(floats),
            });
        }
    }
    all
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (floats, _) = bytes.as_chunks();
    floats.iter().map(|it| f32::from_le_bytes(*it)).collect()
}
