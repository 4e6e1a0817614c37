//! The float types that kernels read and write.

use bytemuck::Pod;
use half::{bf16, f16};
use quant_core::Float;

use crate::dispatch::Dispatch;
use crate::isa::Isa;
use crate::terms::{Exact, Half, Quotient};

/// A float type that kernels exist for: `f32`, `f16`, `bf16`.
pub trait Element: Float + Pod + Dispatch {
    /// As many of them as the instruction set has f32 lanes.
    #[doc(hidden)]
    type Vector<I: Isa>: Pod;
    /// The division that serves where quotients are rounded to this type.
    #[doc(hidden)]
    type Own: Quotient;
    #[doc(hidden)]
    fn widen<I: Isa>(isa: I, vector: Self::Vector<I>) -> I::F32;
    /// Whether [`Element::widen_pair`] changes the order of elements.
    #[doc(hidden)]
    const ZIPPED: bool = false;
    /// Two vectors; narrowing them together restores the order.
    #[doc(hidden)]
    #[inline(always)]
    fn widen_pair<I: Isa>(isa: I, a: Self::Vector<I>, b: Self::Vector<I>) -> [I::F32; 2] {
        [Self::widen(isa, a), Self::widen(isa, b)]
    }
    /// Rounds ties to even.
    #[doc(hidden)]
    fn narrow<I: Isa>(isa: I, vector: I::F32) -> Self::Vector<I>;
}

macro_rules! element {
    (
        $float:ty, $vector:ident, $own:ty, |$isa:ident, $v:ident| $widen:expr, $narrow:expr
        $(, zipped |$a:ident, $b:ident| $pair:expr)?
    ) => {
        impl Element for $float {
            type Vector<I: Isa> = I::$vector;
            type Own = $own;
            $(
                const ZIPPED: bool = true;
                #[inline(always)]
                fn widen_pair<I: Isa>($isa: I, $a: I::U16, $b: I::U16) -> [I::F32; 2] {
                    $pair
                }
            )?
            #[inline(always)]
            fn widen<I: Isa>($isa: I, $v: I::$vector) -> I::F32 {
                $widen
            }
            #[inline(always)]
            fn narrow<I: Isa>($isa: I, $v: I::F32) -> I::$vector {
                $narrow
            }
        }
    };
}

element!(f32, F32, Exact, |_isa, v| v, v);
element!(f16, U16, Half, |isa, v| isa.widen_f16(v), isa.narrow_f16(v));
element!(
    bf16,
    U16,
    Exact,
    |isa, v| isa.widen_bf16(v),
    isa.narrow_bf16(v),
    zipped | a,
    b | isa.widen_bf16_zipped(a, b)
);
