//! What crosses the boundary by value.

use std::ffi::c_uint;
use std::mem::{MaybeUninit, transmute_copy};

use quant_core::{
    Dialect, ErrorStats, FloatType, GeometryError, GgmlType, IntType, Mode, OffsetKind, Params,
    ParamsError, Scheme, ValueRange,
};
use quant_simd::Backend;

/// The result of a call. Unless it is `QUANT_STATUS_OK`, outputs hold nothing of use.
#[must_use]
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantStatus {
    /// Done.
    Ok = 0,
    /// A pointer is null although there is something behind it.
    NullPointer = 1,
    /// A size is more than can be addressed.
    InvalidLength = 2,
    /// An output overlaps with another buffer.
    Overlap = 3,
    /// A number that its enumeration does not have; or codes, or a mode, that the dialect does not
    /// have.
    UnknownValue = 4,
    /// A block size is 0 where there must be one, or larger than its axis; or there is a part of a
    /// block where there must be whole ones.
    InvalidBlocks = 5,
    /// A scale is negative where none is, not finite, or not of its type; a zero point is out of range.
    InvalidParams = 6,
    /// There are NaN or infinities among values whose parameters were to be found.
    NonFinite = 7,
    /// The values are too large or too small: the scale or the zero point would overflow, or the
    /// scale would become 0. `QUANT_DIALECT_F32` is for such values, where they are not f32.
    OutOfRange = 8,
    /// The system starts no more threads.
    NoThreads = 9,
    /// A defect of this library.
    Internal = 10,
    /// There is not enough memory.
    NoMemory = 11,
    /// A tensor has more axes or elements than there can be.
    InvalidShape = 12,
    /// The values do not have the size that the other arguments ask for.
    InvalidValuesSize = 13,
    /// The codes do not have the size that the other arguments ask for.
    InvalidCodesSize = 14,
    /// The scales do not have the size that the other arguments ask for.
    InvalidScalesSize = 15,
    /// The zero points, or biases, do not have the size that the other arguments ask for.
    InvalidZeroPointsSize = 16,
    /// A setting of an observer is out of its range.
    InvalidSettings = 17,
    /// Observers of different settings, or moving averages, which depend on the order of the samples.
    CannotMerge = 18,
}

impl From<ParamsError> for QuantStatus {
    fn from(error: ParamsError) -> Self {
        match error {
            ParamsError::NonFinite => Self::NonFinite,
            ParamsError::ScaleOverflow
            | ParamsError::ScaleUnderflow
            | ParamsError::ZeroPointOverflow => Self::OutOfRange,
            ParamsError::InvalidScale
            | ParamsError::InvalidZeroPoint
            | ParamsError::InvalidBias => Self::InvalidParams,
            ParamsError::UnsupportedScheme => Self::UnknownValue,
            _ => Self::Internal,
        }
    }
}

impl From<GeometryError> for QuantStatus {
    fn from(error: GeometryError) -> Self {
        match error {
            GeometryError::TooLarge => Self::InvalidShape,
            GeometryError::NoMemory => Self::NoMemory,
            _ => Self::InvalidBlocks,
        }
    }
}

/// The type of values, and of scales.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantFloat {
    /// IEEE 754 binary32: `float`. 4 bytes.
    F32 = 0,
    /// IEEE 754 binary16: `_Float16`. 2 bytes.
    F16 = 1,
    /// bfloat16, the upper half of a binary32. 2 bytes.
    Bf16 = 2,
}

/// The type of codes. Codes of fewer than 8 bits are packed: they are a stream of bits, the first
/// code in the lowest bits of the first byte. Of 4 bits, code `2 * i` is in the low nibble of byte
/// `i`; of 3, 5 and 6 bits, 8, 8 and 4 codes fill 3, 5 and 3 bytes. Bits behind the last code are 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantCode {
    /// Signed, 8 bits, two's complement.
    Int8 = 0,
    /// Unsigned, 8 bits.
    Uint8 = 1,
    /// Signed, 4 bits, two's complement.
    Int4 = 2,
    /// Unsigned, 4 bits.
    Uint4 = 3,
    /// Signed, 2 bits, two's complement.
    Int2 = 4,
    /// Unsigned, 2 bits.
    Uint2 = 5,
    /// Signed, 3 bits, two's complement.
    Int3 = 6,
    /// Unsigned, 3 bits.
    Uint3 = 7,
    /// Signed, 5 bits, two's complement.
    Int5 = 8,
    /// Unsigned, 5 bits.
    Uint5 = 9,
    /// Signed, 6 bits, two's complement.
    Int6 = 10,
    /// Unsigned, 6 bits.
    Uint6 = 11,
}

