//! Golden vectors: what MLX 0.32 itself computes on the CPU for small, hurtful tensors.
//!
//! `golden/make_mlx.py` made the file and describes its layout.

use quant_core::{FloatType, IntType};
use safetensors::SafeTensors;

static FILE: &[u8] = include_bytes!("../golden/mlx-0.32.safetensors");

/// What MLX computes for one tensor. Floats are little-endian bytes of `float`.
#[derive(Clone, Debug)]
pub struct Case {
    /// The type of the values.
    pub float: FloatType,
    /// The type of the codes, unsigned.
    pub dtype: IntType,
    /// Values that share a scale.
    pub group: usize,
    /// Rows, and values of a row.
    pub shape: [usize; 2],
    /// The values.
    pub input: Vec<u8>,
    /// The codes, packed.
    pub codes: Vec<u8>,
    /// A scale per group.
    pub scales: Vec<u8>,
    /// A bias per group.
    pub biases: Vec<u8>,
    /// What the codes stand for, of some cases.
    pub values: Option<Vec<u8>>,
}

/// Every case: three types, six numbers of bits, three sizes of groups.
///
/// # Panics
/// If the file is not whole.
pub fn cases() -> Vec<Case> {
    let file = SafeTensors::deserialize(FILE).expect("golden file is valid");
    let mut all = Vec::new();
    for float in FloatType::ALL {
        let input = file.tensor(&format!("{float}.input")).expect("an input");
        for bits in [2, 3, 4, 5, 6, 8] {
            for group in [32, 64, 128] {
                let part = |name: &str| {
                    let part = file.tensor(&format!("{float}.{bits}.{group}.{name}"));
                    part.ok().map(|part| part.data().to_vec())
                };
                all.push(Case {
                    float,
                    dtype: IntType::new(bits, false).expect("a type of so many bits"),
                    group,
                    shape: input.shape().try_into().expect("a matrix"),
                    input: input.data().to_vec(),
                    codes: part("codes").expect("codes"),
                    scales: part("scales").expect("scales"),
                    biases: part("biases").expect("biases"),
                    values: part("values"),
                });
            }
        }
    }
    all
}
