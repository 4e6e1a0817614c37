//! Scales that lose less than those of the whole range.

use crate::named::stored_by_name;
use crate::{Params, named};

/// How the scale of a block is chosen.
///
/// A search takes nothing but values that every file of the format could hold: what it finds is read
/// like any other scale. [`reference::search`](crate::reference::search) says what it does, step by
/// step.
// Exhaustive: whoever chooses scales must carry a new one out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Search {
    /// By the smallest and the largest value, as the dialect says.
    #[default]
    None,
    /// The one of least squared error among [`SEARCH_CANDIDATES`], which clip the largest values
    /// more and more, and use all codes of the integer type if it has less than 8 bits; then fitted to
    /// its codes.
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

/// How often the scale that was found is fitted to its codes.
pub const SEARCH_FITS: usize = 2;

/// What fits a scale, or scale and bias, to the codes of a block: sums over its elements of their
/// weights, of steps (codes less the zero point) and values (less the bias).
///
/// ```
/// use quant_core::{FitSums, FloatType, IntType, Mode, Params, Scheme};
/// let scheme = Scheme::new(IntType::Int4, Mode::Symmetric);
/// let params = Params::new(scheme, 1.0, 0, FloatType::F32)?;
/// // Values 1.2 and 2.4 have codes 1 and 2.
/// let mut sums = FitSums::default();
/// sums.add([1.0 + 4.0, 1.2 + 2.0 * 2.4, 2.0, 3.0, 3.6]);
/// assert_eq!(sums.fit(params).map(|fitted| fitted.scale()), Some(1.2));
/// # Ok::<(), quant_core::ParamsError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct FitSums {
    /// Of `weight * steps * steps`.
    pub squares: f64,
    /// Of `weight * steps * value`.
    pub products: f64,
    /// Of `weight`.
    pub weights: f64,
    /// Of `weight * steps`.
    pub steps: f64,
    /// Of `weight * value`.
    pub values: f64,
}

impl FitSums {
    /// Adds what a piece of the block comes to, in the order of the fields.
    pub fn add(&mut self, [squares, products, weights, steps, values]: [f32; 5]) {
        self.squares += f64::from(squares);
        self.products += f64::from(products);
        self.weights += f64::from(weights);
        self.steps += f64::from(steps);
        self.values += f64::from(values);
    }

    /// The parameters of least squared error for the codes that `params` give, rounded to their type;
    /// `None` where they are no better, or no candidates. With them, some values are closer to another
    /// code.
    pub fn fit(&self, params: Params) -> Option<Params> {
        let (scale, _) = params.exact();
        let fitted = match params.bias() {
            None => self.fit_scale(params),
            Some(_) => self.fit_both(params),
        }?;
        let found = fitted.exact().0;
        let is_candidate = (SEARCH_SCALES.0..=SEARCH_SCALES.1).contains(&found.abs());
        (is_candidate && (found > 0.0) == (scale > 0.0)).then_some(fitted)
    }

    fn fit_scale(&self, params: Params) -> Option<Params> {
        let best = self.products / self.squares;
        let scale = params.scale_type().round(best as f32);
        let away = |scale: f32| (f64::from(scale) - best).abs();
        (away(scale) < away(params.scale())).then(|| params.with_scale(scale))
    }

    /// The line through values against steps; the bias is that of the rounded scale.
    fn fit_both(&self, params: Params) -> Option<Params> {
        let (scale, bias) = params.exact();
        let spread = self.weights * self.squares - self.steps * self.steps;
        // Nearly all steps are the same: what is left are the sums' roundings.
        if spread <= self.weights * self.squares * SEARCH_LEAST_SPREAD {
            return None;
        }
        let best = (self.weights * self.products - self.steps * self.values) / spread;
        // What is added to the bias.
        let more = |scale: f64| (self.values - scale * self.steps) / self.weights;
        let scale_type = params.scale_type();
        let fitted_scale = scale_type.round(best as f32);
        let fitted_bias =
            scale_type.round((f64::from(bias) + more(f64::from(fitted_scale))) as f32);
        let fitted = Params::with_bias(fitted_scale, fitted_bias, scale_type).ok()?;
        // What squared errors are more than at the best.
        let loss = |scale: f32, shift: f64| {
            let (scale, shift) = (f64::from(scale) - best, shift - more(best));
            scale * scale * self.squares
                + 2.0 * scale * shift * self.steps
                + shift * shift * self.weights
        };
        let shift = f64::from(fitted_bias) - f64::from(bias);
        (loss(fitted_scale, shift) < loss(scale, 0.0)).then_some(fitted)
    }
}

/// What the variance of steps is by their mean square at least, where a bias is fitted.
pub const SEARCH_LEAST_SPREAD: f64 = 1.0 / 65_536.0;
