//! Values that are not in memory: the same codes, scales, errors and statistics.

use std::sync::Mutex;

use quant_core::{Blocks, Dialect, FloatType, Granularity, IntType, Mode, Scheme};
use quant_simd::{Backend, ProcessError, Sink, Source, TensorQuantizer};

#[derive(Default)]
struct Parts {
    codes: Mutex<Vec<u8>>,
    scales: Mutex<Vec<u8>>,
    zero_points: Mutex<Vec<u8>>,
}

fn put(place: &Mutex<Vec<u8>>, offset: usize, bytes: &[u8]) {
    let mut place = place.lock().unwrap();
    let end = offset + bytes.len();
    let len = place.len().max(end);
    place.resize(len, 0);
    place[offset..end].copy_from_slice(bytes);
}

impl Sink for Parts {
    type Error = &'static str;
    fn codes(&self, offset: usize, bytes: &[u8]) -> Result<(), Self::Error> {
        put(&self.codes, offset, bytes);
        Ok(())
    }
    fn scales(&self, offset: usize, bytes: &[u8]) -> Result<(), Self::Error> {
        put(&self.scales, offset, bytes);
        Ok(())
    }
    fn zero_points(&self, offset: usize, bytes: &[u8]) -> Result<(), Self::Error> {
        put(&self.zero_points, offset, bytes);
        Ok(())
    }
}

/// Bytes that end somewhere.
struct File<'a>(&'a [u8]);

impl Source for File<'_> {
    type Error = &'static str;
    fn read(&self, offset: usize, buffer: &mut [u8]) -> Result<(), Self::Error> {
        let bytes = self.0.get(offset..offset + buffer.len());
        buffer.copy_from_slice(bytes.ok_or("truncated")?);
        Ok(())
    }
}

fn values(n: usize, source: FloatType) -> Vec<u8> {
    let values = (0..n).map(|i| ((i * 7919) % 10007) as f32 / 5000.0 - 1.0);
    match source {
        FloatType::F32 => values.flat_map(f32::to_le_bytes).collect(),
        FloatType::F16 => values
            .flat_map(|x| half::f16::from_f32(x).to_le_bytes())
            .collect(),
        FloatType::Bf16 => values
            .flat_map(|x| half::bf16::from_f32(x).to_le_bytes())
            .collect(),
    }
}

/// Every arrangement: runs, blocks, rows, groups larger than the cache, scattered ones.
fn quantizers() -> Vec<TensorQuantizer> {
    let shapes: [(&[usize], Granularity); 10] = [
        (&[257, 515], Granularity::PerTensor),
        (&[3, 1 << 20], Granularity::PerTensor),
        (&[257, 515], Granularity::PerChannel { axis: 0 }),
        (&[3, 700_001], Granularity::PerChannel { axis: 0 }),
        (&[2, 1_100_000], Granularity::PerChannel { axis: 0 }),
        (&[700, 515], Granularity::PerChannel { axis: 1 }),
        (&[40_000, 33], Granularity::PerChannel { axis: 1 }),
        (&[300, 1024], Granularity::Blocks(vec![1, 32])),
        (&[300, 1000], Granularity::Blocks(vec![1, 48])),
        (&[96, 64, 40], Granularity::Blocks(vec![8, 0, 8])),
    ];
    let mut quantizers = Vec::new();
    for (shape, granularity) in shapes {
        for (dtype, mode) in [
            (IntType::Int8, Mode::Symmetric),
            (IntType::Uint4, Mode::Affine),
        ] {
            for source in [FloatType::F32, FloatType::F16, FloatType::Bf16] {
                quantizers.push(TensorQuantizer {
                    backend: Backend::detect(),
                    scheme: Scheme {
                        dialect: Dialect::F32,
                        ..Scheme::new(dtype, mode)
                    },
                    source,
                    blocks: Blocks::new(shape, &granularity).unwrap(),
                });
            }
        }
    }
    quantizers
}

#[test]
fn a_source_gives_what_memory_gives() {
    for quantizer in quantizers() {
        let bytes = values(quantizer.blocks.element_count(), quantizer.source);
        let [memory, source, unmeasured] = [(); 3].map(|()| Parts::default());
        let stats = quantizer.quantize(&bytes, &memory).unwrap();
        let from = quantizer.quantize_source(&File(&bytes), &source).unwrap();
        assert_eq!(stats, from, "{quantizer:?}");
        let done = quantizer.quantize_source_unmeasured(&File(&bytes), &unmeasured);
        done.unwrap();
        let [memory, source, unmeasured] = [memory, source, unmeasured].map(|parts| {
            [parts.codes, parts.scales, parts.zero_points].map(|part| part.into_inner().unwrap())
        });
        assert!(memory == source && memory == unmeasured, "{quantizer:?}");

        let [codes, scales, zero_points] = &memory;
        let [memory, source] = [(); 2].map(|()| Parts::default());
        let float = quantizer.source;
        let done = quantizer.dequantize(codes, scales, zero_points, float, &memory);
        done.unwrap();
        let from = File(codes);
        let done = quantizer.dequantize_source(&from, scales, zero_points, float, &source);
        done.unwrap();
        let [memory, source] = [memory, source].map(|parts| parts.codes.into_inner().unwrap());
        assert!(memory == source, "{quantizer:?}");
    }
}

#[test]
fn what_is_wrong_with_a_source_ends_the_work() {
    for quantizer in quantizers() {
        let mut bytes = values(quantizer.blocks.element_count(), quantizer.source);
        let short = File(&bytes[..bytes.len() - 1]);
        let truncated = quantizer.quantize_source(&short, &Parts::default());
        assert_eq!(truncated, Err(ProcessError::Sink("truncated")));
        assert_eq!(quantizer.non_finite_source(&short), Err("truncated"));
        assert_eq!(quantizer.non_finite_source(&File(&bytes)), Ok(None));

        let size = quantizer.source.size();
        let at = quantizer.blocks.element_count() / 3;
        for position in [at, at + 5, quantizer.blocks.element_count() - 1] {
            bytes[position * size..][..size].fill(0xff);
        }
        let found = quantizer.non_finite(&bytes);
        assert_eq!(found, Some((at, 3)));
        assert_eq!(quantizer.non_finite_source(&File(&bytes)), Ok(found));
        let failed = quantizer.quantize_source(&File(&bytes), &Parts::default());
        let expected = ProcessError::NonFinite {
            first: at,
            count: 3,
        };
        assert_eq!(failed, Err(expected), "{quantizer:?}");

        let codes = vec![0; quantizer.codes_len() - 1];
        let scales = match quantizer.scale_type() {
            FloatType::F32 => 1_f32.to_le_bytes().repeat(quantizer.blocks.scale_count()),
            _ => unreachable!("the dialect has scales in f32"),
        };
        let zero_points = vec![0; quantizer.zero_points_len()];
        let failed = quantizer.dequantize_source(
            &File(&codes),
            &scales,
            &zero_points,
            FloatType::F32,
            &Parts::default(),
        );
        assert_eq!(
            failed,
            Err(ProcessError::Sink("truncated")),
            "{quantizer:?}"
        );
    }
}