/// How the range of codes is laid over the range of values.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantMode {
    /// Symmetric about 0.
    Symmetric = 0,
    /// From the smallest value to the largest, and 0 in any case.
    Affine = 1,
}

/// Whose arithmetic: the type that is computed in, that of the scales, and the range of codes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantDialect {
    /// As coremltools 9.0: each step is rounded to the type of the values, and scales have it.
    Coremltools = 0,
    /// The same steps, all in f32, and scales are f32. `QUANT_DIALECT_WIDE` is its first name.
    F32 = 1,
    /// As torch's observers: f32, a scale of at least 2^-23, the whole range of codes in both modes.
    Torch = 2,
    /// As coremltools 9.0's activations: computed in f16, a scale of 0 becomes 1, the whole range of
    /// codes in both modes.
    CoremltoolsActivations = 3,
    /// As MLX 0.32 on the CPU: a scale, which may be negative, and a float bias, which code 0 stands
    /// for, both in the type of the values. Unsigned codes and `QUANT_MODE_AFFINE` only. Biases take
    /// the place of zero points: where these are bytes, they are the biases' own.
    Mlx = 4,
    /// As compressed-tensors 0.20: each step is rounded to the type of the values, and scales have it;
    /// the whole range of codes in both modes; the zero point is added before a quotient is rounded
    /// to an integer. Unsigned codes are signed ones less the smallest.
    CompressedTensors = 5,
    /// As coreai-opt 0.4's pass on Core AI programs: each step is rounded to the type of the values, and
    /// scales have it; 1e-6 is added to the width of a range.
    Coreai = 6,
    /// As coreai-opt 0.4's fake quantization of weights: scales have the type of the values and are at
    /// least 2^-23, quotients are f32; symmetric codes of signed types lack the smallest one.
    CoreaiTorch = 7,
}

/// A block type of ggml, as GGUF files hold it: 32 values and what they share, interleaved.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types)] // The names that ggml gives them.
pub enum QuantGgml {
    /// A scale in f16 and 32 codes of 8 bits: 34 bytes.
    Q8_0 = 0,
    /// A scale in f16 and 32 codes of 4 bits: 18 bytes.
    Q4_0 = 1,
    /// Scale and minimum in f16, and 32 codes of 4 bits: 20 bytes.
    Q4_1 = 2,
    /// A scale in f16 and 32 codes of 5 bits: 22 bytes.
    Q5_0 = 3,
    /// Scale and minimum in f16, and 32 codes of 5 bits: 24 bytes.
    Q5_1 = 4,
}

/// How an observer finds the range of an activation.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantObserverKind {
    /// The smallest and the largest value.
    MinMax = 0,
    /// Averages of the samples' smallest and largest values, as torch moves them.
    MovingAverage = 1,
    /// So many percent of the values, by a histogram.
    Percentile = 2,
    /// The range of the least entropy between the values and their codes, by a histogram.
    Entropy = 3,
    /// The range of the least squared error, by a histogram.
    Mse = 4,
}

/// A set of kernels. All of them give the same bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantBackend {
    /// Plain code, on every machine.
    Scalar = 0,
    /// AVX2, FMA and F16C, on x86-64.
    Avx2 = 1,
    /// AVX-512 F, BW, CD, DQ and VL, on x86-64.
    Avx512 = 2,
    /// NEON, on 64-bit ARM.
    Neon = 3,
}

/// What [`QuantObserverKind`] stands for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum ObserverKind {
    MinMax,
    MovingAverage,
    Percentile,
    Entropy,
    Mse,
}

impl ObserverKind {
    pub(crate) const ALL: [Self; quant_core::observer::ObserverConfig::ALL.len()] = [
        Self::MinMax,
        Self::MovingAverage,
        Self::Percentile,
        Self::Entropy,
        Self::Mse,
    ];
}

/// An enumeration of C.
///
/// # Safety
/// It is `repr(C)`, and no variant has fields.
pub(crate) unsafe trait Enumeration: Copy + 'static {
    /// What it stands for.
    type Meaning: Copy;
    /// Every variant.
    const ALL: &'static [(Self, Self::Meaning)];
}

