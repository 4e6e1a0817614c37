//! Accuracy of a small digit classifier before and after quantization.
//!
//! Without an argument: the float model, then the same model under four schemes.
//! With a path: that `.safetensors` file, float or written by `quant quantize`.

mod net;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use net::{Net, SIDE};
use quant_core::{Granularity, IntType, Mode, Scheme};
use quant_models::{Job, Model, QuantizeOptions};
use safetensors::SafeTensors;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/digits.safetensors");
const HELD_OUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/digits-heldout.safetensors");

/// Images the training never saw.
struct HeldOut {
    images: Vec<f32>,
    labels: Vec<u8>,
}

impl HeldOut {
    fn open(path: &str) -> Result<Self, Box<dyn Error>> {
        let bytes = fs::read(path)?;
        let file = SafeTensors::deserialize(&bytes)?;
        let images = file.tensor("images")?.data().iter();
        Ok(Self {
            images: images.map(|&pixel| f32::from(pixel) / 16.0).collect(),
            labels: file.tensor("labels")?.data().to_vec(),
        })
    }

    /// Number of images `net` gets right.
    fn count_right(&self, net: &Net) -> usize {
        self.images
            .chunks_exact(SIDE * SIDE)
            .zip(&self.labels)
            .filter(|(image, label)| net.classify(image) == usize::from(**label))
            .count()
    }
}

/// One line of the table.
struct Row {
    bytes: u64,
    /// The whole file over all parameters: header, scales and unquantized tensors count.
    bits_per_weight: f64,
    accuracy: f64,
}

impl Row {
    fn measure(path: &Path, held_out: &HeldOut) -> Result<Self, Box<dyn Error>> {
        let model = Model::open(path)?;
        let net = Net::read(|name| Ok(model.read_f32(name)?))?;
        let bytes = fs::metadata(path)?.len();
        Ok(Self {
            bytes,
            bits_per_weight: 8.0 * bytes as f64 / net.parameters() as f64,
            accuracy: 100.0 * held_out.count_right(&net) as f64 / held_out.labels.len() as f64,
        })
    }

    fn print(&self, scheme: &str, float: &Row) {
        println!(
            "{scheme:<20} {:>8} {:>12.2} {:>10.1} % {:>+8.1}",
            self.bytes,
            self.bits_per_weight,
            self.accuracy,
            self.accuracy - float.accuracy
        );
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let held_out = HeldOut::open(HELD_OUT)?;
    let float = Row::measure(Path::new(MODEL), &held_out)?;

    println!(
        "{:<20} {:>8} {:>12} {:>12} {:>8}",
        "scheme", "bytes", "bits/weight", "accuracy", "points"
    );
    float.print("float32", &float);

    if let Some(path) = std::env::args_os().nth(1) {
        let path = Path::new(&path);
        let name = path.file_name().unwrap_or(path.as_os_str());
        Row::measure(path, &held_out)?.print(&name.to_string_lossy(), &float);
        return Ok(());
    }

    let folder = tempfile::tempdir()?;
    let cancelled = AtomicBool::new(false);
    let job = Job {
        force: false,
        progress: &|_| {},
        cancelled: &cancelled,
    };
    let per_channel = Granularity::PerChannel { axis: 0 };
    let per_block = Granularity::PerBlock {
        axis: 0,
        block_axis: 1,
        block_size: 32,
    };
    for (name, dtype, granularity) in [
        ("int8 per channel", IntType::Int8, &per_channel),
        ("int8 per block 32", IntType::Int8, &per_block),
        ("int4 per channel", IntType::Int4, &per_channel),
        ("int4 per block 32", IntType::Int4, &per_block),
    ] {
        let path = folder.path().join(format!("{name}.safetensors"));
        let options = QuantizeOptions {
            scheme: Scheme::new(dtype, Mode::Symmetric),
            granularity: granularity.clone().into(),
            // The second convolution has 16 input channels: blocks of 32 do not fit it.
            ..QuantizeOptions::default()
        };
        quant_models::quantize(Path::new(MODEL), &path, &options, &job)?;
        Row::measure(&path, &held_out)?.print(name, &float);
    }
    Ok(())
}
