//! Golden vectors: what coreai-opt 0.4 itself computes for small, hurtful tensors.
//!
//! `golden/make_coreai.py` made the file and describes its layout.

use quant_core::{Dialect, FloatType, IntType, Mode, Scheme};
use safetensors::SafeTensors;

use crate::compressed_tensors::Case;

static FILE: &[u8] = include_bytes!("../golden/coreai-opt-0.4.safetensors");

/// Every case of both dialects: three types (`coreai` has no bf16), all integer types that the
/// reference has, two modes, one or two sizes of groups.
///
/// # Panics
/// If the file is not whole.
pub fn cases() -> Vec<Case> {
    let file = SafeTensors::deserialize(FILE).expect("golden file is valid");
    let mut all = Vec::new();
    for dialect in [Dialect::Coreai, Dialect::CoreaiTorch] {
        for float in FloatType::ALL {
            let input = file.tensor(&format!("{float}.input")).expect("an input");
            for (dtype, mode) in IntType::ALL
                .into_iter()
                .flat_map(|dtype| Mode::ALL.map(|mode| (dtype, mode)))
            {
                for group in [32, 128] {
                    let case = format!("{dialect}.{float}.{dtype}.{mode}.{group}");
                    let part = |name: &str| {
                        let part = file.tensor(&format!("{case}.{name}"));
                        part.ok().map(|part| part.data().to_vec())
                    };
                    let Some(codes) = part("codes") else { continue };
                    all.push(Case {
                        float,
                        scheme: Scheme::new(dtype, mode).with_dialect(dialect),
                        group,
                        shape: input.shape().try_into().expect("a matrix"),
                        input: input.data().to_vec(),
                        codes,
                        scales: part("scales").expect("scales"),
                        zero_points: part("zero_points").unwrap_or_default(),
                        values: None,
                    });
                }
            }
        }
    }
    all
}
