//! A tensor as it stands in a file of either format, float or quantized, and its values.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use quant_core::FloatType;
use quant_simd::TensorQuantizer;

use crate::{Consumer, Error, SchemeRecord};

/// A tensor and its bytes.
pub(crate) struct Stored<'a> {
    pub path: &'a Path,
    pub name: String,
    /// The type's name in the file, or that of the codes.
    pub dtype: String,
    pub shape: Vec<usize>,
    /// The type of the values; `None` for integers and whatever is not understood.
    pub float: Option<FloatType>,
    /// Values or codes.
    pub bytes: Cow<'a, [u8]>,
    pub quantized: Option<Parts<'a>>,
    /// What it feeds, in a format that says so.
    pub consumers: Vec<Consumer>,
    /// How it is stored, where that is neither float nor quantized, such as palettized.
    pub kind: Option<String>,
    /// What else belongs to it then, such as the palette.
    pub others: Vec<Cow<'a, [u8]>>,
}

/// What belongs to the codes of a quantized tensor.
pub(crate) struct Parts<'a> {
    pub quantizer: TensorQuantizer,
    pub scales: Cow<'a, [u8]>,
    /// One byte each; none where the scheme stores none.
    pub zero_points: Cow<'a, [u8]>,
    /// What scales and zero points take there.
    pub bytes_in_file: usize,
}

impl Parts<'_> {
    pub fn record(&self) -> SchemeRecord {
        SchemeRecord::of(&self.quantizer)
    }

    /// The smallest and the largest scale.
    pub fn scale_range(&self) -> Option<(f32, f32)> {
        let scales = quant_simd::widen(&self.scales, self.quantizer.scale_type());
        let low = scales.iter().copied().reduce(f32::min)?;
        Some((low, scales.into_iter().fold(low, f32::max)))
    }
}

impl Stored<'_> {
    pub fn element_count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes in the file, scales and zero points included.
    pub fn stored_bytes(&self) -> u64 {
        let parts = self.quantized.as_ref();
        let parts = parts.map_or(0, |parts| parts.bytes_in_file);
        let others: usize = self.others.iter().map(|other| other.len()).sum();
        (self.bytes.len() + parts + others) as u64
    }

    /// The values of some elements, from an even position on.
    pub fn values(&self, elements: Range<usize>, values: &mut [f32]) -> Result<(), Error> {
        let bad = |problem: String| Error::tensor(self.path, &self.name, problem);
        if let Some(parts) = &self.quantized {
            return parts
                .quantizer
                .dequantize_range(
                    &self.bytes,
                    &parts.scales,
                    &parts.zero_points,
                    elements,
                    values,
                )
                .map_err(|(block, error)| {
                    bad(format!("block {block}: {error}; the file is damaged"))
                });
        }
        let Some(float) = self.float else {
            return Err(bad(format!("{} is not a float type", self.dtype)));
        };
        let bytes = &self.bytes[elements.start * float.size()..elements.end * float.size()];
        values.copy_from_slice(&quant_simd::widen(bytes, float));
        Ok(())
    }
}
