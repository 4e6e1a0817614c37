//! One call of one function: what goes in, what the reference makes of it, and the comparison.

use bytemuck::cast_slice;
use half::{bf16, f16};
use quant_core::observer::{Histogram, MinMax};
use quant_core::{FloatType, Params, ParamsError, Scheme};
use quant_simd::{Backend, Element};
use quant_testkit::hurtful::Bits;

use crate::arena::{Arenas, Placement};
use crate::calls;

/// A function on slices; nibbles' offsets, blocks' sizes and numbers of columns are part of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    ValueRange,
    MinMax,
    /// With so many bins; of values that come twice, the second time after the bins became wide.
    Histogram(usize),
    Quantize,
    QuantizeWithStats,
    Dequantize,
    FakeQuantize,
    ErrorStats,
    Pack(usize),
    Unpack(usize),
    QuantizeBlocks(usize),
    DequantizeBlocks(usize),
    ColumnRanges(usize),
    QuantizeColumns(usize),
    DequantizeColumns(usize),
}

use Function as Fn;

/// What a call returned, compared by its bits.
#[derive(Clone, Debug, PartialEq)]
pub enum Returned {
    Nothing,
    Count(u64),
    /// Bits of the bounds, and the number of non-finite values.
    Ranges(Vec<(u32, u32, u64)>),
    /// Counts, then the bits of the sums.
    Stats([u64; 7]),
    MinMax(MinMax),
    Histogram(Box<Histogram>),
    Error(usize, ParamsError),
}

/// Floats that these tests can make.
pub trait Value: Element + Bits {}
impl Value for f32 {}
impl Value for f16 {}
impl Value for bf16 {}

/// The arguments of a call. Which of them matter depends on the function.
#[derive(Clone, Debug)]
pub struct Case<'a, F> {
    pub function: Function,
    pub scheme: Scheme,
    /// One; or one per column, or, to dequantize, per block.
    pub params: &'a [Params],
    /// What functions of values take.
    pub values: &'a [F],
    /// What functions of codes take, one per byte; only their low bits where they are packed.
    pub codes: &'a [u8],
}

/// Bytes that belong together, and the size of an element, which is also their alignment.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    pub bytes: Vec<u8>,
    pub size: usize,
}

impl Buffer {
    pub fn of<T: bytemuck::Pod>(elements: &[T]) -> Self {
        Self {
            bytes: cast_slice(elements).to_vec(),
            size: size_of::<T>(),
        }
    }

    /// What an output holds before the call.
    fn unwritten(len: usize, size: usize) -> Self {
        let bytes = (0..len).map(|i| 0xa5 ^ i as u8).collect();
        Self { bytes, size }
    }
}

/// A call's outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub outputs: Vec<Buffer>,
    pub returned: Returned,
}

