//! Quantizes and dequantizes as MLX does, on one thread, and prints the time that it takes: one side of
//! benches/beside_mlx.py.

#![forbid(unsafe_code)]

use std::time::Instant;

use half::{bf16, f16};
use quant_core::{Dialect, IntType, Mode, Scheme};
use quant_simd::{Backend, Element};

/// The arguments: type of values, bits, group size, number of values, repetitions. Prints the least
/// seconds of quantizing and dequantizing.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [float, bits, group, count, times] = arguments.as_slice() else {
        return Err("five arguments: f32|f16|bf16 BITS GROUP COUNT TIMES".into());
    };
    let dtype = IntType::new(bits.parse()?, false).ok_or("no such bits")?;
    let scheme = Scheme::new(dtype, Mode::Affine).with_dialect(Dialect::Mlx);
    let (group, count, times) = (group.parse()?, count.parse()?, times.parse()?);
    let seconds = match float.as_str() {
        "f32" => measure::<f32>(scheme, group, count, times),
        "f16" => measure::<f16>(scheme, group, count, times),
        "bf16" => measure::<bf16>(scheme, group, count, times),
        _ => return Err("no such type".into()),
    };
    println!("{:e} {:e}", seconds[0], seconds[1]);
    Ok(())
}

fn measure<F: Element>(scheme: Scheme, group: usize, count: usize, times: usize) -> [f64; 2] {
    let backend = Backend::detect();
    // As good as normally distributed: the sum of four evenly distributed numbers.
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut normal = || F::from_f32(next() + next() + next() + next());
    let values: Vec<F> = (0..count).map(|_| normal()).collect();
    let blocks = count.div_ceil(group);
    let mut codes = vec![0; scheme.dtype.storage_len(count)];
    let mut scales = vec![F::zeroed(); blocks];
    let mut biases = vec![0; blocks * size_of::<F>()];
    let mut back = vec![F::zeroed(); count];
    let mut least = [f64::INFINITY; 2];
    for _ in 0..times {
        let start = Instant::now();
        let done =
            backend.quantize_blocks(&values, group, scheme, &mut codes, &mut scales, &mut biases);
        least[0] = least[0].min(start.elapsed().as_secs_f64());
        done.expect("finite values");
        let start = Instant::now();
        let done = backend.dequantize_blocks(&codes, group, scheme, &scales, &biases, &mut back);
        least[1] = least[1].min(start.elapsed().as_secs_f64());
        done.expect("what was just made");
    }
    least
}
