//! The tensor driver, called once for each line of standard input, for
//! crates/quant-python/benches/beside_driver.py.

#![forbid(unsafe_code)]

use std::io::{self, BufRead as _, Write as _};
use std::time::Instant;

use bytemuck::cast_slice;
use quant_core::{Blocks, Dialect, FloatType, Granularity, IntType, Mode, Scheme};
use quant_simd::{Buffers, TensorQuantizer};

const SHAPE: [usize; 2] = [4096, 4096];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let values: Vec<f32> = (0..(SHAPE[0] * SHAPE[1]) as u32)
        .map(|i| i.wrapping_mul(2_654_435_761) as i32 as f32 * 2f32.powi(-31))
        .collect();
    let scheme = Scheme {
        dtype: IntType::Int8,
        mode: Mode::Symmetric,
        dialect: Dialect::Coremltools,
    };
    let blocks = Blocks::new(&SHAPE, &Granularity::PerChannel { axis: 0 })?;
    let quantizer = TensorQuantizer::new(scheme, FloatType::F32, blocks);
    let mut codes = vec![0; quantizer.codes_len()];
    let mut scales = vec![0; quantizer.scales_len()];
    for line in io::stdin().lock().lines() {
        line?;
        let start = Instant::now();
        let sink = Buffers::new(&mut codes, &mut scales, &mut []);
        quantizer.quantize(cast_slice(&values), &sink)?;
        let took = start.elapsed().as_nanos();
        println!("{took} {}", crc32fast::hash(&codes));
        io::stdout().flush()?;
    }
    Ok(())
}
