//! quant for C: the functions behind `include/quant.h`, which is made of this crate's
//! documentation by `cargo xtask codegen`.
//!
//! Rust programs use quant-simd.
// It is the boundary to C: what stands behind it is safe.
#![allow(unsafe_code)]
// What a caller must promise is the same for every function, and stands at the head of the header.
#![allow(clippy::missing_safety_doc)]
// Their arguments are pairs of pointer and length.
#![allow(clippy::too_many_arguments)]

mod buffers;
mod memory;
mod threads;
mod types;

// In the header's order.
mod info;

mod slices;

mod blocks;

mod ggml;

mod tensor;

mod observer;

pub use blocks::{quant_dequantize_blocks, quant_quantize_blocks};
pub use ggml::{quant_ggml_dequantize, quant_ggml_quantize, quant_ggml_size};
pub use info::{
    quant_backend_detect, quant_backend_list, quant_backend_name, quant_backend_use,
    quant_status_string, quant_version, quant_version_number,
};
pub use observer::{
    QuantObserver, quant_observer_end_sample, quant_observer_free, quant_observer_merge,
    quant_observer_new, quant_observer_observe, quant_observer_observe_part, quant_observer_params,
    quant_observer_range,
};
pub use slices::{
    quant_codes_size, quant_dequantize, quant_error_stats, quant_fake_quantize, quant_pack4,
    quant_params_from_range, quant_quantize, quant_range, quant_unpack4,
};
pub use tensor::{quant_dequantize_tensor, quant_quantize_tensor, quant_tensor_sizes};
pub use types::{
    QuantBackend, QuantCode, QuantDialect, QuantErrorStats, QuantFailure, QuantFloat, QuantGgml,
    QuantMode, QuantObserverConfig, QuantObserverKind, QuantParams, QuantRange, QuantScheme,
    QuantStatus, QuantTensor, QuantTensorSizes,
};
