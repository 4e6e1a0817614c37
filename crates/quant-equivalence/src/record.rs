use std::fmt::Display;
use std::hash::Hasher;

use quant_core::{ErrorStats, ParamsError, ValueRange};
use xxhash_rust::xxh64::Xxh64;

/// What a call was given, and what came out: as a digest, and in words where someone will read it.
pub struct Record {
    hash: Xxh64,
    lines: Option<Vec<String>>,
}

impl Record {
    /// For the digest.
    pub fn digest_only() -> Self {
        Self {
            hash: Xxh64::new(0),
            lines: None,
        }
    }

    /// For the digest, and a line per parameter, input and output.
    pub fn in_words() -> Self {
        Self {
            lines: Some(Vec::new()),
            ..Self::digest_only()
        }
    }

    /// Of all that was recorded.
    pub fn digest(&self) -> u64 {
        self.hash.finish()
    }

    /// `name: value` for each parameter; `name = bytes`, in hexadecimal, for each input and output.
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }

    /// For the reader alone: what follows from it is recorded as bytes.
    pub(crate) fn parameter(&mut self, name: &str, value: impl Display) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{name}: {value}"));
        }
    }

    pub(crate) fn bytes(&mut self, name: &str, bytes: &[u8]) {
        self.hash.write(&(bytes.len() as u64).to_le_bytes());
        self.hash.write(bytes);
        if let Some(lines) = &mut self.lines {
            let bytes = bytes.iter().map(|byte| format!("{byte:02x}"));
            lines.push(format!("{name} = {}", bytes.collect::<String>()));
        }
    }

    pub(crate) fn count(&mut self, name: &str, count: u64) {
        self.bytes(name, &count.to_le_bytes());
    }

    pub(crate) fn range(&mut self, range: &ValueRange) {
        self.bytes("min", &range.min.to_bits().to_le_bytes());
        self.bytes("max", &range.max.to_bits().to_le_bytes());
        self.count("non-finite", range.non_finite);
    }

    pub(crate) fn stats(&mut self, stats: &ErrorStats) {
        self.count("count", stats.count);
        self.count("non-finite", stats.non_finite);
        self.count("saturated", stats.saturated);
        self.count("signal", stats.signal.to_bits());
        self.count("noise", stats.noise.to_bits());
        self.count("absolute", stats.absolute.to_bits());
        self.count("max absolute", stats.max_absolute.to_bits());
        self.count("sqnr", stats.sqnr_db().to_bits());
        self.count("mean absolute", stats.mean_absolute().to_bits());
    }

    /// What failed, and where; what was written by then is of no use.
    pub(crate) fn failure(&mut self, block: usize, error: ParamsError) {
        self.count("bad block", block as u64);
        self.bytes("error", error.to_string().as_bytes());
    }
}