macro_rules! enumeration {
    ($name:ident, $meaning:ident: $($variant:ident)*) => {
        // A choice that C lacks does not compile.
        const _: () = assert!($meaning::ALL.len() == [$($meaning::$variant),*].len());
        // SAFETY: see above.
        unsafe impl Enumeration for $name {
            type Meaning = $meaning;
            const ALL: &'static [(Self, $meaning)] =
                &[$(($name::$variant, $meaning::$variant)),*];
        }
    };
}

enumeration!(QuantFloat, FloatType: F32 F16 Bf16);
enumeration!(QuantCode, IntType: Int8 Uint8 Int4 Uint4 Int2 Uint2 Int3 Uint3 Int5 Uint5 Int6 Uint6);
enumeration!(QuantMode, Mode: Symmetric Affine);
enumeration!(QuantDialect, Dialect: Coremltools F32 Torch CoremltoolsActivations Mlx CompressedTensors Coreai CoreaiTorch);
enumeration!(QuantGgml, GgmlType: Q8_0 Q4_0 Q4_1 Q5_0 Q5_1);
enumeration!(QuantObserverKind, ObserverKind: MinMax MovingAverage Percentile Entropy Mse);
enumeration!(QuantBackend, Backend: Scalar Avx2 Avx512 Neon);

/// The meaning of a number that C passed, which may be any: hence `MaybeUninit`.
pub(crate) fn known<E: Enumeration>(value: MaybeUninit<E>) -> Result<E::Meaning, QuantStatus> {
    let known = E::ALL.iter().find(|(it, _)| number(*it) == number(value));
    Ok(known.ok_or(QuantStatus::UnknownValue)?.1)
}

/// The variant of that meaning.
pub(crate) fn variant<E: Enumeration<Meaning: PartialEq>>(meaning: E::Meaning) -> E {
    let known = E::ALL.iter().find(|(_, it)| *it == meaning);
    known.expect("a variant for each").0
}

pub(crate) fn number<E>(value: E) -> c_uint {
    const { assert!(size_of::<E>() == size_of::<c_uint>()) }
    // SAFETY: of one size, as just checked; C passes every bit of an enumeration.
    unsafe { transmute_copy(&value) }
}

/// What values are quantized to, and how.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct QuantScheme {
    /// The type of the codes.
    pub dtype: MaybeUninit<QuantCode>,
    /// Symmetric or affine. Zero points are stored beside the scales where this is affine or the
    /// codes are unsigned.
    pub mode: MaybeUninit<QuantMode>,
    /// The type that is computed in. 0 is coremltools.
    pub dialect: MaybeUninit<QuantDialect>,
}

impl QuantScheme {
    /// Of known numbers.
    pub const fn new(dtype: QuantCode, mode: QuantMode, dialect: QuantDialect) -> Self {
        Self {
            dtype: MaybeUninit::new(dtype),
            mode: MaybeUninit::new(mode),
            dialect: MaybeUninit::new(dialect),
        }
    }
}

impl TryFrom<QuantScheme> for Scheme {
    type Error = QuantStatus;

    fn try_from(scheme: QuantScheme) -> Result<Self, QuantStatus> {
        Ok(Self {
            dtype: known(scheme.dtype)?,
            mode: known(scheme.mode)?,
            dialect: known(scheme.dialect)?,
        })
    }
}

/// Scale and zero point, or bias: a code stands for `scale * (code - zero_point)`, or for
/// `scale * code + bias`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QuantParams {
    /// What one step of the code is worth: exact in the type of the scales; at least 0, but for a bias, or
    /// symmetric signed codes of less than 8 bits in the dialects coremltools and f32.
    pub scale: f32,
    /// The code that stands for 0.
    pub zero_point: i32,
    /// The value that code 0 stands for, in a dialect that stores biases; else it is not read, and
    /// written as 0.
    pub bias: f32,
}

impl QuantParams {
    pub(crate) fn from_params(params: Params) -> Self {
        Self {
            scale: params.scale(),
            zero_point: params.zero_point(),
            bias: params.bias().unwrap_or(0.0),
        }
    }

    /// Checked, for values of type `source`.
    pub(crate) fn check(self, scheme: Scheme, source: FloatType) -> Result<Params, QuantStatus> {
        let scale_type = scheme.dialect.scale_type(source);
        Ok(match scheme.offset() {
            OffsetKind::Bias => Params::with_bias(self.scale, self.bias, scale_type)?,
            _ => Params::new(scheme, self.scale, self.zero_point, scale_type)?,
        })
    }
}

/// The range of some values. NaN takes no part in it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QuantRange {
    /// The smallest value; +infinity where there is none.
    pub min: f32,
    /// The largest value; -infinity where there is none.
    pub max: f32,
    /// How many values are NaN or infinite.
    pub non_finite: u64,
}

