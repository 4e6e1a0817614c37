//! Quantizes a model, with progress, and says what each tensor lost.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use quant_models::quant_core::{IntType, Mode, Scheme};
use quant_models::{Grouping, Job, QuantizeOptions, quantize, total_bytes};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(model), Some(output)) = (arguments.next(), arguments.next()) else {
        return Err("two arguments: the model and the output".into());
    };
    let options = QuantizeOptions::default()
        .with_scheme(Scheme::new(IntType::Int4, Mode::Symmetric))
        .with_granularity(Grouping::PerBlock {
            axis: None,
            block_axis: None,
            block_size: 32,
        });
    let (done, total) = (AtomicU64::new(0), total_bytes(&model));
    let progress = |bytes| {
        let done = bytes + done.fetch_add(bytes, Ordering::Relaxed);
        eprint!("\r{done} of {total} bytes");
    };
    let job = Job::new().with_progress(&progress);
    let report = quantize(&model, &output, &options, &job)?;
    eprintln!();
    for tensor in &report.tensors {
        match (tensor.sqnr_db, &tensor.reason) {
            (Some(sqnr), _) => println!("{}: {sqnr:.1} dB", tensor.name),
            (None, why) => println!("{}: left alone, {why:?}", tensor.name),
        }
    }
    println!("{} bytes -> {:?}", report.bytes_before, report.bytes_after);
    Ok(())
}
