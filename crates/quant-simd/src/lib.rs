//! quant-core's functions for whole tensors, on all cores, with the reference's bytes.
//!
//! Tensors run on the current rayon pool. The result does not depend on the number of threads.
//!
//! Values with one scale, in one line; a tensor, in three:
//!
//! ```
//! use quant_core::{Blocks, FloatType, Granularity, IntType, Mode, Scheme};
//! use quant_simd::{TensorQuantizer, quantize};
//!
//! let weights = [0.5_f32, -1.27, 0.02, 1.0];
//! let scheme = Scheme::new(IntType::Int8, Mode::Symmetric);
//!
//! let (codes, params) = quantize(&weights, scheme)?;
//!
//! let blocks = Blocks::new(&[2, 2], &Granularity::PerChannel { axis: 0 })?;
//! let quantizer = TensorQuantizer::new(scheme, FloatType::F32, blocks);
//! let tensor = quantizer.quantize_to_vec(&weights)?;
//!
//! assert_eq!((codes.len(), params.zero_point()), (4, 0));
//! assert_eq!(tensor.scales().len(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Backend`] has the functions on slices, blocks and columns that write into the caller's
//! buffers and never allocate; [`TensorQuantizer`] gives a tensor's parts to a [`Sink`]. The feature
//! `ndarray` adds `QuantizedTensor::of_array`.

// A new type, mode or dialect must be thought of wherever there is a choice.
#![deny(
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants
)]

mod arch;
#[cfg(feature = "ndarray")]
mod array;
mod backend;
mod blocks;
mod columns;
mod dialects;
mod dispatch;
mod element;
mod ggml;
mod isa;
mod kernels;
mod lane;
mod memory;
mod observe;
mod owned;
mod pack;
mod param_layout;
mod param_source;
mod params;
mod slice;
mod stream;
mod tensor;

#[cfg(feature = "ndarray")]
pub use array::ArrayError;
pub use backend::{Backend, BackendError};
pub use columns::Columns;
pub use element::Element;
pub use ggml::{
    dequantize_q4_0, dequantize_q4_1, dequantize_q5_0, dequantize_q5_1, dequantize_q8_0,
    quantize_q4_0, quantize_q4_1, quantize_q5_0, quantize_q5_1, quantize_q8_0,
};
pub use owned::{Buffers, QuantizedTensor, quantize};
pub use tensor::{ProcessError, Sink, Source, TensorQuantizer, on_this_thread};

/// Widens little-endian elements to f32, exactly.
///
/// # Panics
/// If `bytes` is not a whole number of elements.
pub fn widen(bytes: &[u8], source: quant_core::FloatType) -> Vec<f32> {
    tensor::widen(bytes, source)
}

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
