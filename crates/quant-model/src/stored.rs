//! A tensor as it stands in a file of either format, float or quantized, and its values.

use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use quant_core::{FloatType, GgmlType};
use quant_simd::{Backend, TensorQuantizer};

use crate::io::Data;
use crate::{Consumer, Error, SchemeRecord};

/// A tensor and its bytes.
pub struct TensorView<'a> {
    /// The file that holds it.
    pub path: &'a Path,
    /// Its name in the model.
    pub name: String,
    /// What it is compared by: the name, or that of the float tensor that it was made from.
    pub key: String,
    /// The type's name in the file, or that of the codes.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The type of the values; `None` for integers and whatever is not understood.
    pub float: Option<FloatType>,
    /// Values or codes.
    pub bytes: Data<'a>,
    /// What belongs to its codes, where it is quantized.
    pub quantized: Option<Parts<'a>>,
    /// The type of the blocks that the bytes are, and the shape of the rows that are cut into them.
    pub blocks: Option<(GgmlType, Vec<usize>)>,
    /// What it feeds, in a format that says so.
    pub consumers: Vec<Consumer>,
    /// How it is stored, where that is neither float nor quantized, such as palettized.
    pub kind: Option<String>,
    /// What else belongs to it then, such as the palette.
    pub others: Vec<Data<'a>>,
}

/// What belongs to the codes of a quantized tensor.
pub struct Parts<'a> {
    /// How it was quantized.
    pub quantizer: TensorQuantizer,
    /// One per block, in the type that the scheme stores.
    pub scales: Data<'a>,
    /// One byte each; none where the scheme stores none.
    pub zero_points: Data<'a>,
    /// What scales and zero points take there.
    pub bytes_in_file: usize,
    /// Scales and zero points, once they have been read.
    read: OnceLock<(Vec<u8>, Vec<u8>)>,
}

impl<'a> Parts<'a> {
    /// With scales and zero points that are read when they are needed.
    pub fn new(
        quantizer: TensorQuantizer,
        scales: Data<'a>,
        zero_points: Data<'a>,
        bytes_in_file: usize,
    ) -> Self {
        Self {
            quantizer,
            scales,
            zero_points,
            bytes_in_file,
            read: OnceLock::new(),
        }
    }

    /// Scales and zero points.
    pub fn params(&self) -> Result<(&[u8], &[u8]), Error> {
        let (scales, zero_points) = match self.read.get() {
            Some(read) => read,
            None => {
                let scales = self.scales.whole()?.into_owned();
                let zero_points = self.zero_points.whole()?.into_owned();
                self.read.get_or_init(|| (scales, zero_points))
            }
        };
        Ok((scales, zero_points))
    }

    /// How it was quantized, in words.
    pub fn record(&self) -> SchemeRecord {
        SchemeRecord::from_quantizer(&self.quantizer)
    }

    /// The smallest and the largest scale.
    pub fn scale_range(&self) -> Result<Option<(f32, f32)>, Error> {
        let scales = quant_simd::widen(self.params()?.0, self.quantizer.scale_type());
        let low = scales.iter().copied().reduce(f32::min);
        Ok(low.map(|low| (low, scales.into_iter().fold(low, f32::max))))
    }
}

impl TensorView<'_> {
    /// Number of its values.
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

    /// How it is quantized.
    pub fn record(&self) -> Option<SchemeRecord> {
        let parts = self.quantized.as_ref().map(Parts::record);
        let blocks = self
            .blocks
            .as_ref()
            .map(|(blocks, rows)| SchemeRecord::of_blocks(*blocks, rows, "f32".into()));
        parts.or(blocks)
    }

    /// The values of some elements, from a position on that is even and begins a block.
    pub fn values(&self, elements: Range<usize>, values: &mut [f32]) -> Result<(), Error> {
        let bad = |problem: String| Error::tensor(self.path, &self.name, problem);
        if let Some(parts) = &self.quantized {
            let dtype = parts.quantizer.scheme.dtype;
            let (start, end) = (
                dtype.storage_len(elements.start),
                dtype.storage_len(elements.end),
            );
            let codes = self.bytes.part(start, end - start)?;
            let (scales, zero_points) = parts.params()?;
            return parts
                .quantizer
                .dequantize_some(&codes, scales, zero_points, elements, values)
                .map_err(|error| bad(format!("{error}; the file is damaged")));
        }
        if let Some((block_type, _)) = self.blocks {
            let place = |elements: usize| block_type.len(elements).unwrap_or(0);
            let start = place(elements.start);
            let blocks = self.bytes.part(start, place(elements.end) - start)?;
            let restored = Backend::detect().dequantize_ggml(&blocks, block_type, values);
            return restored.map_err(|error| bad(format!("{error}; the file is damaged")));
        }
        let Some(float) = self.float else {
            return Err(bad(format!("{} is not a float type", self.dtype)));
        };
        let (start, len) = (elements.start * float.size(), elements.len() * float.size());
        let bytes = self.bytes.part(start, len)?;
        values.copy_from_slice(&quant_simd::widen(&bytes, float));
        Ok(())
    }
}
