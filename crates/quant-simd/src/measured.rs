//! Codes with their errors added up, by the pass that does both wherever it can.

use quant_core::{ErrorStats, STATS_RUN};

use crate::kernels::encode::Encoded;
use crate::kernels::error::ErrorSums;
use crate::param_layout::{EncodeSpec, ParamLayout};
use crate::{Backend, Element};

/// Calls of [`Measured::runs`] that are left out at most, after calls that did nothing.
const MOST_LEFT_OUT: u32 = 32;

/// The errors of a chunk so far. Where codes are clipped again and again, one pass is tried ever more
/// rarely.
#[derive(Default)]
pub(crate) struct Measured {
    /// Sums of errors.
    pub(crate) sums: ErrorSums,
    /// What was counted.
    pub(crate) encoded: Encoded,
    /// Calls to leave out after the next one that does nothing.
    patience: u32,
    left_out: u32,
}

impl Measured {
    /// Encodes whole runs, and adds up their errors, as long as no code is clipped and all is finite;
    /// gives the number of values done. Codes behind these are void.
    pub(crate) fn runs<F: Element>(
        &mut self,
        backend: Backend,
        values: &[F],
        spec: EncodeSpec,
        place: ParamLayout<'_>,
        codes: &mut [u8],
    ) -> usize {
        let whole = values.len() / STATS_RUN * STATS_RUN;
        if whole == 0 {
            return 0;
        }
        if self.left_out > 0 {
            self.left_out -= 1;
            return 0;
        }
        let (values, codes) = (&values[..whole], &mut codes[..whole]);
        let done = F::encode_runs(backend, values, spec, place, codes, &mut self.sums);
        self.patience = match done {
            None => u32::MAX,
            Some(0) => Ord::min(
                self.patience.saturating_mul(2).saturating_add(1),
                MOST_LEFT_OUT,
            ),
            Some(_) => 0,
        };
        self.left_out = self.patience;
        done.unwrap_or(0) * STATS_RUN
    }

    /// How often [`runs`](Self::runs) would do nothing because of what was before. Then it will not.
    pub(crate) fn take_left_out(&mut self) -> usize {
        core::mem::take(&mut self.left_out) as usize
    }

    /// Encodes anything, by way of its dequantized values. All but the last of a chunk are whole runs.
    pub(crate) fn by_values<F: Element>(
        &mut self,
        backend: Backend,
        values: &[F],
        spec: EncodeSpec,
        place: ParamLayout<'_>,
        codes: &mut [u8],
        dequantized: &mut [f32],
    ) {
        let dequantized = &mut dequantized[..values.len()];
        self.count(F::encode(backend, values, spec, place, codes, dequantized));
        F::add_errors(backend, values, dequantized, &mut self.sums);
    }

    /// Counts what was encoded elsewhere.
    pub(crate) fn count(&mut self, encoded: Encoded) {
        self.encoded.non_finite += encoded.non_finite;
        self.encoded.clipped += encoded.clipped;
    }

    /// The statistics of the chunk.
    pub(crate) fn stats(&self) -> ErrorStats {
        ErrorStats {
            saturated: self.encoded.clipped,
            ..self.sums.stats()
        }
    }
}
