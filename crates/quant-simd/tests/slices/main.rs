//! The functions on slices, by every backend that this machine has, against the reference, bit
//! for bit.

/// Makes a test per float type of each generic function.
macro_rules! for_every_float {
    ($($name:ident)*) => {
        $(
            mod $name {
                #[test]
                fn f32() {
                    super::$name::<f32>();
                }
                #[test]
                fn f16() {
                    super::$name::<half::f16>();
                }
                #[test]
                fn bf16() {
                    super::$name::<half::bf16>();
                }
            }
        )*
    };
}

mod arena;
mod blocks;
mod calls;
mod case;
mod columns;
mod elements;
mod further;
mod meaning;
mod memory;
mod random;
