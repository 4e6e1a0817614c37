//! Golden vectors: what coremltools 9.0 itself computed for small, hurtful tensors.
//!
//! `golden/make_golden.py` made the file and describes its layout.

use std::collections::HashMap;
use std::sync::OnceLock;

use half::f16;
use quant_core::{IntType, Mode};
use safetensors::{Dtype, SafeTensors};

static FILE: &[u8] = include_bytes!("../golden/coremltools-9.0.safetensors");

/// All golden cases, in the order of the file.
pub fn cases() -> Vec<Case<'static>> {
    let golden = Golden::get();
    (0..golden.len()).map(|index| golden.case(index)).collect()
}

/// Values of one of the two float types.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Floats<'a> {
    /// Values of an f32 case.
    F32(&'a [f32]),
    /// Values of an f16 case.
    F16(&'a [f16]),
}

impl Floats<'_> {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bits of each value, for comparisons that tell the zeros apart.
    pub fn to_bits(&self) -> Vec<u32> {
        match self {
            Self::F32(values) => values.iter().map(|x| x.to_bits()).collect(),
            Self::F16(values) => values.iter().map(|x| u32::from(x.to_bits())).collect(),
        }
    }
}

/// What coremltools computed for one tensor.
///
/// A case with `error` has an input and nothing else: quantizing it must be refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Case<'a> {
    /// Position in the file.
    pub index: usize,
    /// Whether the tensor is f16, else f32.
    pub f16: bool,
    /// Type of the codes.
    pub dtype: IntType,
    /// Symmetric or affine.
    pub mode: Mode,
    /// Whether quantizing must report an error.
    pub error: bool,
    /// Shape of the tensor.
    pub shape: Vec<usize>,
    /// Block size per axis; it divides the axis and is never 0.
    pub blocks: Vec<usize>,
    /// The tensor, row-major.
    pub input: Floats<'a>,
    /// One byte per code, in two's complement for the signed types.
    pub codes: &'a [u8],
    /// The packed codes of a 4-bit type.
    pub packed: Option<&'a [u8]>,
    /// One scale per block, row-major over the blocks.
    pub scales: Floats<'a>,
    /// One byte per zero point, like `codes`; none where coremltools stores none.
    pub zero_points: Option<&'a [u8]>,
    /// The dequantized tensor.
    pub dequantized: Option<Floats<'a>>,
    /// Kind of block sizes, such as `per_channel`.
    pub granularity: &'a str,
    /// Kind of values, such as `near_ties`.
    pub values: &'a str,
}

/// The arrays of the file, aligned.
#[derive(Debug)]
pub struct Golden {
    f32: Pools<f32>,
    f16: Pools<f16>,
    codes: Vec<u8>,
    packed: Vec<u8>,
    zero_points: Vec<u8>,
    table: Vec<i32>,
    columns: HashMap<String, usize>,
    granularities: Vec<String>,
    values: Vec<String>,
}

#[derive(Debug)]
struct Pools<T> {
    inputs: Vec<T>,
    scales: Vec<T>,
    dequantized: Vec<T>,
}

