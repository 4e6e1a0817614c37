//! Any parameters and any geometry.

use half::{bf16, f16};
use proptest::prelude::*;
use quant_core::{FloatType, Params, Scheme};
use quant_testkit::hurtful::{self, Random};

use crate::arena::{Arenas, Place, Placement};
use crate::case::{Case, Function, Value};
use crate::elements::{any_codes, mixed};

thread_local! {
    static ARENAS: std::cell::RefCell<Arenas> = Arenas::new().into();
}

fn scheme() -> impl Strategy<Value = Scheme> {
    let known = prop::sample::select(hurtful::schemes());
    let further = prop::sample::select(hurtful::further_schemes());
    prop_oneof![known, further]
}

/// A scale from any bits, and a zero point.
fn pair() -> impl Strategy<Value = (u32, u32)> {
    (any::<u32>(), any::<u32>())
}

fn params(scheme: Scheme, scale_type: FloatType, (scale, zero_point): (u32, u32)) -> Params {
    let scale = f32::from_bits(scale & 0x7fff_ffff);
    let rounded = scale_type.round(if scale.is_nan() { 0.75 } else { scale });
    let scale = if rounded.is_finite() { rounded } else { 1.25 };
    let codes = (scheme.qmax() - scheme.qmin() + 1) as u32;
    let zero_point = scheme.qmin() + (zero_point % codes) as i32;
    Params::new(scheme, scale, zero_point, scale_type).expect("a legal pair")
}

/// Of `len` elements, with the parameters of blocks, or columns, of `size`.
fn check<F: Value>(
    scheme: Scheme,
    pairs: &[(u32, u32)],
    seed: u64,
    (len, size): (usize, usize),
    placement: Placement,
) {
    let scale_type = scheme.dialect.scale_type(F::TYPE);
    let new = |&pair| params(scheme, scale_type, pair);
    let mut all: Vec<Params> = pairs.iter().map(new).cycle().take(len.max(size)).collect();
    let mut random = Random(seed);
    let values = mixed::<F>(&mut random, scheme, all[0], len);
    let codes = any_codes(&mut random, scheme.dtype, len);
    ARENAS.with_borrow_mut(|arenas| {
        let mut check = |function, params: &[Params], len: usize| {
            let case = Case {
                function,
                scheme,
                params,
                values: &values[..len],
                codes: &codes[..len],
            };
            case.check(arenas, placement);
        };
        for function in [
            Function::ValueRange,
            Function::MinMax,
            Function::Histogram(256),
            Function::Quantize,
            Function::QuantizeWithStats,
            Function::Dequantize,
            Function::FakeQuantize,
            Function::ErrorStats,
            Function::QuantizeBlocks(size),
        ] {
            check(function, &all, len);
        }
        let rows = len - len % size;
        check(Function::ColumnRanges(size), &all[..size], rows);
        check(Function::QuantizeColumns(size), &all[..size], rows);
        check(Function::DequantizeColumns(size), &all[..size], rows);
        all.retain(|it| scheme.stores_zero_point() || it.zero_point() == 0);
        if all.len() >= len.div_ceil(size) {
            let params = &all[..len.div_ceil(size)];
            check(Function::DequantizeBlocks(size), params, len);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(quant_testkit::cases(1500)))]
    #[test]
    fn every_scale_and_geometry(
        scheme in scheme(),
        pairs in prop::collection::vec(pair(), 1..9),
        seed in any::<u64>(),
        geometry in (0_usize..700, 1_usize..140),
        offsets in (0_usize..17, 0_usize..65),
    ) {
        let placement = Placement {
            inputs: Place::Offset(offsets.0),
            outputs: Place::Offset(offsets.1),
        };
        check::<f32>(scheme, &pairs, seed, geometry, placement);
        check::<f16>(scheme, &pairs, seed, geometry, placement);
        check::<bf16>(scheme, &pairs, seed, geometry, placement);
    }
}
