//! Blocks of ggml, on the caller's thread.

use quant_core::{GgmlType, TensorError, reference};

use crate::kernels::ggml::BATCH;
use crate::{Backend, Element};

impl Backend {
    /// Quantizes to the bytes of ggml's reference quantizer; see [`reference::quantize_ggml`].
    ///
    /// # Errors
    /// The first block with a value that is NaN or infinite, or with a scale or minimum that f16
    /// cannot hold. What was written by then is of no use.
    ///
    /// # Panics
    /// If `values` are not whole blocks of 32, or `blocks` does not have the length that
    /// [`GgmlType::len`] says.
    ///
    /// ```
    /// use quant_core::GgmlType;
    /// use quant_simd::Backend;
    /// let values = [0.25_f32; 64];
    /// let mut blocks = [0; 2 * GgmlType::Q5_1.block_size()];
    /// Backend::detect().quantize_ggml(&values, GgmlType::Q5_1, &mut blocks)?;
    /// assert_eq!(blocks[..5], [0, 0, 0, 0x34, 0]);
    /// # Ok::<(), quant_core::TensorError>(())
    /// ```
    #[track_caller]
    pub fn quantize_ggml<F: Element>(
        self,
        values: &[F],
        block_type: GgmlType,
        blocks: &mut [u8],
    ) -> Result<(), TensorError> {
        let count = block_count(values.len(), block_type, blocks);
        let size = block_type.block_size();
        let mut done = 0;
        loop {
            let (values, blocks) = (&values[done * VALUES..], &mut blocks[done * size..]);
            let quantized = F::quantize_ggml(self, values, block_type, blocks);
            done += quantized;
            if done == count {
                return Ok(());
            }
            let some = BATCH.min(count - done);
            let values = &values[quantized * VALUES..][..some * VALUES];
            let blocks = &mut blocks[quantized * size..][..some * size];
            reference::quantize_ggml(values, block_type, blocks).map_err(behind(done))?;
            done += some;
        }
    }

    /// The values of what [`Backend::quantize_ggml`] wrote; see [`reference::dequantize_ggml`].
    ///
    /// # Errors
    /// The first block whose scale or minimum is NaN or infinite.
    ///
    /// # Panics
    /// If `values` are not whole blocks of 32, or `blocks` does not have the length that
    /// [`GgmlType::len`] says.
    #[track_caller]
    pub fn dequantize_ggml<F: Element>(
        self,
        blocks: &[u8],
        block_type: GgmlType,
        values: &mut [F],
    ) -> Result<(), TensorError> {
        let count = block_count(values.len(), block_type, blocks);
        let size = block_type.block_size();
        let done = F::dequantize_ggml(self, blocks, block_type, values);
        if done == count {
            return Ok(());
        }
        // The next batch has a block without finite floats.
        let some = BATCH.min(count - done);
        let blocks = &blocks[done * size..][..some * size];
        let values = &mut values[done * VALUES..][..some * VALUES];
        reference::dequantize_ggml(blocks, block_type, values).map_err(behind(done))
    }
}

const VALUES: usize = GgmlType::VALUES;

#[track_caller]
fn block_count(values: usize, block_type: GgmlType, blocks: &[u8]) -> usize {
    let wanted = block_type.len(values);
    let wanted = wanted.expect("a whole number of blocks, each of 32 values");
    let got = blocks.len();
    assert!(
        got == wanted,
        "{got} bytes of blocks instead of {wanted}, for {values} values"
    );
    values / VALUES
}

/// The error of a block that comes behind so many others.
fn behind(blocks: usize) -> impl Fn(TensorError) -> TensorError {
    move |error| TensorError {
        block: blocks + error.block,
        ..error
    }
}

macro_rules! by_name {
    ($($block_type:ident $quantize:ident $dequantize:ident)*) => {
        $(
            /// [`Backend::quantize_ggml`] for blocks of
            #[doc = concat!("[`GgmlType::", stringify!($block_type), "`], on the best backend.")]
            ///
            /// # Errors
            /// As [`Backend::quantize_ggml`].
            ///
            /// # Panics
            /// If the lengths are not those of whole blocks.
            ///
            /// ```
            #[doc = concat!("use quant_simd::{", stringify!($quantize), ", ", stringify!($dequantize), "};")]
            /// let values = [1.5_f32; 32];
            #[doc = concat!("let mut block = [0; quant_core::GgmlType::", stringify!($block_type), ".block_size()];")]
            #[doc = concat!(stringify!($quantize), "(&values, &mut block)?;")]
            /// let mut back = [0_f32; 32];
            #[doc = concat!(stringify!($dequantize), "(&block, &mut back)?;")]
            /// assert!((back[0] - 1.5).abs() < 0.001);
            /// # Ok::<(), quant_core::TensorError>(())
            /// ```
            pub fn $quantize<F: Element>(
                values: &[F],
                blocks: &mut [u8],
            ) -> Result<(), TensorError> {
                Backend::detect().quantize_ggml(values, GgmlType::$block_type, blocks)
            }

            /// [`Backend::dequantize_ggml`] for blocks of
            #[doc = concat!("[`GgmlType::", stringify!($block_type), "`], on the best backend.")]
            ///
            /// # Errors
            /// As [`Backend::dequantize_ggml`].
            ///
            /// # Panics
            /// If the lengths are not those of whole blocks.
            pub fn $dequantize<F: Element>(
                blocks: &[u8],
                values: &mut [F],
            ) -> Result<(), TensorError> {
                Backend::detect().dequantize_ggml(blocks, GgmlType::$block_type, values)
            }
        )*
    };
}

by_name! {
    Q8_0 quantize_q8_0 dequantize_q8_0
    Q4_0 quantize_q4_0 dequantize_q4_0
    Q4_1 quantize_q4_1 dequantize_q4_1
    Q5_0 quantize_q5_0 dequantize_q5_0
    Q5_1 quantize_q5_1 dequantize_q5_1
}
