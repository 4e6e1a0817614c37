//! Scales that lose less than those of the whole range.

use crate::named;
use crate::named::stored_by_name;

/// How the scale of a block is chosen.
///
/// A search takes nothing but values that every file of the format could hold: what it finds is read
/// like any other scale. [`reference::search`](crate::reference::search) says what it does, step by
/// step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Search {
    /// By the smallest and the largest value, as the dialect says.
    #[default]
    None,
    /// The one of least squared error among [`SEARCH_CANDIDATES`], which clip the largest values
    /// more and more, and use all codes of the integer
    /// type if it has less than 8 bits.
    Mse,
}

named!(Search, "search": None "none", Mse "mse");
stored_by_name!(Search);

/// How many scales are tried for a block.
pub const SEARCH_CANDIDATES: usize = 16;

/// What the range of a block is multiplied by for each candidate, the first one the whole range:
/// 1, 0.96, 0.92 and so on to 0.4, each the nearest f32.
pub const SEARCH_FACTORS: [f32; SEARCH_CANDIDATES] = {
    let mut factors = [0.0; SEARCH_CANDIDATES];
    let mut k = 0;
    while k < SEARCH_CANDIDATES {
        factors[k] = (25 - k as u32) as f32 / 25.0;
        k += 1;
    }
    factors
};

/// [`SEARCH_FACTORS`] for a block whose largest magnitude is that of a value above zero, where there is
/// one negative code more: all but the plain scale are below zero.
pub const SEARCH_FACTORS_BELOW_ZERO: [f32; SEARCH_CANDIDATES] = {
    let mut factors = SEARCH_FACTORS;
    let mut k = 1;
    while k < SEARCH_CANDIDATES {
        factors[k] = -factors[k];
        k += 1;
    }
    factors
};

/// Magnitudes of scales outside of these, 2^-48 and 2^48, are no candidates: squares of errors must
/// neither overflow nor vanish in f32.
pub const SEARCH_SCALES: (f32, f32) = (
    f32::from_bits((127 - 48) << 23),
    f32::from_bits((127 + 48) << 23),
);

/// Elements of a block whose squared errors are added in f32, before their sum is added in f64.
pub const SEARCH_PIECE: usize = 1024;
