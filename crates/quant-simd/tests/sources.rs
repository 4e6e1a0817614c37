//! Values that are not in memory: the same codes, scales, errors and statistics.

use std::sync::Mutex;

use quant_core::{Blocks, Dialect, FloatType, Granularity, IntType, Mode, Params, Scheme};
use quant_simd::{Backend, Buffers, ProcessError, Sink, Source, TensorQuantizer};

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
                    search: quant_core::Search::None,
                    importance: None,
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
        let found = quantizer.non_finite(&bytes).unwrap();
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
            FloatType::F16 | FloatType::Bf16 => unreachable!("the dialect has scales in f32"),
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

#[test]
fn what_does_not_fit_is_an_error_with_counts() {
    fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
        result.err().expect("an error").to_string()
    }
    let affine = Scheme::new(IntType::Int4, Mode::Affine);
    let blocks = Blocks::new(&[4, 6], &Granularity::PerChannel { axis: 0 }).unwrap();
    let quantizer = TensorQuantizer::new(affine, FloatType::F32, blocks);
    let values = [1.0_f32; 24];
    let bytes: &[u8] = bytemuck::cast_slice(&values);

    let few = "values: 23 elements instead of 24";
    assert_eq!(said(quantizer.quantize_to_vec(&values[1..])), few);
    assert_eq!(
        said(quantizer.quantize(&bytes[4..], &Parts::default())),
        few
    );
    assert_eq!(said(quantizer.non_finite(&bytes[4..])), few);
    let torn = "values: 95 bytes instead of 96, for 24 elements of f32";
    let failed = quantizer.quantize_unmeasured(&bytes[1..], &Parts::default());
    assert_eq!(said(failed), torn);
    let other = quantizer.quantize_to_vec(&[quant_simd::f16::ONE; 24]);
    assert_eq!(said(other), "values of f16, for a quantizer of f32");

    let mut room = [0; 200];
    let into = |room: &mut [u8], [codes, scales, zero_points]: [usize; 3]| {
        let (codes, rest) = room.split_at_mut(codes);
        let (scales, rest) = rest.split_at_mut(scales);
        let sink = Buffers::new(codes, scales, &mut rest[..zero_points]);
        quantizer.quantize(bytes, &sink).map(|_| ())
    };
    assert_eq!(into(&mut room, [12, 16, 4]), Ok(()));
    for (lengths, expected) in [
        (
            [11, 16, 4],
            "codes or values: room for 11 bytes instead of 12",
        ),
        ([12, 15, 4], "scales: room for 15 bytes instead of 16"),
        ([12, 16, 5], "zero points: room for 5 bytes instead of 4"),
    ] {
        assert_eq!(said(into(&mut room, lengths)), expected);
    }

    let tensor = quantizer.quantize_to_vec(&values).unwrap();
    let back = |codes: &[u8], scales: &[u8], zero_points: &[u8], room: usize| {
        let mut values = vec![0; room];
        let sink = Buffers::new(&mut values, &mut [], &mut []);
        said(quantizer.dequantize(codes, scales, zero_points, FloatType::F16, &sink))
    };
    let (codes, scales, zero_points) = (&tensor.codes, &tensor.scales, &tensor.zero_points);
    for (got, expected) in [
        (
            back(&codes[1..], scales, zero_points, 48),
            "codes: 11 bytes instead of 12, for 24 elements of int4",
        ),
        (
            back(codes, &scales[4..], zero_points, 48),
            "scales: 3 elements instead of 4",
        ),
        (
            back(codes, scales, &[], 48),
            "zero points: 0 bytes instead of 4, beside 4 scales",
        ),
        (
            back(codes, scales, zero_points, 47),
            "codes or values: room for 47 bytes instead of 48",
        ),
    ] {
        assert_eq!(got, expected);
    }
    let some = |elements: std::ops::Range<usize>| {
        let mut values = [0.0; 24];
        let values = &mut values[..elements.len().min(24)];
        said(quantizer.dequantize_range(codes, scales, zero_points, elements, values))
    };
    assert_eq!(some(20..25), "elements 20 to 25 of a tensor of 24");
    assert_eq!(
        some(3..5),
        "element 3 does not start a byte: those of int4 start at multiples of 2"
    );
    let params = Params::new(affine, 1.0, 0, FloatType::F32).unwrap();
    let short = quant_simd::dequantize::<f32>(&[0; 2], affine, params, 5);
    assert_eq!(
        said(short),
        "codes: 2 bytes instead of 3, for 5 elements of int4"
    );

    let mut changed = tensor.clone();
    changed.codes.pop();
    assert!(said(changed.dequantize::<f32>()).starts_with("codes: 11 bytes"));
    assert!(said(changed.unpacked()).starts_with("codes: 11 bytes"));
}