impl<F: Value> Case<'_, F> {
    /// How many elements go in, or come out.
    pub fn len(&self) -> usize {
        match self.function {
            Fn::Dequantize
            | Fn::Pack(_)
            | Fn::Unpack(_)
            | Fn::DequantizeBlocks(_)
            | Fn::DequantizeColumns(_) => self.codes.len(),
            _ => self.values.len(),
        }
    }

    fn scale_size(&self) -> usize {
        self.scheme.dialect.scale_type(F::TYPE).size()
    }

    /// The inputs, in the order of the function's arguments.
    pub fn inputs(&self) -> Vec<Buffer> {
        let values = || Buffer::of(self.values);
        let codes = |packed: bool, offset: usize| {
            if !packed {
                return Buffer::of(self.codes);
            }
            let mut nibbles = vec![9; offset];
            nibbles.extend(self.codes);
            let dtype = self.scheme.dtype;
            let mut bytes = vec![0; dtype.storage_len(nibbles.len())];
            quant_core::reference::pack(&nibbles, dtype, &mut bytes);
            Buffer::of(&bytes)
        };
        let stored = || codes(true, 0);
        match self.function {
            Fn::ErrorStats => {
                let dequantized = self.values.iter().enumerate();
                // Errors of many magnitudes, none at all, and what is not finite on one side only.
                let dequantized = dequantized.map(|(i, value)| match i % 7 {
                    0 => value.to_f32(),
                    6 if i % 5 == 0 => f32::NAN,
                    k => value.to_f32() * (1.0 + 0.01 * k as f32) + 0.125,
                });
                vec![values(), Buffer::of(&dequantized.collect::<Vec<f32>>())]
            }
            Fn::Dequantize | Fn::DequantizeColumns(_) => vec![stored()],
            Fn::Pack(_) => vec![codes(false, 0)],
            Fn::Unpack(offset) => vec![codes(true, offset)],
            Fn::DequantizeBlocks(_) => {
                let scales = self.params.iter().map(Params::scale);
                let zero_points = self.params.iter().map(|p| p.zero_point() as u8);
                let scales = match self.scale_size() {
                    4 => Buffer::of(&scales.collect::<Vec<f32>>()),
                    _ => Buffer::of(&scales.map(F::from_f32).collect::<Vec<F>>()),
                };
                let mut all = vec![stored(), scales];
                if self.scheme.stores_zero_point() {
                    all.push(Buffer::of(&zero_points.collect::<Vec<u8>>()));
                }
                all
            }
            _ => vec![values()],
        }
    }

    /// The outputs before the call, in the order of the function's arguments.
    pub fn outputs(&self) -> Vec<Buffer> {
        let stored = || Buffer::unwritten(self.scheme.dtype.storage_len(self.len()), 1);
        let values = || Buffer::unwritten(self.len() * size_of::<F>(), size_of::<F>());
        match self.function {
            Fn::ValueRange
            | Fn::MinMax
            | Fn::Histogram(_)
            | Fn::ErrorStats
            | Fn::ColumnRanges(_) => Vec::new(),
            Fn::Quantize | Fn::QuantizeWithStats | Fn::QuantizeColumns(_) => vec![stored()],
            Fn::Dequantize
            | Fn::FakeQuantize
            | Fn::DequantizeBlocks(_)
            | Fn::DequantizeColumns(_) => vec![values()],
            Fn::Pack(offset) => {
                let count = offset + self.len();
                vec![Buffer::unwritten(self.scheme.dtype.storage_len(count), 1)]
            }
            Fn::Unpack(_) => vec![Buffer::unwritten(self.len(), 1)],
            Fn::QuantizeBlocks(size) => {
                let (count, size) = (self.len().div_ceil(size), self.scale_size());
                let mut all = vec![stored(), Buffer::unwritten(count * size, size)];
                if self.scheme.stores_zero_point() {
                    all.push(Buffer::unwritten(count, 1));
                }
                all
            }
        }
    }

    /// What the reference makes of it.
    pub fn expected(&self, arenas: &mut Arenas) -> Outcome {
        let call = |from: &[&[u8]], to: &mut [&mut [u8]]| calls::reference(self, from, to);
        let placement = Placement::ALIGNED;
        let outcome = arenas.call(placement, &self.inputs(), &self.outputs(), call);
        outcome.expect("the reference writes nothing else")
    }

    /// Compares every backend with the reference, buffers at `placement`.
    pub fn check(&self, arenas: &mut Arenas, placement: Placement) {
        self.check_all(arenas, &[placement]);
    }

    /// Compares every backend with the reference, buffers at every one of `placements`.
    pub fn check_all(&self, arenas: &mut Arenas, placements: &[Placement]) {
        let due = |_: &&Placement| quant_testkit::is_due();
        let placements: Vec<Placement> = placements.iter().filter(due).copied().collect();
        if placements.is_empty() {
            return;
        }
        let (expected, inputs, outputs) = (self.expected(arenas), self.inputs(), self.outputs());
        for placement in placements {
            for &backend in Backend::available() {
                let call =
                    |from: &[&[u8]], to: &mut [&mut [u8]]| calls::backend(backend, self, from, to);
                let got = arenas.call(placement, &inputs, &outputs, call);
                let got = got.unwrap_or_else(|wrong| {
                    panic!("{wrong}\nin {}", self.describe(backend, placement))
                });
                if let Some(difference) = self.difference(&expected, &got) {
                    panic!("{difference}\nin {}", self.describe(backend, placement));
                }
            }
        }
    }

    fn describe(&self, backend: Backend, placement: Placement) -> String {
        let (name, function, float) = (backend.name(), self.function, F::TYPE.name());
        let (scheme, len) = (self.scheme, self.len());
        format!("{name} {function:?} of {len} {float}, {scheme:?}, {placement:?}")
    }

    /// The first difference, in words. What a failed call wrote is of no use.
    fn difference(&self, expected: &Outcome, got: &Outcome) -> Option<String> {
        if !matches!(expected.returned, Returned::Error(..)) {
            let pairs = expected.outputs.iter().zip(&got.outputs).enumerate();
            for (which, (want, got)) in pairs {
                let mut bytes = want.bytes.iter().zip(&got.bytes);
                if let Some(byte) = bytes.position(|(want, got)| want != got) {
                    return Some(self.explain(which, byte, want, got));
                }
            }
        }
        let differ = expected.returned != got.returned;
        differ.then(|| format!("returned {:?}, not {:?}", got.returned, expected.returned))
    }

    fn explain(&self, which: usize, byte: usize, want: &Buffer, got: &Buffer) -> String {
        let element = byte - byte % want.size..byte - byte % want.size + want.size;
        let index = byte / want.size;
        let (want, got) = (&want.bytes[element.clone()], &got.bytes[element]);
        // The first of the byte's codes that differs.
        let packed = want.len() == 1 && self.outputs()[0].bytes.len() < self.len();
        let packed = packed && !matches!(self.function, Fn::Pack(_));
        let bit = (want[0] ^ got[0]).trailing_zeros() as usize;
        let position = match packed {
            false => index,
            true => (8 * index + bit) / self.scheme.dtype.bits() as usize,
        };
        let input = match which {
            0 => self.describe_input(position),
            1 => "a block's scale".into(),
            _ => "a block's zero point".into(),
        };
        let params = match self.function {
            Fn::Pack(_) | Fn::Unpack(_) | Fn::QuantizeBlocks(_) => None,
            Fn::DequantizeBlocks(size) => self.params.get(position / size),
            Fn::QuantizeColumns(columns) | Fn::DequantizeColumns(columns) => {
                self.params.get(position % columns)
            }
            _ => self.params.first(),
        };
        let params = params.map(|it| (it.scale().to_bits(), it));
        format!(
            "output {which}, element {position}: {input}, scale's bits and {params:x?}: \
             want {want:02x?}, got {got:02x?} (little-endian bytes)"
        )
    }

    fn describe_input(&self, position: usize) -> String {
        let takes_values = self.inputs()[0].size == size_of::<F>();
        match (self.values.get(position), self.codes.get(position)) {
            (Some(value), _) if takes_values => {
                format!("input {:#010x} ({:e})", value.bits(), value.to_f32())
            }
            (_, Some(code)) => format!("code {code:#04x}"),
            _ => "no input".into(),
        }
    }
}

/// The elements of an input.
pub fn elements<T: bytemuck::Pod>(bytes: &[u8]) -> &[T] {
    cast_slice(bytes)
}

/// The type that the scheme stores the scales of `F` in, for [`Params`].
pub fn scale_type<F: Value>(scheme: Scheme) -> FloatType {
    scheme.dialect.scale_type(F::TYPE)
}
