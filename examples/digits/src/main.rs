//! Accuracy of a small digit classifier before and after quantization.
//!
//! Without an argument: the float model, then the same model under four schemes, and the first of
//! these with 8-bit activations, calibrated by each observer.
//! With a path: that `.safetensors` file, float or written by `quant quantize`.

#![forbid(unsafe_code)]

mod activations;
mod net;

use std::error::Error;
use std::fs;
use std::path::Path;

use activations::Activations;
use net::{Net, SIDE};
use quant_core::observer::ObserverConfig;
use quant_core::{Granularity, IntType, Mode, Scheme};
use quant_models::{Job, Model, QuantizeOptions};
use safetensors::SafeTensors;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/digits.safetensors");
const CALIBRATION: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/digits-calibration.safetensors"
);
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
        Ok(Self {
            images: images(&file)?,
            labels: file.tensor("labels")?.data().to_vec(),
        })
    }

    /// Number of images `net` gets right, its activations quantized or not.
    fn count_right(&self, net: &Net, activations: Option<&Activations>) -> usize {
        let classify = |image| match activations {
            Some(activations) => net.classify(image, |at, x| activations.quantize(at, x)),
            None => net.classify(image, |_, _| {}),
        };
        self.images
            .chunks_exact(SIDE * SIDE)
            .zip(&self.labels)
            .filter(|(image, label)| classify(image) == usize::from(**label))
            .count()
    }
}

/// The images of a file, as the net takes them.
fn images(file: &SafeTensors<'_>) -> Result<Vec<f32>, Box<dyn Error>> {
    let pixels = file.tensor("images")?.data().iter();
    Ok(pixels.map(|&pixel| f32::from(pixel) / 16.0).collect())
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
        Self::of(path, &read(path)?, None, held_out)
    }

    fn of(
        path: &Path,
        net: &Net,
        activations: Option<&Activations>,
        held_out: &HeldOut,
    ) -> Result<Self, Box<dyn Error>> {
        let right = held_out.count_right(net, activations) as f64;
        let bytes = fs::metadata(path)?.len();
        Ok(Self {
            bytes,
            bits_per_weight: 8.0 * bytes as f64 / net.parameters() as f64,
            accuracy: 100.0 * right / held_out.labels.len() as f64,
        })
    }

    fn print(&self, scheme: &str, float: &Row) {
        println!(
            "{scheme:<26} {:>8} {:>12.2} {:>10.1} % {:>+8.1}",
            self.bytes,
            self.bits_per_weight,
            self.accuracy,
            self.accuracy - float.accuracy
        );
    }
}

fn read(path: &Path) -> Result<Net, Box<dyn Error>> {
    let model = Model::open(path)?;
    Net::read(|name| Ok(model.read_f32(name)?))
}

fn main() -> Result<(), Box<dyn Error>> {
    let held_out = HeldOut::open(HELD_OUT)?;
    let float = Row::measure(Path::new(MODEL), &held_out)?;

    println!(
        "{:<26} {:>8} {:>12} {:>12} {:>8}",
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
        let options = QuantizeOptions::default()
            .with_scheme(Scheme::new(dtype, Mode::Symmetric))
            .with_granularity(granularity.clone().into());
        quant_models::quantize(Path::new(MODEL), &path, &options, &Job::new())?;
        Row::measure(&path, &held_out)?.print(name, &float);
    }

    // Ranges are those of the float net.
    let bytes = fs::read(CALIBRATION)?;
    let calibration = images(&SafeTensors::deserialize(&bytes)?)?;
    let float_net = read(Path::new(MODEL))?;
    let path = folder.path().join("int8 per channel.safetensors");
    let net = read(&path)?;
    for config in ObserverConfig::ALL {
        let activations = Activations::calibrate(&float_net, &calibration, config)?;
        let name = format!("W8A8, {}", config.name());
        Row::of(&path, &net, Some(&activations), &held_out)?.print(&name, &float);
    }
    Ok(())
}
