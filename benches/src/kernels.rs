//! The list of kernels.

use std::hint::black_box;

use bytemuck::Pod;
use half::{bf16, f16};
use quant_core::observer::Histogram;
use quant_core::{
    Blocks, Dialect, Float, GgmlType, Granularity, IntType, Mode, Params, Scheme, Search,
    ValueRange,
};
use quant_simd::{Backend, Buffers, Columns, Element, Importance, TensorQuantizer, on_this_thread};

use crate::buffer::Buffer;
use crate::case::{Case, Peer, SliceCase};
use crate::peers;
use crate::values::{bytes, rectified, values, weights};

const COLUMNS: usize = 1024;
/// Values of a row that has a scale of its own.
const ROW: usize = 4096;
const INT8: Scheme = Scheme::new(IntType::Int8, Mode::Symmetric);
const INT4: Scheme = Scheme::new(IntType::Int4, Mode::Symmetric);
const UINT8: Scheme = Scheme::new(IntType::Uint8, Mode::Affine);
const UINT4: Scheme = Scheme::new(IntType::Uint4, Mode::Affine);
const MLX4: Scheme = Scheme {
    dialect: Dialect::Mlx,
    ..UINT4
};
const WIDE: Scheme = Scheme {
    dialect: Dialect::F32,
    ..INT8
};

/// A row of the tables.
pub struct Kernel {
    /// A letter, alone or with what tells it from others of that letter.
    pub id: &'static str,
    /// The file of `cargo bench` that it belongs to.
    pub family: &'static str,
    /// What it does.
    pub name: &'static str,
    /// Its buffers and contenders, for so many elements.
    pub case: fn(usize) -> Box<dyn Case>,
}

