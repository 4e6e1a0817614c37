//! Whole tensors, on one and two threads.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::sync::{LazyLock, Mutex};

use quant_core::{Blocks, ErrorStats, FloatType, Granularity, STATS_CHUNK, Search};
use quant_simd::{Importance, ProcessError, Sink, TensorQuantizer};
use quant_testkit::hurtful;
use rayon::ThreadPool;

use crate::case::{Case, by_float};
use crate::values::{self, Value};

static POOLS: LazyLock<[Pool; 2]> = LazyLock::new(|| [1, 2].map(Pool::new));

/// Threads; `None` where there is no system, and so only one.
struct Pool(Option<ThreadPool>);

impl Pool {
    fn new(threads: usize) -> Self {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        match pool.build() {
            Ok(pool) => Self(Some(pool)),
            Err(error) => {
                let why = error.source().and_then(|it| it.downcast_ref::<io::Error>());
                let unsupported = why.is_some_and(|it| it.kind() == io::ErrorKind::Unsupported);
                assert!(unsupported, "threads: {error}");
                Self(None)
            }
        }
    }

    fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.0 {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

/// Takes the parts of a tensor.
struct Memory {
    codes: Mutex<Vec<u8>>,
    scales: Mutex<Vec<u8>>,
    zero_points: Mutex<Vec<u8>>,
}

impl Memory {
    fn new(codes: usize, scales: usize, zero_points: usize) -> Self {
        let filled = |len| Mutex::new(vec![0xa5; len]);
        Self {
            codes: filled(codes),
            scales: filled(scales),
            zero_points: filled(zero_points),
        }
    }

    fn record(&self, case: &mut Case<'_>) {
        for (name, part) in [
            ("codes", &self.codes),
            ("scales", &self.scales),
            ("zero points", &self.zero_points),
        ] {
            case.record.bytes(name, &part.lock().expect("no panic"));
        }
    }
}

fn put(to: &Mutex<Vec<u8>>, offset: usize, bytes: &[u8]) -> Result<(), Infallible> {
    to.lock().expect("no panic")[offset..offset + bytes.len()].copy_from_slice(bytes);
    Ok(())
}

impl Sink for Memory {
    type Error = Infallible;
    fn codes(&self, offset: usize, bytes: &[u8]) -> Result<(), Infallible> {
        put(&self.codes, offset, bytes)
    }
    fn scales(&self, offset: usize, bytes: &[u8]) -> Result<(), Infallible> {
        put(&self.scales, offset, bytes)
    }
    fn zero_points(&self, offset: usize, bytes: &[u8]) -> Result<(), Infallible> {
        put(&self.zero_points, offset, bytes)
    }
}

/// Shapes of up to four axes, cut in every way; every 40th has more than one chunk, so that there
/// is something for a second thread to do.
fn quantizer(case: &mut Case<'_>) -> TensorQuantizer {
    let random = &mut case.random;
    let rank = 1 + random.below(4);
    let mut shape: Vec<usize> = (0..rank).map(|_| 1 + random.below(8)).collect();
    if random.below(3) == 0 {
        shape[random.below(rank)] = 1 + random.below(70);
    }
    if case.round % 40 == 39 {
        shape = match random.below(3) {
            0 => vec![STATS_CHUNK + 1 + random.below(900)],
            1 => vec![2, 40_000 + random.below(900)],
            _ => vec![(STATS_CHUNK + 7000) / 48, 48],
        };
    }
    let rank = shape.len();
    let (axis, block_axis) = (random.below(rank), random.below(rank));
    let granularity = match random.below(4) {
        0 => Granularity::PerTensor,
        1 => Granularity::PerChannel {
            axis: axis as isize,
        },
        2 if axis != block_axis => Granularity::PerBlock {
            axis: axis as isize,
            block_axis: block_axis as isize - rank as isize,
            block_size: 1 + random.below(shape[block_axis]).min(31),
        },
        _ => Granularity::Blocks(shape.iter().map(|&dim| random.below(dim + 1)).collect()),
    };
    let blocks = Blocks::new(&shape, &granularity).expect("blocks no larger than their axes");
    case.record.parameter("shape", format!("{shape:?}"));
    case.record
        .parameter("granularity", format!("{granularity:?}"));
    TensorQuantizer {
        backend: case.backend,
        scheme: case.scheme,
        source: case.float,
        blocks,
        search: Search::None,
        importance: None,
    }
}

fn pool(case: &mut Case<'_>) -> &'static Pool {
    let pool = case.random.below(2);
    case.record.parameter("threads", pool + 1);
    &POOLS[pool]
}

/// A tensor's bytes, at any address.
fn tensor<F: Value>(case: &mut Case<'_>, count: usize) -> Vec<u8> {
    let mut values: Vec<F> = Vec::new();
    let of = 1 + case.random.below(300);
    let few = values::block::<F>(&mut case.random, case.scheme, of);
    if count > 1000 {
        values.extend(few.iter().cycle().take(count - 1000));
    }
    while values.len() < count {
        let len = of.min(count - values.len());
        values.extend(values::block::<F>(&mut case.random, case.scheme, len));
    }
    let edges = hurtful::edges();
    if case.random.below(12) == 0 {
        for _ in 0..1 + case.random.below(3) {
            values[case.random.below(count)] = edges[case.random.below(edges.len())];
        }
    }
    bytemuck::cast_slice(&values).to_vec()
}

fn record_failure(case: &mut Case<'_>, failure: ProcessError<Infallible>) {
    match failure {
        ProcessError::NonFinite { first, count } => {
            case.record.count("first non-finite", first as u64);
            case.record.count("non-finite", count);
        }
        ProcessError::Params { block, source } => case.record.failure(block, source),
        ProcessError::Sink(never) => match never {},
        ProcessError::Argument(error) => unreachable!("{error}"),
        ProcessError::NoMemory => unreachable!("machines that run this have memory"),
    }
}

pub fn quantize(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        if let Some(stats) = record_quantized::<F, _>(case, TensorQuantizer::quantize) {
            case.record.stats(&stats);
        }
    }
    by_float!(of(case));
}

pub fn quantize_searched(case: &mut Case<'_>) {
    fn searched(
        quantizer: &TensorQuantizer,
        values: &[u8],
        memory: &Memory,
    ) -> Result<ErrorStats, ProcessError<Infallible>> {
        let quantizer = TensorQuantizer {
            search: Search::Mse,
            ..quantizer.clone()
        };
        quantizer.quantize(values, memory)
    }
    fn of<F: Value>(case: &mut Case<'_>) {
        if let Some(stats) = record_quantized::<F, _>(case, searched) {
            case.record.stats(&stats);
        }
    }
    by_float!(of(case));
}

/// Blocks that are searched many at a time, every second tensor by how much its elements matter.
pub fn quantize_searched_blocks(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let block_size = [32, 64][case.random.below(2)];
        let shape = [1 + case.random.below(2), 1024 + 32 * case.random.below(8)];
        let granularity = Granularity::Blocks(vec![1, block_size]);
        let blocks = Blocks::new(&shape, &granularity).expect("blocks smaller than their axis");
        case.record.parameter("shape", format!("{shape:?}"));
        case.record.parameter("blocks of", block_size);
        let axis = case.random.below(4);
        let weights = shape.get(axis).map(|&len| {
            let weights: Vec<f64> = (0..len).map(|_| case.random.below(99) as f64).collect();
            Importance::new(&shape, axis, &weights)
        });
        let quantizer = TensorQuantizer {
            backend: case.backend,
            scheme: case.scheme,
            source: case.float,
            blocks,
            search: Search::Mse,
            importance: weights,
        };
        if let Some(stats) = record_by::<F, _>(case, &quantizer, TensorQuantizer::quantize) {
            case.record.stats(&stats);
        }
    }
    by_float!(of(case));
}

pub fn quantize_unmeasured(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        record_quantized::<F, _>(case, TensorQuantizer::quantize_unmeasured);
    }
    by_float!(of(case));
}

