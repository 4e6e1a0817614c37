//! Linear quantization of tensors, `q = clip(round(w / scale) + zero_point)`: the scalar reference.
//!
//! This crate is the specification. Everything faster is tested against it, bit for bit, so its
//! functions are naive on purpose and never optimized.
//!
//! ```
//! use quant_core::{FloatType, IntType, Mode, Scheme, reference};
//!
//! let weights = [0.5_f32, -1.27, 0.02, 1.0];
//! let scheme = Scheme::new(IntType::Int8, Mode::Symmetric);
//! let params = scheme.params(&reference::range(&weights), FloatType::F32)?;
//! let mut codes = [0_u8; 4];
//! reference::quantize(&weights, scheme, params, &mut codes);
//! assert_eq!(codes.map(|code| code as i8), [50, -127, 2, 100]);
//! # Ok::<(), quant_core::ParamsError>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]
// A new type, mode or dialect must be thought of wherever there is a choice.
#![deny(
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants
)]

extern crate alloc;

mod blocks;
mod dialect;
mod dtype;
mod ggml;
mod mode;
mod named;
pub mod observer;
mod packing;
mod params;
pub mod reference;
mod scheme;
mod search;
mod setters;
mod stats;

pub use blocks::{Arrangement, Blocks, GeometryError, Granularity, Run, Runs};
pub use dialect::{ActivationRule, Dialect, OffsetKind, Ties};
pub use dtype::{Float, FloatType, IntType};
pub use ggml::GgmlType;
pub use mode::Mode;
pub use named::{Named, UnknownName};
pub use packing::Packing;
pub use params::{Offset, Params, ParamsError, ValueRange};
pub use reference::TensorError;
pub use scheme::Scheme;
pub use search::{
    FitSums, SEARCH_CANDIDATES, SEARCH_FACTORS, SEARCH_FACTORS_BELOW_ZERO, SEARCH_FITS,
    SEARCH_LEAST_SPREAD, SEARCH_PIECE, SEARCH_SCALES, Search,
};
pub use stats::{ErrorStats, STATS_CHUNK, STATS_PLAIN, STATS_RUN, STATS_STEP};