/// Every kernel that is measured.
#[rustfmt::skip]
pub const KERNELS: &[Kernel] = &[
    Kernel { id: "A", family: "quantize", name: "f32 -> i8", case: |n| quantize::<f32>(n, INT8, vec![]) },
    Kernel { id: "A'", family: "quantize", name: "f32 -> u8, affine", case: |n| quantize(n, UINT8, peers::quantize_u8(n)) },
    Kernel { id: "B", family: "dequantize", name: "i8 -> f32", case: |n| dequantize::<f32>(n, INT8) },
    Kernel { id: "C", family: "blocks", name: "f32 -> i8, blocks of 32", case: |n| quantize_blocks(n, 32, INT8, peers::quantize_q8_0(n)) },
    Kernel { id: "C128", family: "blocks", name: "f32 -> i8, blocks of 128", case: |n| quantize_blocks(n, 128, INT8, vec![]) },
    Kernel { id: "D", family: "blocks", name: "f32 -> i4, blocks of 32", case: |n| quantize_blocks(n, 32, INT4, peers::quantize_q4_0(n)) },
    Kernel { id: "D128", family: "blocks", name: "f32 -> i4, blocks of 128", case: |n| quantize_blocks(n, 128, INT4, vec![]) },
    Kernel { id: "E", family: "blocks", name: "i4 -> f32, blocks of 32", case: |n| dequantize_blocks(n, 32, INT4, peers::dequantize_q4_0(n)) },
    Kernel { id: "E128", family: "blocks", name: "i4 -> f32, blocks of 128", case: |n| dequantize_blocks(n, 128, INT4, vec![]) },
    Kernel { id: "E-i8", family: "blocks", name: "i8 -> f32, blocks of 32", case: |n| dequantize_blocks(n, 32, INT8, peers::dequantize_q8_0(n)) },
    Kernel { id: "E-i8-128", family: "blocks", name: "i8 -> f32, blocks of 128", case: |n| dequantize_blocks(n, 128, INT8, vec![]) },
    Kernel { id: "O8", family: "blocks", name: "f32 -> ggml's Q8_0", case: |n| quantize_ggml::<f32>(n, GgmlType::Q8_0, peers::quantize_q8_0(n)) },
    Kernel { id: "O8-bf16", family: "blocks", name: "bf16 -> ggml's Q8_0", case: |n| quantize_ggml::<bf16>(n, GgmlType::Q8_0, vec![]) },
    Kernel { id: "O4", family: "blocks", name: "f32 -> ggml's Q4_0", case: |n| quantize_ggml::<f32>(n, GgmlType::Q4_0, peers::quantize_q4_0(n)) },
    Kernel { id: "O41", family: "blocks", name: "f32 -> ggml's Q4_1", case: |n| quantize_ggml::<f32>(n, GgmlType::Q4_1, peers::quantize_q4_1(n)) },
    Kernel { id: "O5", family: "blocks", name: "f32 -> ggml's Q5_0", case: |n| quantize_ggml::<f32>(n, GgmlType::Q5_0, peers::quantize_q5_0(n)) },
    Kernel { id: "O51", family: "blocks", name: "f32 -> ggml's Q5_1", case: |n| quantize_ggml::<f32>(n, GgmlType::Q5_1, peers::quantize_q5_1(n)) },
    Kernel { id: "S", family: "search", name: "i4, blocks, plain", case: |n| tensor::<f32>(n, INT4, 32, Scales::Plain) },
    Kernel { id: "S-mse", family: "search", name: "i4, blocks, searched", case: |n| tensor::<f32>(n, INT4, 32, Scales::Searched) },
    Kernel { id: "S16", family: "search", name: "f16: i4, blocks, plain", case: |n| tensor::<f16>(n, INT4, 32, Scales::Plain) },
    Kernel { id: "S16-mse", family: "search", name: "f16: i4, blocks, searched", case: |n| tensor::<f16>(n, INT4, 32, Scales::Searched) },
    Kernel { id: "S16-imp", family: "search", name: "f16: i4, blocks, weighed", case: |n| tensor::<f16>(n, INT4, 32, Scales::Weighed) },
    Kernel { id: "T16", family: "search", name: "f16: i4, rows, plain", case: |n| tensor::<f16>(n, INT4, ROW, Scales::Plain) },
    Kernel { id: "T16-mse", family: "search", name: "f16: i4, rows, searched", case: |n| tensor::<f16>(n, INT4, ROW, Scales::Searched) },
    Kernel { id: "T16-imp", family: "search", name: "f16: i4, rows, weighed", case: |n| tensor::<f16>(n, INT4, ROW, Scales::Weighed) },
    Kernel { id: "S-u4", family: "search", name: "u4, affine blocks, plain", case: |n| tensor::<f32>(n, UINT4, 32, Scales::Plain) },
    Kernel { id: "S-u4-mse", family: "search", name: "u4, affine blocks, searched", case: |n| tensor::<f32>(n, UINT4, 32, Scales::Searched) },
    Kernel { id: "S-mlx", family: "search", name: "MLX's u4, plain", case: |n| tensor::<f32>(n, MLX4, 32, Scales::Plain) },
    Kernel { id: "S-mlx-mse", family: "search", name: "MLX's u4, searched", case: |n| tensor::<f32>(n, MLX4, 32, Scales::Searched) },
    Kernel { id: "S16-mlx", family: "search", name: "f16: MLX's u4, plain", case: |n| tensor::<f16>(n, MLX4, 32, Scales::Plain) },
    Kernel { id: "S16-mlx-mse", family: "search", name: "f16: MLX's u4, searched", case: |n| tensor::<f16>(n, MLX4, 32, Scales::Searched) },
    Kernel { id: "P8", family: "blocks", name: "ggml's Q8_0 -> f32", case: |n| dequantize_ggml(n, GgmlType::Q8_0, peers::dequantize_q8_0(n)) },
    Kernel { id: "P4", family: "blocks", name: "ggml's Q4_0 -> f32", case: |n| dequantize_ggml(n, GgmlType::Q4_0, peers::dequantize_q4_0(n)) },
    Kernel { id: "F", family: "range", name: "range of f32", case: |n| range::<f32>(n, peers::min_max()) },
    Kernel { id: "F16", family: "range", name: "range of f16", case: |n| range::<f16>(n, vec![]) },
    Kernel { id: "G", family: "quantize", name: "f16 -> i8", case: |n| quantize::<f16>(n, INT8, vec![]) },
    Kernel { id: "G-wide", family: "quantize", name: "f16 -> i8, f32 scale", case: |n| quantize::<f16>(n, WIDE, vec![]) },
    Kernel { id: "G-bf16", family: "quantize", name: "bf16 -> i8", case: |n| quantize::<bf16>(n, INT8, vec![]) },
    Kernel { id: "H", family: "columns", name: "f32 -> i8, 1024 columns", case: quantize_columns },
    Kernel { id: "H-", family: "columns", name: "ranges of 1024 columns", case: column_ranges },
    Kernel { id: "I", family: "fake_quantize", name: "fake-quantize f32, int8", case: fake_quantize },
    Kernel { id: "J", family: "fake_quantize", name: "f32 -> i8 and error", case: quantize_with_stats::<f32> },
    Kernel { id: "J16", family: "fake_quantize", name: "f16 -> i8 and error", case: quantize_with_stats::<f16> },
    Kernel { id: "K", family: "pack", name: "pack 4-bit codes", case: pack },
    Kernel { id: "K-", family: "pack", name: "unpack 4-bit codes", case: unpack },
    Kernel { id: "L", family: "dequantize", name: "i8 -> f16", case: |n| dequantize::<f16>(n, INT8) },
    Kernel { id: "M", family: "observe", name: "min-max of f32", case: min_max::<f32> },
    Kernel { id: "M16", family: "observe", name: "min-max of f16", case: min_max::<f16> },
    Kernel { id: "N", family: "observe", name: "histogram of f32", case: |n| histogram::<f32>(values(n)) },
    Kernel { id: "N-relu", family: "observe", name: "histogram of f32, half zeros", case: |n| histogram(rectified(n)) },
    Kernel { id: "N16", family: "observe", name: "histogram of f16", case: |n| histogram::<f16>(values(n)) },
    Kernel { id: "N-bf16", family: "observe", name: "histogram of bf16", case: |n| histogram::<bf16>(values(n)) },
];

