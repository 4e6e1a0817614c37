//! The float types that the library takes.

use crate::dispatch::Dispatch;

/// A float type that kernels exist for: `f32`, `f16`, `bf16`.
pub trait Element: Dispatch {}

impl<F: Dispatch> Element for F {}
