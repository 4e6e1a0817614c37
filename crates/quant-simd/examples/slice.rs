//! Quantizes a slice with one scale, and a tensor with a scale per row, and back.

use quant_simd::{
    Granularity, IntType, Mode, Scheme, as_i8, dequantize, f16, quantize, quantize_tensor,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let weights = [0.5_f32, -1.27, 0.02, 1.0];
    let int8 = Scheme::new(IntType::Int8, Mode::Symmetric);
    let (codes, params) = quantize(&weights, int8)?;
    let restored: Vec<f32> = dequantize(&codes, int8, params, weights.len())?;
    println!("{weights:?} -> {:?} -> {restored:?}", as_i8(&codes));

    let weights: Vec<f16> = (0..64 * 128)
        .map(|i| f16::from_f32((i as f32).sin()))
        .collect();
    let int4 = Scheme::new(IntType::Int4, Mode::Symmetric);
    let blocks = Granularity::PerBlock {
        axis: 0,
        block_axis: 1,
        block_size: 32,
    };
    let tensor = quantize_tensor(&weights, &[64, 128], int4, &blocks)?;
    println!(
        "{} values of f16 -> {} bytes of codes, {} scales, {:.1} dB",
        weights.len(),
        tensor.codes.len(),
        tensor.scales_f32().len(),
        tensor.stats.sqnr_db()
    );
    println!("the first codes: {:?}", &tensor.unpacked()?[..8]);
    Ok(())
}
