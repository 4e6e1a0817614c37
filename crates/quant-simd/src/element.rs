//! The float types that kernels read and write.

use bytemuck::Pod;
use half::{bf16, f16};
use quant_core::Float;

/// A float type that kernels exist for: `f32`, `f16`, `bf16`.
pub trait Element: Float + Pod + private::Sealed {}

impl Element for f32 {}
impl Element for f16 {}
impl Element for bf16 {}

mod private {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}
