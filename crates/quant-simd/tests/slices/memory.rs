//! Where buffers lie, and what lies beside them.

use quant_core::{Dialect, IntType, Mode, Params, Scheme};
use quant_testkit::hurtful::{self, Random};

use crate::arena::{Arenas, Place, Placement};
use crate::case::{Case, Function, Value, scale_type};
use crate::elements::{GROUP, ahead, any_codes, mixed};

for_every_float! { every_alignment nothing_outside_is_written nothing_outside_is_read }

const COLUMNS: usize = 37;

/// Every function, on about `len` elements of each of some schemes.
fn every_function<F: Value>(len: usize, mut each: impl FnMut(&Case<F>)) {
    let mut random = Random(len as u64);
    for (dtype, mode, dialect) in [
        (IntType::Int8, Mode::Symmetric, Dialect::Coremltools),
        (IntType::Uint8, Mode::Affine, Dialect::F32),
        (IntType::Int4, Mode::Affine, Dialect::Coremltools),
        (IntType::Uint4, Mode::Symmetric, Dialect::F32),
    ] {
        let scheme = Scheme {
            dtype,
            mode,
            dialect,
        };
        let scale_type = scale_type::<F>(scheme);
        let one = hurtful::params(scheme, scale_type)[1];
        let new = |i: usize| {
            let scale = scale_type.round(0.01 + i as f32 / 256.0);
            let zero_point = match mode {
                Mode::Symmetric => scheme.symmetric_zero_point(),
                Mode::Affine => scheme.qmin() + i as i32 % 9,
            };
            Params::new(scheme, scale, zero_point, scale_type).expect("a legal pair")
        };
        let many: Vec<Params> = (0..len.max(COLUMNS)).map(new).collect();
        let mut functions = vec![
            Function::ValueRange,
            Function::MinMax,
            Function::Histogram(256),
            Function::Quantize,
            Function::QuantizeWithStats,
            Function::Dequantize,
            Function::FakeQuantize,
            Function::ErrorStats,
            Function::ColumnRanges(COLUMNS),
            Function::QuantizeColumns(COLUMNS),
            Function::DequantizeColumns(COLUMNS),
        ];
        for size in [5, 32, 64] {
            functions.extend([
                Function::QuantizeBlocks(size),
                Function::DequantizeBlocks(size),
            ]);
        }
        if dtype.bits() == 4 {
            for offset in [0, 1] {
                functions.extend([Function::Pack(offset), Function::Unpack(offset)]);
            }
        }
        for function in functions {
            let (len, params) = match function {
                Function::ColumnRanges(columns)
                | Function::QuantizeColumns(columns)
                | Function::DequantizeColumns(columns) => (len - len % columns, &many[..columns]),
                Function::DequantizeBlocks(size) => (len, &many[..len.div_ceil(size)]),
                _ => (len, &[one][..]),
            };
            // Blocks take only what is finite.
            let values = match function {
                Function::QuantizeBlocks(_) => random.ordinary(scheme, one, len),
                _ => mixed::<F>(&mut random, scheme, one, ahead(function) + len),
            };
            let codes = any_codes(&mut random, dtype, len);
            each(&Case {
                function,
                scheme,
                params,
                values: &values,
                codes: &codes,
            });
        }
    }
}

/// Inputs at each of the first 17 elements behind a multiple of 64 bytes, outputs at each of the
/// first 65.
fn every_alignment<F: Value>() {
    let mut arenas = Arenas::new();
    let mut placements = Vec::new();
    for input in 0..=16 {
        for output in 0..=64 {
            placements.push(Placement {
                inputs: Place::Offset(input),
                outputs: Place::Offset(output),
            });
        }
    }
    every_function::<F>(2 * GROUP + 21, |case| {
        case.check_all(&mut arenas, &placements);
    });
}

/// The bytes before and after every output stay as they are. (Every other test looks at them too.)
fn nothing_outside_is_written<F: Value>() {
    let mut arenas = Arenas::new();
    for len in (0..=4 * GROUP + 3).chain([1000, 4097]) {
        every_function::<F>(len, |case| {
            let placements = [1, 3].map(|offset| Placement::both(Place::Offset(offset)));
            case.check_all(&mut arenas, &placements);
        });
    }
}

/// No byte beyond the end, or before the start, of any buffer is touched: it would be a fault.
fn nothing_outside_is_read<F: Value>() {
    let mut arenas = Arenas::new();
    for len in (0..=4 * GROUP + 3).chain([1000, 4097]) {
        every_function::<F>(len, |case| {
            let placements = [Place::AtEnd, Place::AtStart].map(Placement::both);
            case.check_all(&mut arenas, &placements);
        });
    }
}
