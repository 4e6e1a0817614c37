//! quant-core's functions for whole tensors, on all cores, with the reference's bytes.
//!
//! Tensors run on the current rayon pool. The result does not depend on the number of threads.
//!
//! Values with one scale, or a tensor, in a line; and back:
//!
//! ```
//! use quant_simd::{Granularity, IntType, Mode, Scheme, as_i8, dequantize, quantize, quantize_tensor};
//!
//! let weights = [0.5_f32, -1.27, 0.02, 1.0];
//! let scheme = Scheme::new(IntType::Int8, Mode::Symmetric);
//!
//! let (codes, params) = quantize(&weights, scheme)?;
//! let restored: Vec<f32> = dequantize(&codes, scheme, params, weights.len())?;
//! assert_eq!(as_i8(&codes), [50, -127, 2, 100]);
//! assert_eq!(restored[0], 0.5);
//!
//! let rows = Granularity::PerChannel { axis: 0 };
//! let tensor = quantize_tensor(&weights, &[2, 2], scheme, &rows)?;
//! let restored: Vec<f32> = tensor.dequantize()?;
//! assert_eq!((tensor.scales_f32().len(), restored.len()), (2, 4));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Functions that return errors say how many elements a buffer has, and how many it must have; the
//! functions of [`Backend`] panic in such a case, at the caller's line, as those of std's slices do.
//!
//! [`Backend`] has the functions on slices, blocks and columns that write into the caller's
//! buffers and never allocate; [`TensorQuantizer`] gives a tensor's parts to a [`Sink`]. The feature
//! `ndarray` adds `QuantizedTensor::from_array`.

// A new type, mode or dialect must be thought of wherever there is a choice.
#![deny(
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants
)]

mod arch;
mod argument;
#[cfg(feature = "ndarray")]
mod array;
mod backend;
mod biased;
mod blocks;
mod columns;
mod dialects;
mod dispatch;
mod element;
mod ggml;
mod isa;
mod kernels;
mod lane;
mod measured;
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

pub use argument::ArgumentError;
pub use backend::{Backend, BackendError};
pub use columns::Columns;
pub use element::Element;
pub use ggml::{
    dequantize_q4_0, dequantize_q4_1, dequantize_q5_0, dequantize_q5_1, dequantize_q8_0,
    quantize_q4_0, quantize_q4_1, quantize_q5_0, quantize_q5_1, quantize_q8_0,
};
pub use owned::{
    Buffers, QuantizeError, QuantizedTensor, as_i8, dequantize, quantize, quantize_tensor,
};
pub use tensor::{Importance, ProcessError, Sink, Source, TensorQuantizer, on_this_thread};

// What the signatures of this crate use, so that a program need not name the crates it is from.
pub use half::{bf16, f16};
/// Types, geometry, the reference: the crate that defines what this one computes.
pub use quant_core;
pub use quant_core::{
    Arrangement, Blocks, Dialect, ErrorStats, FloatType, GeometryError, GgmlType, Granularity,
    IntType, Mode, Named, OffsetKind, Packing, Params, ParamsError, Scheme, TensorError,
    UnknownName, ValueRange, observer,
};

/// Widens little-endian elements to f32, exactly.
///
/// # Panics
/// If `bytes` is not a whole number of elements.
#[track_caller]
pub fn widen(bytes: &[u8], source: quant_core::FloatType) -> Vec<f32> {
    tensor::widen(bytes, source)
}

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
