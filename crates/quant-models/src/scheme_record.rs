//! What the metadata of a quantized file says of each tensor.

use std::collections::BTreeMap;

use quant_core::{Blocks, Dialect, Granularity, Named, OffsetKind, Scheme};
use quant_simd::{Backend, TensorQuantizer};
use serde::{Deserialize, Serialize};

/// The key in `__metadata__`.
pub(crate) const KEY: &str = "quant";

/// How one tensor was quantized.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemeRecord {
    /// `int8`, `uint4` and so on: the names of [`IntType`](quant_core::IntType).
    pub dtype: String,
    /// `symmetric` or `affine`.
    pub mode: String,
    /// `coremltools`, `wide` and so on: the names of [`Dialect`], of which f32 is `wide`.
    pub dialect: String,
    /// The float tensor's shape.
    pub shape: Vec<usize>,
    /// The block size per axis.
    pub blocks: Vec<usize>,
    /// The float tensor's type: `f32`, `f16` or `bf16`.
    pub source: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Records {
    pub version: u32,
    pub tensors: BTreeMap<String, SchemeRecord>,
}

/// Files name the f32 dialect by its first name, which every version of quant reads.
fn recorded(dialect: Dialect) -> &'static str {
    match dialect == Dialect::F32 {
        true => "wide",
        false => dialect.name(),
    }
}

impl SchemeRecord {
    pub(crate) fn of(quantizer: &TensorQuantizer) -> Self {
        Self {
            dtype: quantizer.scheme.dtype.name().into(),
            mode: quantizer.scheme.mode.name().into(),
            dialect: recorded(quantizer.scheme.dialect).into(),
            shape: quantizer.blocks.shape().to_vec(),
            blocks: quantizer.blocks.block_sizes().to_vec(),
            source: quantizer.source.name().into(),
        }
    }

    /// What the record describes, if all of it is known and fits together.
    pub(crate) fn quantizer(&self, backend: Backend) -> Result<TensorQuantizer, String> {
        fn find<T: Named>(given: &str) -> Result<T, String> {
            T::from_name(given)
                .ok_or_else(|| format!("`{given}` in its quantization record is unknown; a newer version of quant may know it"))
        }
        let scheme = Scheme {
            dtype: find(&self.dtype)?,
            mode: find(&self.mode)?,
            dialect: find(&self.dialect)?,
        };
        if scheme.offset() == OffsetKind::Bias {
            return Err(format!(
                "its quantization record is of the dialect {}, which has biases; such a record has none",
                scheme.dialect
            ));
        }
        if self.blocks.len() != self.shape.len() {
            return Err("its quantization record has another number of blocks than of axes".into());
        }
        let blocks = Blocks::new(&self.shape, &Granularity::Blocks(self.blocks.clone()))
            .map_err(|error| format!("its quantization record: {error}"))?;
        Ok(TensorQuantizer {
            backend,
            scheme,
            source: find(&self.source)?,
            blocks,
        })
    }
}
