//! The float types that kernels read and write, by the vector.

use bytemuck::Pod;
use half::{bf16, f16};
use quant_core::Float;

use crate::isa::Isa;
use crate::params::{Exact, Half, Quotient};

/// A float type as kernels see it.
pub trait Lane: Float + Pod {
    /// As many of them as the instruction set has f32 lanes.
    type Vector<I: Isa>: Pod;
    /// The division that serves where quotients are rounded to this type.
    type Own: Quotient;
    fn widen<I: Isa>(isa: I, vector: Self::Vector<I>) -> I::F32;
    /// The bits of infinity, if they are 16.
    const INFINITY: Option<i16>;
    /// Whether [`Lane::widen_pair`] changes the order of elements.
    const ZIPPED: bool = false;
    /// Two vectors; narrowing them together restores the order.
    #[inline(always)]
    fn widen_pair<I: Isa>(isa: I, a: Self::Vector<I>, b: Self::Vector<I>) -> [I::F32; 2] {
        [Self::widen(isa, a), Self::widen(isa, b)]
    }
    /// Rounds ties to even.
    fn narrow<I: Isa>(isa: I, vector: I::F32) -> Self::Vector<I>;
}

macro_rules! element {
    (
        $float:ty, $vector:ident, $own:ty, $infinity:expr, |$isa:ident, $v:ident| $widen:expr, $narrow:expr
        $(, zipped |$a:ident, $b:ident| $pair:expr)?
    ) => {
        impl Lane for $float {
            type Vector<I: Isa> = I::$vector;
            type Own = $own;
            const INFINITY: Option<i16> = $infinity;
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

element!(f32, F32, Exact, None, |_isa, v| v, v);
element!(
    f16,
    U16,
    Half,
    Some(0x7c00),
    |isa, v| isa.widen_f16(v),
    isa.narrow_f16(v)
);
element!(
    bf16,
    U16,
    Exact,
    Some(0x7f80),
    |isa, v| isa.widen_bf16(v),
    isa.narrow_bf16(v),
    zipped | a,
    b | isa.widen_bf16_zipped(a, b)
);
