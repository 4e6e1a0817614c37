//! Options of plans that mix precisions.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use quant_core::Mode;
use quant_models::{Candidate, Error, MixedOptions, MixedSummary, MixedTarget, PlannedTensor};

use crate::terminal::count;

/// The share of a target that may be left without a word.
const NEAR: f64 = 0.01;
/// Points of a curve.
const POINTS: usize = 32;

#[derive(Args)]
pub struct MixedFlags {
    /// Mix precisions: the least error with so many bits per weight, scales included, such as 4.5
    #[arg(long, allow_negative_numbers = true, value_name = "BITS", value_parser = positive, value_hint = ValueHint::Other)]
    target_bits: Option<f64>,
    /// Mix precisions: the least error in files of so many bytes, such as 300MB or 1.5GiB
    ///
    /// What counts is all that the format writes: of safetensors the weights, the index and, with --format
    /// mlx and compressed-tensors, config.json; of Core ML and Core AI the whole package. What is copied
    /// beside them, such as a tokenizer, does not count.
    #[arg(long, allow_hyphen_values = true, value_name = "SIZE", value_parser = bytes, value_hint = ValueHint::Other)]
    target_size: Option<u64>,
    /// Mix precisions: the fewest bytes with an estimated SQNR of so many dB, such as 30
    ///
    /// The estimate is what adds up at the end of a chain of layers: the sum of the tensors' squared
    /// errors, each by its squared values.
    #[arg(long, allow_hyphen_values = true, value_name = "DB", value_parser = decibels, value_hint = ValueHint::Other)]
    target_sqnr: Option<f64>,
    /// With a target: what each tensor may be, such as int4,int4:block32,int8,float [default: int4,
    /// int4-affine and int8 per channel and in blocks of 32, int4:block16, float, and more for models of
    /// few tensors; --format mlx and compressed-tensors: by their bits]
    ///
    /// A type, -affine behind it, :block32 (input channels per scale) or :tensor where scales are not
    /// per channel; or float.
    #[arg(long, value_delimiter = ',', value_name = "A,B,...", value_hint = ValueHint::Other)]
    candidates: Vec<String>,
    /// With a target: draw size against error, and where the plan lies, into a page
    #[arg(long, value_name = "FILE.html", value_hint = ValueHint::FilePath)]
    pub report: Option<PathBuf>,
}

impl MixedFlags {
    /// How precisions are mixed; `None` where they are not.
    pub fn options(&self) -> Result<Option<MixedOptions>, Error> {
        let target = match (self.target_bits, self.target_size, self.target_sqnr) {
            (Some(bits), _, _) => MixedTarget::Bits(bits),
            (_, Some(bytes), _) => MixedTarget::Bytes(bytes),
            (_, _, Some(db)) => MixedTarget::Sqnr(db),
            (None, None, None) if self.candidates.is_empty() && self.report.is_none() => {
                return Ok(None);
            }
            (None, None, None) if self.candidates.is_empty() => {
                return Err(Error::Option(
                    "--report needs a target; give --target-bits, --target-size or --target-sqnr"
                        .into(),
                ));
            }
            (None, None, None) => {
                return Err(Error::Option(
                    "--candidates need a target; give --target-bits, --target-size or --target-sqnr"
                        .into(),
                ));
            }
        };
        let candidates = self.candidates.iter().map(|given| given.trim().parse());
        let candidates = candidates.collect::<Result<Vec<Candidate>, Error>>()?;
        let points = if self.report.is_some() { POINTS } else { 0 };
        let options = MixedOptions::new(target).with_candidates(candidates);
        Ok(Some(options.with_points(points)))
    }
}

