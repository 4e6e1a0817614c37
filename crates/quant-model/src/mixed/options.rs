//! How precisions are mixed.

use super::{Candidate, MixedTarget};

/// How precisions are mixed.
///
/// ```
/// use quant_model::{Candidate, MixedOptions, MixedTarget};
///
/// let options = MixedOptions::new(MixedTarget::Bits(4.5))
///     .with_candidates(vec!["int4:block32".parse()?, "int8".parse()?, Candidate::Float]);
/// assert_eq!((options.candidates.len(), options.points), (3, 0));
/// # Ok::<(), quant_model::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MixedOptions {
    /// What the plan keeps to.
    pub target: MixedTarget,
    /// What each tensor may be; of none [`Candidate::defaults`], and [`Candidate::finer`] ones where at
    /// most 64 tensors have a choice; and blocks of all sizes that divide the output channels, where at
    /// most 16 have one.
    pub candidates: Vec<Candidate>,
    /// Whether a warning tells of those that fit no tensor; of the usual ones none does.
    pub tell_unused: bool,
    /// How many sizes the summary's curve has.
    pub points: usize,
}

impl MixedOptions {
    /// The usual candidates, and no curve.
    pub const fn new(target: MixedTarget) -> Self {
        Self {
            target,
            candidates: Vec::new(),
            tell_unused: true,
            points: 0,
        }
    }

    quant_core::setters! {
        with_candidates candidates: Vec<Candidate>,
        with_tell_unused tell_unused: bool,
        with_points points: usize;
        but target
    }
}