/// A method that quantizes.
type Quantize<T> = fn(&TensorQuantizer, &[u8], &Memory) -> Result<T, ProcessError<Infallible>>;

fn record_quantized<F: Value, T: Send>(case: &mut Case<'_>, quantize: Quantize<T>) -> Option<T> {
    let quantizer = quantizer(case);
    record_by::<F, T>(case, &quantizer, quantize)
}

fn record_by<F: Value, T: Send>(
    case: &mut Case<'_>,
    quantizer: &TensorQuantizer,
    quantize: Quantize<T>,
) -> Option<T> {
    let bytes = tensor::<F>(case, quantizer.blocks.element_count());
    record_bytes(case, quantizer, &bytes, quantize)
}

/// Quantizes and measures these values.
pub fn record_values(case: &mut Case<'_>, quantizer: &TensorQuantizer, values: &[u8]) {
    if let Some(stats) = record_bytes(case, quantizer, values, TensorQuantizer::quantize) {
        case.record.stats(&stats);
    }
}

fn record_bytes<T: Send>(
    case: &mut Case<'_>,
    quantizer: &TensorQuantizer,
    bytes: &[u8],
    quantize: Quantize<T>,
) -> Option<T> {
    let (values, pool) = (case.input("values", bytes), pool(case));
    let (codes, scales) = (quantizer.codes_len(), quantizer.scales_len());
    let memory = Memory::new(codes, scales, quantizer.zero_points_len());
    match pool.install(|| quantize(quantizer, values.get(), &memory)) {
        Ok(done) => {
            memory.record(case);
            Some(done)
        }
        Err(failure) => {
            record_failure(case, failure);
            None
        }
    }
}