fn params<F: Float>(scheme: Scheme) -> Params {
    let range = ValueRange {
        min: -1.0,
        max: 1.0,
        non_finite: 0,
    };
    scheme.params(&range, F::TYPE).expect("a usable range")
}

fn case<I: Pod, O: Pod>(
    input: Buffer<I>,
    outputs: usize,
    kernel: impl FnMut(Backend, &[I], &mut [O]) + 'static,
    peers: Vec<Peer<I>>,
) -> Box<dyn Case> {
    Box::new(SliceCase::new(input, outputs, kernel, peers))
}

fn range<F: Element>(n: usize, peers: Vec<Peer<F>>) -> Box<dyn Case> {
    let kernel = |backend: Backend, values: &[F], _: &mut [u8]| {
        black_box(backend.range(values));
    };
    case(values(n), 0, kernel, peers)
}

fn min_max<F: Element>(n: usize) -> Box<dyn Case> {
    let kernel = |backend: Backend, values: &[F], _: &mut [u8]| {
        black_box(backend.min_max(values));
    };
    case(values(n), 0, kernel, vec![])
}

fn histogram<F: Element>(input: Buffer<F>) -> Box<dyn Case> {
    let mut histogram = Histogram::new(2048).expect("a power of two");
    let kernel = move |backend: Backend, values: &[F], _: &mut [u8]| {
        backend.observe_histogram(values, &mut histogram);
    };
    case(input, 0, kernel, vec![])
}

fn quantize<F: Element>(n: usize, scheme: Scheme, peers: Vec<Peer<F>>) -> Box<dyn Case> {
    let params = params::<F>(scheme);
    let kernel = move |backend: Backend, values: &[F], codes: &mut [u8]| {
        black_box(backend.quantize(values, scheme, params, codes));
    };
    case(values(n), n, kernel, peers)
}

fn dequantize<F: Element>(n: usize, scheme: Scheme) -> Box<dyn Case> {
    let params = params::<F>(scheme);
    let kernel = move |backend: Backend, codes: &[u8], values: &mut [F]| {
        backend.dequantize(codes, scheme, params, values);
    };
    case(bytes(n), n, kernel, vec![])
}

fn quantize_blocks(
    n: usize,
    block_size: usize,
    scheme: Scheme,
    peers: Vec<Peer<f32>>,
) -> Box<dyn Case> {
    let mut scales = vec![1_f32; n / block_size];
    let kernel = move |backend: Backend, values: &[f32], codes: &mut [u8]| {
        backend
            .quantize_blocks(values, block_size, scheme, codes, &mut scales, &mut [])
            .expect("finite values");
    };
    case(values(n), scheme.dtype.storage_len(n), kernel, peers)
}

/// How scales are found.
#[derive(PartialEq)]
enum Scales {
    Plain,
    Searched,
    /// With an importance for each column.
    Weighed,
}

/// By the tensor driver, on one thread and with error statistics, which is how files are quantized: so
/// plain rounding and a search are measured alike.
fn tensor<F: Element>(n: usize, scheme: Scheme, block: usize, scales: Scales) -> Box<dyn Case> {
    let shape = [n / ROW, ROW];
    let blocks = Blocks::new(&shape, &Granularity::Blocks(vec![1, block]));
    let of_inputs: Vec<f64> = (1..=ROW).map(|column| column as f64).collect();
    let importance = Importance::new(&shape, 1, &of_inputs);
    let mut quantizer = TensorQuantizer {
        search: match scales {
            Scales::Plain => Search::None,
            Scales::Searched | Scales::Weighed => Search::Mse,
        },
        importance: (scales == Scales::Weighed).then_some(importance),
        ..TensorQuantizer::new(scheme, F::TYPE, blocks.expect("whole blocks"))
    };
    let mut scales = vec![0; quantizer.scales_len()];
    let mut zero_points = vec![0; quantizer.zero_points_len()];
    let codes = quantizer.codes_len();
    let kernel = move |backend: Backend, values: &[F], codes: &mut [u8]| {
        quantizer.backend = backend;
        let sink = Buffers::new(codes, &mut scales, &mut zero_points);
        let values = bytemuck::cast_slice(values);
        let done = on_this_thread(|| quantizer.quantize(values, &sink));
        done.expect("finite values");
    };
    case(weights(n), codes, kernel, vec![])
}