/// What a plan comes to, for people.
pub fn told(summary: &MixedSummary, target: MixedTarget) -> String {
    let sqnr = match summary.sqnr_db.is_finite() {
        true => format!("estimated SQNR {:.2} dB", summary.sqnr_db),
        false => "no error".into(),
    };
    let best = match (summary.gap, target) {
        (0.0, MixedTarget::Sqnr(_)) => {
            "no smaller plan of these candidates has that estimate".into()
        }
        (0.0, _) => "no plan of these candidates has less estimated loss".into(),
        (gap, MixedTarget::Sqnr(_)) => {
            format!("at most {gap:.2} % larger than the smallest with that estimate")
        }
        (gap, _) => format!("at most {gap:.2} dB more estimated loss than the least"),
    };
    let compared = summary.compared.map_or(String::new(), |compared| {
        let lost = match compared.sqnr_db.is_finite() {
            true => format!("an SQNR of {:.2} dB", compared.sqnr_db),
            false => "no error".into(),
        };
        let plans = count(compared.plans, "plan");
        format!(
            "of {plans} compared by the answers to all samples, {} is the best: {lost}\n",
            summary.found_by
        )
    });
    // Of a plan that loses nothing, all is left that anybody wanted.
    let left = match summary.left > NEAR && summary.sqnr_db.is_finite() {
        true => format!(
            "{:.1} % less than the target: what would fill it does not fit, or loses more\n",
            100.0 * summary.left
        ),
        false => String::new(),
    };
    format!(
        "{:.3} bits per weight, {} bytes, {sqnr}; {best}\n{left}{compared}",
        summary.bits, summary.bytes
    )
}

/// What a tensor of a plan becomes, in words: `int4 in blocks`, `int8 affine`, `float`.
pub fn becomes(tensor: &PlannedTensor) -> String {
    let Some(spec) = &tensor.quantize else {
        return "float".into();
    };
    let dtype = spec.dtype.map(|dtype| dtype.to_string());
    let bits = spec.bits.map(|bits| format!("{bits} bits"));
    let blocks = spec.blocks.iter().flatten();
    let shape = tensor.shape.iter().flatten();
    // Axes along which scales differ; what is not said is the whole axis.
    let cut = blocks
        .zip(shape)
        .filter(|&(&block, &dim)| block != 0 && block < dim)
        .count();
    let place = match (cut, &spec.blocks, spec.group_size) {
        (_, _, Some(_)) | (2.., ..) => " in blocks",
        (0, Some(_), _) => " per tensor",
        _ => "",
    };
    let mode = match spec.mode {
        Some(Mode::Affine) => " affine",
        Some(Mode::Symmetric) | None => "",
    };
    format!("{}{mode}{place}", dtype.or(bits).unwrap_or_default())
}

fn finite(given: &str) -> Result<f64, String> {
    let number: Option<f64> = given.parse().ok();
    let number = number.filter(|number| number.is_finite());
    number.ok_or_else(|| "give a number".into())
}

/// Of a number, or one with its unit.
pub fn decibels(given: &str) -> Result<f64, String> {
    let lower = given.to_ascii_lowercase();
    let number = finite(lower.strip_suffix("db").unwrap_or(&lower).trim());
    number.map_err(|_| "give a number of dB, such as 40dB".into())
}

/// Of samples.
#[cfg(feature = "run")]
pub fn at_least_one(given: &str) -> Result<usize, String> {
    let count = given.parse().ok().filter(|&count| count > 0);
    count.ok_or_else(|| "give 1 or more".into())
}

fn positive(given: &str) -> Result<f64, String> {
    let number = finite(given).ok().filter(|&number| number > 0.0);
    number.ok_or_else(|| "give a number above 0".into())
}

fn bytes(given: &str) -> Result<u64, String> {
    let units = [
        ("KIB", 1024.0),
        ("MIB", 1_048_576.0),
        ("GIB", 1_073_741_824.0),
        ("TIB", 1_099_511_627_776.0),
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("TB", 1e12),
        ("B", 1.0),
    ];
    let upper = given.to_ascii_uppercase();
    let unit = units.iter().find(|(unit, _)| upper.ends_with(unit));
    let (number, factor) = match unit {
        Some((unit, factor)) => (upper[..upper.len() - unit.len()].trim_end(), *factor),
        None => (upper.as_str(), 1.0),
    };
    let size = positive(number).ok().map(|number| number * factor);
    let size = size.filter(|size| (1.0..1e18).contains(size));
    size.map(|size| size as u64)
        .ok_or_else(|| "give a number of bytes, such as 300MB or 1.5GiB".into())
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_units() {
        for (given, size) in [
            ("300MB", Some(300_000_000)),
            ("1.5GiB", Some(1_610_612_736)),
            ("4096", Some(4096)),
            ("2 kib", Some(2048)),
            ("12b", Some(12)),
            ("0", None),
            ("-1MB", None),
            ("nanMB", None),
            ("MB", None),
            ("1TB", Some(1_000_000_000_000)),
            ("1TBs", None),
            ("1e30", None),
        ] {
            assert_eq!(bytes(given).ok(), size, "{given}");
        }
    }
}