/// Codes, scales and zero points as in a file.
fn stored(case: &mut Case<'_>, quantizer: &TensorQuantizer) -> [Vec<u8>; 3] {
    let codes = case.stored_codes(quantizer.blocks.element_count());
    let pool = hurtful::scales(quantizer.scale_type());
    let legal = hurtful::zero_points(case.scheme);
    let (mut scales, mut zero_points) = (Vec::new(), Vec::new());
    // One that cannot be, in few.
    let bad = case.random.below(20 * quantizer.blocks.scale_count());
    for block in 0..quantizer.blocks.scale_count() {
        let scale = match case.random.below(3) {
            _ if block == bad => f32::from_bits(case.random.bits() as u32 | 1 << 31),
            0 => pool[case.random.below(pool.len())],
            _ => pool[case.random.below(7)],
        };
        match quantizer.scale_type() {
            FloatType::F32 => scales.extend(scale.to_le_bytes()),
            FloatType::F16 => scales.extend(half::f16::from_f32(scale).to_le_bytes()),
            FloatType::Bf16 => scales.extend(half::bf16::from_f32(scale).to_le_bytes()),
        }
        if case.scheme.stores_zero_point() {
            zero_points.push(legal[case.random.below(legal.len())] as u8);
        }
    }
    [codes, scales, zero_points]
}

pub fn dequantize(case: &mut Case<'_>) {
    let quantizer = quantizer(case);
    let target = FloatType::ALL[case.random.below(3)];
    case.record.parameter("values of type", target.name());
    let [codes, scales, zero_points] = stored(case, &quantizer);
    let codes = case.input("codes", &codes);
    let scales = case.input("scales", &scales);
    let zero_points = case.input("zero points", &zero_points);
    let pool = pool(case);
    let values = Memory::new(quantizer.blocks.element_count() * target.size(), 0, 0);
    let done = pool.install(|| {
        let (codes, scales) = (codes.get(), scales.get());
        quantizer.dequantize(codes, scales, zero_points.get(), target, &values)
    });
    match done {
        Ok(()) => {
            let values = values.codes.into_inner().expect("no panic");
            case.record.bytes("values", &values);
        }
        Err(failure) => record_failure(case, failure),
    }
}

pub fn dequantize_range(case: &mut Case<'_>) {
    let quantizer = quantizer(case);
    let count = quantizer.blocks.element_count();
    let start = case.random.below(count) / 2 * 2;
    let end = start + case.random.below((count - start).min(5000) + 1);
    case.record.parameter("elements", format!("{start}..{end}"));
    let [codes, scales, zero_points] = stored(case, &quantizer);
    let codes = case.input("codes", &codes);
    let scales = case.input("scales", &scales);
    let zero_points = case.input("zero points", &zero_points);
    let mut values = case.output::<f32>("values", end - start);
    let done = quantizer.dequantize_range(
        codes.get(),
        scales.get(),
        zero_points.get(),
        start..end,
        values.get_mut(),
    );
    match done {
        Ok(()) => case.record.bytes("values", values.get()),
        Err(failure) => record_failure(case, failure),
    }
}

pub fn non_finite(case: &mut Case<'_>) {
    fn of<F: Value>(case: &mut Case<'_>) {
        let quantizer = quantizer(case);
        let count = quantizer.blocks.element_count();
        let mut bytes = tensor::<F>(case, count);
        let edges = hurtful::edges::<F>();
        for _ in 0..case.random.below(4) {
            let (at, edge) = (case.random.below(count), case.random.below(edges.len()));
            let size = size_of::<F>();
            let edge = bytemuck::bytes_of(&edges[edge]);
            bytes[at * size..][..size].copy_from_slice(edge);
        }
        let (values, pool) = (case.input("values", &bytes), pool(case));
        let found = pool.install(|| quantizer.non_finite(values.get()));
        let found = found.expect("all values");
        let (first, count) = found.map_or((u64::MAX, 0), |(first, count)| (first as u64, count));
        case.record.count("first", first);
        case.record.count("count", count);
    }
    by_float!(of(case));
}
