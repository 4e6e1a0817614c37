//! Other libraries' kernels for the same work, on one thread. Without the feature there are none.

#[cfg(feature = "peers")]
mod built {
    use std::hint::black_box;
    use std::mem::MaybeUninit;

    use candle_core::quantized::k_quants::{
        BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0, GgmlType,
    };
    use rten_simd::SimdOp;
    use rten_vecmath::{MinMax, Quantize};

    use crate::case::Peer;

    pub fn quantize_u8(n: usize) -> Vec<Peer<f32>> {
        let mut codes = vec![MaybeUninit::new(1_u8); n];
        vec![Peer {
            name: "rten-vecmath",
            call: Box::new(move |values| {
                let codes: &mut [MaybeUninit<u8>] = &mut codes;
                black_box(Quantize::new(values, codes, 127.5, 128).dispatch());
            }),
        }]
    }

    pub fn min_max() -> Vec<Peer<f32>> {
        vec![Peer {
            name: "rten-vecmath",
            call: Box::new(|values| {
                black_box(MinMax::new(values).dispatch());
            }),
        }]
    }

    pub fn quantize_q8_0(n: usize) -> Vec<Peer<f32>> {
        quantize_blocks::<BlockQ8_0>(n)
    }

    pub fn quantize_q4_0(n: usize) -> Vec<Peer<f32>> {
        quantize_blocks::<BlockQ4_0>(n)
    }

    pub fn quantize_q4_1(n: usize) -> Vec<Peer<f32>> {
        quantize_blocks::<BlockQ4_1>(n)
    }

    pub fn quantize_q5_0(n: usize) -> Vec<Peer<f32>> {
        quantize_blocks::<BlockQ5_0>(n)
    }

    pub fn quantize_q5_1(n: usize) -> Vec<Peer<f32>> {
        quantize_blocks::<BlockQ5_1>(n)
    }

    pub fn dequantize_q8_0(n: usize) -> Vec<Peer<u8>> {
        dequantize_blocks::<BlockQ8_0>(n)
    }

    pub fn dequantize_q4_0(n: usize) -> Vec<Peer<u8>> {
        dequantize_blocks::<BlockQ4_0>(n)
    }

    fn quantize_blocks<B: GgmlType + 'static>(n: usize) -> Vec<Peer<f32>> {
        let mut blocks = vec![B::zeros(); n / B::BLCK_SIZE];
        vec![Peer {
            name: "candle-core",
            call: Box::new(move |values| B::from_float(values, black_box(&mut blocks))),
        }]
    }

    /// Reads blocks of its own layout, as many as the kernel's codes.
    fn dequantize_blocks<B: GgmlType + 'static>(n: usize) -> Vec<Peer<u8>> {
        let mut blocks = vec![B::zeros(); n / B::BLCK_SIZE];
        let mut values = crate::values::values::<f32>(n).to_vec();
        B::from_float(&values, &mut blocks);
        vec![Peer {
            name: "candle-core",
            call: Box::new(move |_| B::to_float(black_box(&blocks), black_box(&mut values))),
        }]
    }
}

#[cfg(feature = "peers")]
pub use built::*;

#[cfg(not(feature = "peers"))]
mod absent {
    use crate::case::Peer;

    pub fn quantize_u8(_: usize) -> Vec<Peer<f32>> {
        vec![]
    }

    pub fn min_max() -> Vec<Peer<f32>> {
        vec![]
    }

    pub fn quantize_q8_0(_: usize) -> Vec<Peer<f32>> {
        vec![]
    }

    pub fn quantize_q4_0(_: usize) -> Vec<Peer<f32>> {
        vec![]
    }

    pub fn quantize_q4_1(_: usize) -> Vec<Peer<f32>> {
        vec![]
    }

    pub fn quantize_q5_0(_: usize) -> Vec<Peer<f32>> {
        vec![]
    }

    pub fn quantize_q5_1(_: usize) -> Vec<Peer<f32>> {
        vec![]
    }

    pub fn dequantize_q8_0(_: usize) -> Vec<Peer<u8>> {
        vec![]
    }

    pub fn dequantize_q4_0(_: usize) -> Vec<Peer<u8>> {
        vec![]
    }
}

#[cfg(not(feature = "peers"))]
pub use absent::*;