impl From<ValueRange> for QuantRange {
    fn from(range: ValueRange) -> Self {
        Self {
            min: range.min,
            max: range.max,
            non_finite: range.non_finite,
        }
    }
}

impl From<QuantRange> for ValueRange {
    fn from(range: QuantRange) -> Self {
        Self {
            min: range.min,
            max: range.max,
            non_finite: range.non_finite,
        }
    }
}

/// What a quantization lost. The order of summation is fixed: the figures are the same on every
/// machine and with any number of threads.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QuantErrorStats {
    /// Values compared, non-finite ones included.
    pub count: u64,
    /// Values that are NaN or infinite, or whose error is: left out of everything else.
    pub non_finite: u64,
    /// Values whose code was clipped. 0 from `quant_error_stats`, which sees no codes.
    pub saturated: u64,
    /// Sum of the squared values.
    pub signal: f64,
    /// Sum of the squared errors.
    pub noise: f64,
    /// Sum of the absolute errors.
    pub absolute: f64,
    /// The largest absolute error.
    pub max_absolute: f64,
    /// The mean absolute error; 0 where nothing was compared.
    pub mean_absolute: f64,
    /// Signal to noise, `10 * log10(signal / noise)`; +infinity without any error.
    pub sqnr_db: f64,
    /// Zeros: room for what later versions tell.
    pub reserved: [u64; 3],
}

impl From<ErrorStats> for QuantErrorStats {
    fn from(stats: ErrorStats) -> Self {
        Self {
            count: stats.count,
            non_finite: stats.non_finite,
            saturated: stats.saturated,
            signal: stats.signal,
            noise: stats.noise,
            absolute: stats.absolute,
            max_absolute: stats.max_absolute,
            mean_absolute: stats.mean_absolute(),
            sqnr_db: stats.sqnr_db(),
            reserved: [0; 3],
        }
    }
}

/// A tensor, and how it is quantized. Row-major.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct QuantTensor {
    /// The type of the values.
    pub dtype: MaybeUninit<QuantFloat>,
    /// What they are quantized to.
    pub scheme: QuantScheme,
    /// Number of axes, at most 64; 0 for a single value.
    pub rank: usize,
    /// `rank` lengths.
    pub shape: *const usize,
    /// `rank` block sizes: how many indices of each axis share a scale; 0 means the whole axis.
    /// The last block of an axis may be shorter. Null means one scale for the whole tensor.
    pub block_sizes: *const usize,
    /// Zeros: room for what later versions ask.
    pub reserved: [usize; 4],
}

/// The sizes of a tensor's buffers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuantTensorSizes {
    /// Number of elements.
    pub count: usize,
    /// Number of scales: the product of `shape[i] / block_sizes[i]`, each rounded up.
    pub scale_count: usize,
    /// Bytes of values.
    pub values: usize,
    /// Bytes of codes.
    pub codes: usize,
    /// Bytes of scales.
    pub scales: usize,
    /// Bytes of zero points, which have the type of the codes but are not packed: one for each
    /// scale, or 0 where the scheme stores none. Bytes of biases in a dialect that stores these.
    pub zero_points: usize,
    /// Zeros: room for what later versions tell.
    pub reserved: [usize; 2],
}

/// Which observer, and its settings. What is 0 is as usual.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct QuantObserverConfig {
    /// How the range is found.
    pub kind: MaybeUninit<QuantObserverKind>,
    /// Bins of a histogram: a power of two from 128 to 8192. 0 means 2048.
    pub bins: usize,
    /// Percent of the values that `QUANT_OBSERVER_KIND_PERCENTILE` keeps, above 0 and at most 100. 0
    /// means 99.999.
    pub percentile: f64,
    /// What `QUANT_OBSERVER_KIND_MOVING_AVERAGE` moves by, above 0 and at most 1. 0 means 0.01.
    pub constant: f64,
    /// Zeros: room for what later versions ask.
    pub reserved: [u64; 4],
}

/// Where a tensor could not be quantized or dequantized.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuantFailure {
    /// With `QUANT_STATUS_NON_FINITE`: the row-major position of the first NaN or infinity. With
    /// `QUANT_STATUS_OUT_OF_RANGE` and `QUANT_STATUS_INVALID_PARAMS`: that of a block's scale.
    pub position: usize,
    /// How many there are; 1 for a block.
    pub count: u64,
    /// Zeros: room for what later versions tell.
    pub reserved: [u64; 2],
}
