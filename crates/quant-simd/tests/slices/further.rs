//! Integer types of other widths, and dialects without kernels of their own.

use quant_core::{IntType, Params};
use quant_testkit::hurtful::{self, Random};

use crate::arena::{Arenas, Placement};
use crate::case::{Case, Function, Value, scale_type};
use crate::elements::{any_codes, mixed};

for_every_float! { every_function_of_further_schemes }

/// Lengths on both sides of a piece, of a group and of a byte.
const LENGTHS: [usize; 12] = [0, 1, 3, 7, 8, 9, 31, 64, 100, 333, 2047, 2100];

fn every_function_of_further_schemes<F: Value>() {
    let (mut arenas, mut random) = (Arenas::new(), Random(31));
    for scheme in hurtful::further_schemes() {
        let all = hurtful::params(scheme, scale_type::<F>(scheme));
        for len in LENGTHS {
            let draw = |random: &mut Random| all[random.below(all.len())];
            let params: Vec<Params> = (0..len.max(40)).map(|_| draw(&mut random)).collect();
            let values = mixed::<F>(&mut random, scheme, params[0], len);
            let codes = any_codes(&mut random, scheme.dtype, len);
            let mut check = |function, params: &[Params], len: usize| {
                let case = Case {
                    function,
                    scheme,
                    params,
                    values: &values[..len],
                    codes: &codes[..len],
                };
                case.check(&mut arenas, Placement::ALIGNED);
            };
            for function in [
                Function::Quantize,
                Function::QuantizeWithStats,
                Function::Dequantize,
                Function::FakeQuantize,
            ] {
                check(function, &params, len);
            }
            for size in [1, 3, 5, 32, 64, 100] {
                check(Function::QuantizeBlocks(size), &params, len);
                let mut stored = params.clone();
                stored.retain(|it| scheme.stores_zero_point() || it.zero_point() == 0);
                let blocks = len.div_ceil(size);
                if stored.len() >= blocks {
                    check(Function::DequantizeBlocks(size), &stored[..blocks], len);
                }
            }
            for columns in [1, 2, 7, 8, 33] {
                let rows = len - len % columns;
                check(Function::QuantizeColumns(columns), &params[..columns], rows);
                check(
                    Function::DequantizeColumns(columns),
                    &params[..columns],
                    rows,
                );
            }
        }
    }
}

/// Packing writes its own bits and no other, wherever it begins.
#[test]
fn packed_codes_begin_anywhere() {
    let (mut arenas, mut random) = (Arenas::new(), Random(32));
    for dtype in IntType::ALL {
        let scheme = quant_core::Scheme::new(dtype, quant_core::Mode::Affine);
        for offset in 0..17 {
            for len in [0, 1, 2, 5, 8, 15, 16, 17, 100, 700] {
                let codes = any_codes(&mut random, dtype, len);
                for function in [Function::Pack(offset), Function::Unpack(offset)] {
                    let case = Case::<f32> {
                        function,
                        scheme,
                        params: &[],
                        values: &[],
                        codes: &codes,
                    };
                    case.check(&mut arenas, Placement::ALIGNED);
                }
            }
        }
    }
}
