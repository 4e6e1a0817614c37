//! Quantizes a tensor into a file, part by part: a sink of one's own.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use quant_simd::{
    Blocks, ErrorStats, FloatType, Granularity, IntType, Mode, Scheme, Sink, TensorQuantizer,
};

/// Codes, then scales, then zero points, in one file. Parts come from any thread, in any order.
struct InOneFile {
    file: File,
    scales_at: u64,
    zero_points_at: u64,
}

impl Sink for InOneFile {
    type Error = io::Error;

    fn codes(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset as u64)
    }

    fn scales(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.file
            .write_all_at(bytes, self.scales_at + offset as u64)
    }

    fn zero_points(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.file
            .write_all_at(bytes, self.zero_points_at + offset as u64)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let weights: Vec<u8> = (0..256 * 512)
        .flat_map(|i| (i as f32).sin().to_le_bytes())
        .collect();
    let blocks = Blocks::new(&[256, 512], &Granularity::PerChannel { axis: 0 })?;
    let scheme = Scheme::new(IntType::Uint4, Mode::Affine);
    let quantizer = TensorQuantizer::new(scheme, FloatType::F32, blocks);

    let scales_at = quantizer.codes_len();
    let zero_points_at = scales_at + quantizer.scales_len();
    let sink = InOneFile {
        file: tempfile(zero_points_at + quantizer.zero_points_len())?,
        scales_at: scales_at as u64,
        zero_points_at: zero_points_at as u64,
    };
    let stats: ErrorStats = quantizer.quantize(&weights, &sink)?;
    println!(
        "{} bytes of f32 -> {} bytes, {:.1} dB",
        weights.len(),
        sink.file.metadata()?.len(),
        stats.sqnr_db()
    );
    Ok(())
}

/// A file of that size that is gone when the program ends.
fn tempfile(len: usize) -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("quant-sink-{}", std::process::id()));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(path)?;
    file.set_len(len as u64)?;
    Ok(file)
}
