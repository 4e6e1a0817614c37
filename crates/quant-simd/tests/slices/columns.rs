//! Matrices whose columns have parameters of their own.

use quant_core::{Params, Scheme};
use quant_testkit::hurtful::{self, Random};

use crate::arena::{Arenas, Placement};
use crate::case::{Case, Function, Value, scale_type};
use crate::elements::any_codes;

const COLUMNS: [usize; 13] = [1, 2, 3, 7, 15, 16, 17, 31, 33, 64, 65, 100, 257];

for_every_float! {
    every_number_of_columns every_scale_beside_every_other columns_of_other_types
}

fn check<F: Value>(
    arenas: &mut Arenas,
    random: &mut Random,
    scheme: Scheme,
    params: &[Params],
    rows: usize,
) {
    let (columns, len) = (params.len(), rows * params.len());
    // Each column's own ties and edges, and ordinary values.
    let edges = hurtful::edges::<F>();
    let mut values: Vec<F> = Vec::with_capacity(len);
    for i in 0..len {
        let own = params[i % columns];
        values.push(match random.below(8) {
            0 => edges[random.below(edges.len())],
            1 => random.any(1)[0],
            2..5 => {
                let reach = (scheme.qmax() - scheme.qmin() + 4) as usize;
                let step = random.below(reach) as i32 + scheme.qmin() - own.zero_point() - 2;
                let tie = (f64::from(step) + 0.5) * f64::from(own.scale());
                F::from_f32(tie as f32).neighbour(random.below(7) as i32 - 3)
            }
            _ => random.ordinary(scheme, own, 1)[0],
        });
    }
    let codes = any_codes(random, scheme.dtype, len);
    for function in [
        Function::ColumnRanges(columns),
        Function::QuantizeColumns(columns),
        Function::DequantizeColumns(columns),
    ] {
        let case = Case {
            function,
            scheme,
            params,
            values: &values,
            codes: &codes,
        };
        case.check(arenas, Placement::ALIGNED);
    }
}

fn every_number_of_columns<F: Value>() {
    let (mut arenas, mut random) = (Arenas::new(), Random(8));
    for scheme in hurtful::schemes() {
        let pool = hurtful::params(scheme, scale_type::<F>(scheme));
        for columns in COLUMNS {
            for rows in [0, 1, 2, 3, 8, 17] {
                // Ordinary scales only, which may take a fast path all together; or any.
                for reach in [7, pool.len()] {
                    let draw = |_| pool[random.below(reach)];
                    let params: Vec<Params> = (0..columns).map(draw).collect();
                    check::<F>(&mut arenas, &mut random, scheme, &params, rows);
                }
            }
        }
    }
}

/// One scale of another kind in each column, among ordinary ones.
fn every_scale_beside_every_other<F: Value>() {
    let (mut arenas, mut random) = (Arenas::new(), Random(9));
    for scheme in hurtful::schemes() {
        let pool = hurtful::params(scheme, scale_type::<F>(scheme));
        for (i, &odd) in pool.iter().enumerate() {
            let mut params = vec![pool[0]; 37];
            params[i % 37] = odd;
            check::<F>(&mut arenas, &mut random, scheme, &params, 5);
        }
    }
}

/// Scales stored in every type, whatever the values'.
fn columns_of_other_types<F: Value>() {
    let (mut arenas, mut random) = (Arenas::new(), Random(10));
    for scheme in hurtful::schemes() {
        for scale_type in quant_core::FloatType::ALL {
            let pool = hurtful::params(scheme, scale_type);
            for columns in [1, 33, 100] {
                let draw = |_| pool[random.below(pool.len())];
                let params: Vec<Params> = (0..columns).map(draw).collect();
                check::<F>(&mut arenas, &mut random, scheme, &params, 7);
            }
        }
    }
}
