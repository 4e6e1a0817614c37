//! How much the observers of all activations may take.

use quant_core::observer::{Observer, ObserverConfig};

/// Bytes of all observers. While documents are written, copies of them take as much twice more.
pub const MOST: usize = 512 << 20;
/// Names that are told.
const PASSED_OVER: usize = 10_000;

/// What the observers take that there are.
pub struct Memory {
    config: ObserverConfig,
    activations: usize,
    bytes: usize,
}

impl Memory {
    pub fn new(config: ObserverConfig) -> Self {
        Self {
            config,
            activations: 0,
            bytes: 0,
        }
    }

    /// Counts one more, before it is made.
    ///
    /// # Errors
    /// What to do where it would be too much.
    pub fn add(&mut self, name: &str) -> Result<(), String> {
        // Twice: the name stands in a table, too.
        let names = 2 * (name.len() + size_of::<String>());
        let bins = self.config.bins().unwrap_or_default();
        self.activations += 1;
        self.bytes += names + size_of::<Observer>() + bins * size_of::<u64>();
        if self.bytes <= MOST {
            return Ok(());
        }
        let (activations, most) = (self.activations, MOST >> 20);
        Err(match self.config.bins() {
            Some(bins) => format!(
                "histograms of {bins} bins for {activations} activations and more take over {most} MiB; give fewer \u{fdd2}bins\u{fdd3}, or calibrate some of the activations at a time"
            ),
            None => format!(
                "the states of {activations} activations and more take over {most} MiB; calibrate some of them at a time"
            ),
        })
    }
}

/// Notes an activation that is passed over; beyond a number of them no more.
pub fn note(
    passed_over: &mut std::collections::BTreeMap<String, String>,
    activation: &str,
    dtype: &str,
) {
    if !passed_over.contains_key(activation) && passed_over.len() < PASSED_OVER {
        passed_over.insert(activation.to_owned(), dtype.to_owned());
    }
}