impl Golden {
    /// The file that is compiled in, read once.
    pub fn get() -> &'static Self {
        static GOLDEN: OnceLock<Golden> = OnceLock::new();
        GOLDEN.get_or_init(|| Self::read(FILE))
    }

    /// Number of cases.
    pub fn len(&self) -> usize {
        self.table.len() / self.columns.len()
    }

    /// Whether there are no cases.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One case.
    ///
    /// # Panics
    ///
    /// If `index` is not less than [`len`](Self::len).
    pub fn case(&self, index: usize) -> Case<'_> {
        let width = self.columns.len();
        let row = &self.table[index * width..][..width];
        let cell = |column: &str| row[self.columns[column]];
        let offset = |column: &str| usize::try_from(cell(column)).ok();
        let axes = |column: &str| -> Vec<usize> {
            let rank = cell("rank");
            (0..rank)
                .map(|axis| cell(&format!("{column}{axis}")) as usize)
                .collect()
        };

        let f16 = cell("float") == 1;
        let dtype =
            [IntType::Int8, IntType::Uint8, IntType::Int4, IntType::Uint4][cell("dtype") as usize];
        let error = cell("error") == 1;
        let shape = axes("shape");
        let len: usize = shape.iter().product();
        let scale_count = cell("scale_count") as usize;
        // A case with an error has no offsets.
        let floats = |column: &str, len: usize| {
            offset(column).map(|start| {
                if f16 {
                    Floats::F16(&self.f16.pool(column)[start..][..len])
                } else {
                    Floats::F32(&self.f32.pool(column)[start..][..len])
                }
            })
        };
        let none = if f16 {
            Floats::F16(&[])
        } else {
            Floats::F32(&[])
        };

        Case {
            index,
            f16,
            dtype,
            mode: [Mode::Symmetric, Mode::Affine][cell("mode") as usize],
            error,
            blocks: axes("block"),
            input: floats("input", len).expect("every case has an input"),
            codes: offset("code").map_or(&[], |start| &self.codes[start..][..len]),
            packed: offset("packed").map(|start| &self.packed[start..][..len.div_ceil(2)]),
            scales: floats("scale", scale_count).unwrap_or(none),
            zero_points: offset("zero_point")
                .map(|start| &self.zero_points[start..][..scale_count]),
            dequantized: floats("dequantized", len),
            granularity: &self.granularities[cell("granularity") as usize],
            values: &self.values[cell("values") as usize],
            shape,
        }
    }

    fn read(file: &[u8]) -> Self {
        let (_, header) = SafeTensors::read_metadata(file).expect("golden file has a header");
        let metadata = header
            .metadata()
            .as_ref()
            .expect("golden file has metadata");
        let names =
            |key: &str| -> Vec<String> { metadata[key].split(',').map(str::to_owned).collect() };
        let columns = names("columns").into_iter().zip(0..).collect();

        let tensors = SafeTensors::deserialize(file).expect("golden file is valid");
        let bytes = |name: &str, dtype: Dtype| {
            let tensor = tensors.tensor(name).expect(name);
            assert_eq!(tensor.dtype(), dtype, "{name}");
            tensor.data().to_vec()
        };
        let f32s = |name: &str| words(&bytes(name, Dtype::F32), f32::from_le_bytes);
        let f16s = |name: &str| words(&bytes(name, Dtype::F16), f16::from_le_bytes);

        Self {
            f32: Pools {
                inputs: f32s("inputs_f32"),
                scales: f32s("scales_f32"),
                dequantized: f32s("dequantized_f32"),
            },
            f16: Pools {
                inputs: f16s("inputs_f16"),
                scales: f16s("scales_f16"),
                dequantized: f16s("dequantized_f16"),
            },
            codes: bytes("codes", Dtype::U8),
            packed: bytes("packed", Dtype::U8),
            zero_points: bytes("zero_points", Dtype::U8),
            table: words(&bytes("cases", Dtype::I32), i32::from_le_bytes),
            columns,
            granularities: names("granularities"),
            values: names("values"),
        }
    }
}

impl<T> Pools<T> {
    fn pool(&self, column: &str) -> &[T] {
        match column {
            "input" => &self.inputs,
            "scale" => &self.scales,
            "dequantized" => &self.dequantized,
            _ => unreachable!("no pool for column {column}"),
        }
    }
}

/// Copies, because the file's bytes have no alignment.
fn words<const N: usize, T>(bytes: &[u8], from_le_bytes: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, rest) = bytes.as_chunks::<N>();
    assert!(rest.is_empty());
    chunks.iter().map(|&chunk| from_le_bytes(chunk)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_whole() {
        let cases = cases();
        assert!(cases.len() >= 3000, "{}", cases.len());
        for case in &cases {
            let blocks: usize = case
                .shape
                .iter()
                .zip(&case.blocks)
                .map(|(dim, block)| dim / block)
                .product();
            let four_bits = case.dtype.bits() == 4;
            let unsigned = !case.dtype.is_signed();
            if case.error {
                assert!(case.codes.is_empty() && case.scales.is_empty(), "{case:?}");
                assert!(
                    case.packed.is_none() && case.zero_points.is_none(),
                    "{case:?}"
                );
                assert!(case.dequantized.is_none(), "{case:?}");
            } else {
                assert_eq!(case.codes.len(), case.input.len(), "{case:?}");
                assert_eq!(case.scales.len(), blocks, "{case:?}");
                assert_eq!(case.packed.is_some(), four_bits, "{case:?}");
                assert_eq!(
                    case.zero_points.is_some(),
                    unsigned || case.mode == Mode::Affine,
                    "{case:?}"
                );
            }
        }
    }
}
