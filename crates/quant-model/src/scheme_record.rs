//! What the metadata of a quantized file says of each tensor.

use std::collections::BTreeMap;

use quant_core::{Blocks, Dialect, GgmlType, Granularity, Mode, Named, Scheme, Search};
use quant_simd::{Backend, TensorQuantizer};
use serde::{Deserialize, Serialize};

/// The key in `__metadata__`.
pub const KEY: &str = "quant";

/// How one tensor was quantized.
// Exhaustive: whoever reads a format must give all that a tensor is restored by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemeRecord {
    /// `int8`, `uint4` and so on: the names of [`IntType`](quant_core::IntType); or those of
    /// [`GgmlType`], such as `q8_0`.
    pub dtype: String,
    /// `symmetric` or `affine`.
    pub mode: String,
    /// `coremltools`, `wide` and so on: the names of [`Dialect`], of which f32 is `wide`; or `ggml`.
    pub dialect: String,
    /// The float tensor's shape.
    pub shape: Vec<usize>,
    /// The block size per axis.
    pub blocks: Vec<usize>,
    /// The float tensor's type: `f32`, `f16` or `bf16`.
    pub source: String,
    /// How its scales were chosen: a name of [`Search`]; nothing where they are those of the ranges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
}

/// All that the metadata says.
#[derive(Debug, Serialize, Deserialize)]
pub struct Records {
    /// 1.
    pub version: u32,
    /// Per quantized tensor.
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
    /// What these settings are.
    pub fn from_quantizer(quantizer: &TensorQuantizer) -> Self {
        Self {
            dtype: quantizer.scheme.dtype.name().into(),
            mode: quantizer.scheme.mode.name().into(),
            dialect: recorded(quantizer.scheme.dialect).into(),
            shape: quantizer.blocks.shape().to_vec(),
            blocks: quantizer.blocks.block_sizes().to_vec(),
            source: quantizer.source.name().into(),
            search: Some(quantizer.search)
                .filter(|&search| search != Search::None)
                .map(|search| search.name().into()),
        }
    }

    /// Which elements share a scale, in words: `per tensor`, `per channel (axis 0)`, `blocks of 32 along
    /// axis 1`.
    ///
    /// ```
    /// let record: quant_model::SchemeRecord = serde_json::from_str(
    ///     r#"{"dtype": "int4", "mode": "symmetric", "dialect": "coremltools", "source": "f32",
    ///         "shape": [64, 96], "blocks": [1, 32]}"#,
    /// )?;
    /// assert_eq!(record.granularity(), "blocks of 32 along axis 1");
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn granularity(&self) -> String {
        let sizes = self.shape.iter().zip(&self.blocks).enumerate();
        // An axis of one element is whole, whatever its blocks.
        let sizes = sizes.filter(|(_, (dim, block))| block < dim);
        let (channels, blocks): (Vec<_>, Vec<_>) = sizes.partition(|(_, (_, block))| **block == 1);
        let channel_axes: Vec<String> = channels.iter().map(|(axis, _)| axis.to_string()).collect();
        let per_channel = match &channel_axes[..] {
            [] => String::new(),
            [axis] => format!("per channel (axis {axis})"),
            axes => format!("per channel (axes {})", axes.join(", ")),
        };
        match (&blocks[..], &channels[..]) {
            ([], []) => "per tensor".into(),
            ([], _) => per_channel,
            ([(axis, (_, size))], channels) => {
                let blocks = format!("blocks of {size} along axis {axis}");
                let others = self.shape.iter().filter(|&&dim| dim > 1).count() - 1;
                match channels.len() {
                    channels if channels == others => blocks,
                    0 => format!("{blocks}, across the others"),
                    _ => format!("{blocks}, {per_channel}"),
                }
            }
            _ => {
                let sizes = self.shape.iter().zip(&self.blocks);
                let sizes: Vec<_> = sizes
                    .map(|(dim, block)| dim.min(block).to_string())
                    .collect();
                format!("blocks of {}", sizes.join(" x "))
            }
        }
    }

    /// That of a tensor in blocks of ggml.
    pub(crate) fn of_blocks(block_type: GgmlType, shape: &[usize], source: String) -> Self {
        let mut blocks = vec![1; shape.len()];
        if let Some(last) = blocks.last_mut() {
            *last = GgmlType::VALUES;
        }
        let mode = match block_type.has_minimum() {
            true => Mode::Affine,
            false => Mode::Symmetric,
        };
        Self {
            dtype: block_type.to_string(),
            mode: mode.name().into(),
            dialect: "ggml".into(),
            shape: shape.to_vec(),
            blocks,
            source,
            search: None,
        }
    }

    /// What the record describes, if all of it is known and fits together.
    pub fn quantizer(&self, backend: Backend) -> Result<TensorQuantizer, String> {
        fn find<T: Named>(given: &str) -> Result<T, String> {
            T::from_name(given)
                .ok_or_else(|| format!("`{given}` in its quantization record is unknown; a newer version of quant may know it"))
        }
        let scheme = Scheme {
            dtype: find(&self.dtype)?,
            mode: find(&self.mode)?,
            dialect: find(&self.dialect)?,
        };
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
            // Scales are as they were found.
            search: Search::None,
            importance: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn granularities_have_words() {
        for (shape, blocks, words) in [
            (&[512, 5408][..], &[1, 5408][..], "per channel (axis 0)"),
            (&[512, 5408], &[512, 1], "per channel (axis 1)"),
            (&[512, 5408], &[512, 5408], "per tensor"),
            (&[1, 64], &[1, 64], "per tensor"),
            (&[64, 96], &[1, 32], "blocks of 32 along axis 1"),
            (
                &[64, 96],
                &[64, 32],
                "blocks of 32 along axis 1, across the others",
            ),
            (&[64, 96], &[16, 32], "blocks of 16 x 32"),
            (&[64, 96], &[1, 1], "per channel (axes 0, 1)"),
            (
                &[64, 32, 3, 3],
                &[1, 16, 3, 3],
                "blocks of 16 along axis 1, per channel (axis 0)",
            ),
            (&[64, 32, 1, 1], &[1, 16, 1, 1], "blocks of 16 along axis 1"),
            (&[8, 64, 96], &[1, 1, 32], "blocks of 32 along axis 2"),
            (&[8, 64, 96], &[1, 1, 96], "per channel (axes 0, 1)"),
            (&[100], &[7], "blocks of 7 along axis 0"),
        ] {
            let record = SchemeRecord {
                dtype: "int8".into(),
                mode: "symmetric".into(),
                dialect: "coremltools".into(),
                shape: shape.to_vec(),
                blocks: blocks.to_vec(),
                source: "f32".into(),
                search: None,
            };
            assert_eq!(record.granularity(), words, "{shape:?} {blocks:?}");
        }
    }
}