fn quantize_ggml<F: Element>(n: usize, block_type: GgmlType, peers: Vec<Peer<F>>) -> Box<dyn Case> {
    let kernel = move |backend: Backend, values: &[F], blocks: &mut [u8]| {
        let done = backend.quantize_ggml(values, block_type, blocks);
        done.expect("finite values");
    };
    let size = block_type.len(n).expect("whole blocks");
    case(values(n), size, kernel, peers)
}

fn dequantize_ggml(n: usize, block_type: GgmlType, peers: Vec<Peer<u8>>) -> Box<dyn Case> {
    let size = block_type.len(n).expect("whole blocks");
    let mut blocks = Buffer::new(size, |_| 1);
    let made = Backend::detect().quantize_ggml(&values::<f32>(n), block_type, &mut blocks);
    made.expect("finite values");
    let kernel = move |backend: Backend, blocks: &[u8], values: &mut [f32]| {
        let done = backend.dequantize_ggml(blocks, block_type, values);
        done.expect("finite scales");
    };
    case(blocks, n, kernel, peers)
}

fn dequantize_blocks(
    n: usize,
    block_size: usize,
    scheme: Scheme,
    peers: Vec<Peer<u8>>,
) -> Box<dyn Case> {
    let scales = vec![params::<f32>(scheme).scale(); n / block_size];
    let kernel = move |backend: Backend, codes: &[u8], values: &mut [f32]| {
        backend
            .dequantize_blocks(codes, block_size, scheme, &scales, &[], values)
            .expect("usable scales");
    };
    case(bytes(scheme.dtype.storage_len(n)), n, kernel, peers)
}

fn quantize_columns(n: usize) -> Box<dyn Case> {
    let columns = Columns::new(INT8, f32::TYPE, &[params::<f32>(INT8); COLUMNS]);
    let kernel = move |backend: Backend, values: &[f32], codes: &mut [u8]| {
        black_box(backend.quantize_columns(values, &columns, codes));
    };
    case(values(n), n, kernel, vec![])
}

fn column_ranges(n: usize) -> Box<dyn Case> {
    let mut ranges = vec![ValueRange::EMPTY; COLUMNS];
    let kernel = move |backend: Backend, values: &[f32], _: &mut [u8]| {
        backend.column_ranges(values, &mut ranges);
    };
    case(values(n), 0, kernel, vec![])
}

fn fake_quantize(n: usize) -> Box<dyn Case> {
    let params = params::<f32>(INT8);
    let kernel = move |backend: Backend, values: &[f32], dequantized: &mut [f32]| {
        black_box(backend.fake_quantize(values, INT8, params, dequantized));
    };
    case(values(n), n, kernel, vec![])
}

fn quantize_with_stats<F: Element>(n: usize) -> Box<dyn Case> {
    let params = params::<F>(INT8);
    let kernel = move |backend: Backend, values: &[F], codes: &mut [u8]| {
        black_box(backend.quantize_with_stats(values, INT8, params, codes));
    };
    case(values(n), n, kernel, vec![])
}

fn pack(n: usize) -> Box<dyn Case> {
    let kernel = |backend: Backend, codes: &[u8], packed: &mut [u8]| {
        backend.pack(codes, IntType::Int4, packed, 0)
    };
    case(bytes(n), n / 2, kernel, vec![])
}

fn unpack(n: usize) -> Box<dyn Case> {
    let kernel = |backend: Backend, packed: &[u8], codes: &mut [u8]| {
        backend.unpack(packed, 0, IntType::Int4, codes);
    };
    case(bytes(n / 2), n, kernel, vec![])
}

#[cfg(test)]
mod tests {
    use super::KERNELS;
    use crate::SIZES;

    #[test]
    fn every_contender_runs() {
        for kernel in KERNELS {
            let mut case = (kernel.case)(SIZES[0]);
            for contender in case.contenders() {
                case.run(contender, 1);
            }
        }
    }

    #[test]
    fn identifiers_differ() {
        for (i, kernel) in KERNELS.iter().enumerate() {
            assert!(KERNELS[..i].iter().all(|other| other.id != kernel.id));
        }
    }
}
