//! Golden vectors: what compressed-tensors 0.20 itself computes for small, hurtful tensors.
//!
//! `golden/make_compressed_tensors.py` made the file and describes its layout.

use quant_core::{Dialect, FloatType, IntType, Mode, Scheme};
use safetensors::SafeTensors;

static FILE: &[u8] = include_bytes!("../golden/compressed-tensors-0.20.safetensors");

/// What compressed-tensors computes for one tensor. Floats are little-endian bytes of `float`.
#[derive(Clone, Debug)]
pub struct Case {
    /// The type of the values.
    pub float: FloatType,
    /// Integer type, mode and dialect.
    pub scheme: Scheme,
    /// Values that share a scale.
    pub group: usize,
    /// Rows, and values of a row.
    pub shape: [usize; 2],
    /// The values.
    pub input: Vec<u8>,
    /// The codes, one per byte.
    pub codes: Vec<u8>,
    /// A scale per group.
    pub scales: Vec<u8>,
    /// A zero point per group, one per byte, in affine mode.
    pub zero_points: Vec<u8>,
    /// What the codes stand for, of some cases.
    pub values: Option<Vec<u8>>,
}

/// Every case: three types, two numbers of bits, two modes, three sizes of groups.
///
/// # Panics
/// If the file is not whole.
pub fn cases() -> Vec<Case> {
    let file = SafeTensors::deserialize(FILE).expect("golden file is valid");
    let mut all = Vec::new();
    for float in FloatType::ALL {
        let input = file.tensor(&format!("{float}.input")).expect("an input");
        for (bits, mode) in [4, 8]
            .into_iter()
            .flat_map(|it| Mode::ALL.map(|mode| (it, mode)))
        {
            for group in [32, 64, 128] {
                let part = |name: &str| {
                    let part = file.tensor(&format!("{float}.{bits}.{mode}.{group}.{name}"));
                    part.ok().map(|part| part.data().to_vec())
                };
                let dtype = IntType::new(bits, true).expect("a type of so many bits");
                all.push(Case {
                    float,
                    scheme: Scheme::new(dtype, mode).with_dialect(Dialect::CompressedTensors),
                    group,
                    shape: input.shape().try_into().expect("a matrix"),
                    input: input.data().to_vec(),
                    codes: part("codes").expect("codes"),
                    scales: part("scales").expect("scales"),
                    zero_points: part("zero_points").unwrap_or_default(),
                    values: part("values"),
                });
            }
        }
    }
    all
}
