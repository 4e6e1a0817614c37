//! A corpus of calls of every public function of quant-simd, and a digest of what each call returns
//! and writes: the same on every machine, or something is wrong.
//!
//! Inputs are made by integer arithmetic from the function's name and the case's number alone, so
//! that any case can be run by itself. They are part of the digest: a machine that made other
//! inputs would be seen. Nothing is left out of it: no function returns or writes a NaN whose bits
//! the reference leaves open. (`widen`, the only one that passes NaNs on, keeps their bits; those of
//! f16 become quiet.)

#![forbid(unsafe_code)]
// A new type, mode or dialect must be thought of wherever there is a choice.
#![deny(
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants
)]

mod blocks;
mod buffer;
mod case;
mod columns;
mod dialects;
mod elements;
mod ggml;
mod mlx;
mod observers;
mod record;
mod tensors;
mod values;

use std::hash::Hasher;

use quant_simd::Backend;
use xxhash_rust::xxh64::Xxh64;

use case::Case;
pub use record::Record;

/// A function, and the calls of it.
pub struct Function {
    /// Its name in quant-simd; that of a method of `TensorQuantizer` begins with `tensor_`, and of what
    /// is called in other dialects with `dialects_`.
    pub name: &'static str,
    /// How many calls there are.
    pub cases: usize,
    /// Makes the inputs of a call, calls, and records both.
    call: fn(&mut Case<'_>),
}

/// Every function. Most have three float types and sixteen schemes for each length.
pub const FUNCTIONS: [Function; 38] = [
    Function::new("range", 300 * 48, elements::range),
    Function::new("quantize", 360 * 48, elements::quantize),
    Function::new(
        "quantize_with_stats",
        290 * 48,
        elements::quantize_with_stats,
    ),
    Function::new("dequantize", 330 * 48, elements::dequantize),
    Function::new("fake_quantize", 330 * 48, elements::fake_quantize),
    Function::new("error_stats", 150 * 48, elements::error_stats),
    Function::new("pack", 100 * 48, elements::pack),
    Function::new("unpack", 100 * 48, elements::unpack),
    Function::new("quantize_blocks", 300 * 48, blocks::quantize_blocks),
    Function::new("dequantize_blocks", 200 * 48, blocks::dequantize_blocks),
    Function::new("quantize_ggml", 120 * 48, ggml::quantize_ggml),
    Function::new("dequantize_ggml", 90 * 48, ggml::dequantize_ggml),
    Function::new("quantize_mlx", 60 * 48, mlx::quantize),
    Function::new("search_mlx", 20 * 48, mlx::search),
    Function::new("dequantize_mlx", 40 * 48, mlx::dequantize),
    Function::new("dialects_blocks", 60 * 48, dialects::quantize_blocks),
    Function::new(
        "dialects_dequantize_blocks",
        30 * 48,
        dialects::dequantize_blocks,
    ),
    Function::new(
        "dialects_with_stats",
        60 * 48,
        dialects::quantize_with_stats,
    ),
    Function::new("dialects_fake_quantize", 40 * 48, dialects::fake_quantize),
    Function::new("dialects_tensor", 40 * 48, dialects::quantize_tensor),
    Function::new("column_ranges", 120 * 48, columns::column_ranges),
    Function::new("quantize_columns", 180 * 48, columns::quantize_columns),
    Function::new("dequantize_columns", 180 * 48, columns::dequantize_columns),
    Function::new("tensor_quantize", 120 * 48, tensors::quantize),
    Function::new(
        "tensor_quantize_unmeasured",
        80 * 48,
        tensors::quantize_unmeasured,
    ),
    Function::new("tensor_search", 60 * 48, tensors::quantize_searched),
    Function::new(
        "tensor_search_blocks",
        20 * 48,
        tensors::quantize_searched_blocks,
    ),
    Function::new("tensor_dequantize", 80 * 48, tensors::dequantize),
    Function::new(
        "tensor_dequantize_range",
        40 * 48,
        tensors::dequantize_range,
    ),
    Function::new("tensor_non_finite", 30 * 48, tensors::non_finite),
    Function::new("widen", 30 * 48, elements::widen),
    Function::new("min_max", 300 * 48, observers::min_max),
    Function::new("observe_histogram", 100 * 48, observers::observe_histogram),
    Function::new("observe_channels", 60 * 48, observers::observe_channels),
    Function::new("observe", 40 * 48, observers::observe),
    Function::new("activation_params", 150 * 48, observers::activation_params),
    // quant-core's, on which the scales of all of the above rest.
    Function::new("scheme_params", 150 * 48, blocks::scheme_params),
    Function::new("reference_quantize", 60 * 48, elements::reference_quantize),
];

impl Function {
    const fn new(name: &'static str, cases: usize, call: fn(&mut Case<'_>)) -> Self {
        Self { name, cases, call }
    }

    /// The function of that name.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        FUNCTIONS.iter().find(|function| function.name == name)
    }

    /// Runs one case on a backend, and gives `record` what there is to know of it.
    pub fn run(&self, backend: Backend, index: usize, record: &mut Record) {
        (self.call)(&mut Case::new(self.name, index, backend, record));
    }

    /// The digest of a case.
    pub fn digest(&self, backend: Backend, index: usize) -> u64 {
        let mut record = Record::digest_only();
        self.run(backend, index, &mut record);
        record.digest()
    }

    /// The digest of each case, in order.
    pub fn digests(&self, backend: Backend) -> impl Iterator<Item = u64> {
        (0..self.cases).map(move |index| self.digest(backend, index))
    }
}

/// The digest of some cases, from theirs.
pub fn digest(cases: impl Iterator<Item = u64>) -> u64 {
    let mut all = Xxh64::new(0);
    for digest in cases {
        all.write(&digest.to_le_bytes());
    }
    all.finish()
}

/// Of a function, all cases, or the share that is run where there is no time for all.
#[derive(Clone, Copy)]
pub struct Selection {
    /// The function.
    pub function: &'static Function,
    /// One of so many cases is run.
    pub every: usize,
}

/// One case of so many is in the share. It is prime to the number of pairs of float type and scheme,
/// and small enough that every function has a case of each pair, and of each length.
pub const SHARE: usize = 19;

impl Selection {
    /// From `function`, or `function/19` for the share.
    pub fn by_name(name: &str) -> Option<Self> {
        let (name, every) = match name.split_once('/') {
            Some((name, every)) => (name, every.parse().ok().filter(|&it| it == SHARE)?),
            None => (name, 1),
        };
        let function = Function::by_name(name)?;
        Some(Self { function, every })
    }

    /// The numbers of its cases.
    pub fn cases(self) -> impl Iterator<Item = usize> {
        (0..self.function.cases).step_by(self.every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_enough_cases() {
        let cases: usize = FUNCTIONS.iter().map(|function| function.cases).sum();
        assert!(cases >= 100_000, "{cases}");
    }

    /// A difference between backends is found here too, in a share of the cases: `cargo xtask
    /// equivalence` runs all of them.
    #[test]
    fn backends_agree() {
        for function in &FUNCTIONS {
            for case in (0..function.cases).step_by(SHARE) {
                let want = function.digest(Backend::Scalar, case);
                for &backend in Backend::available() {
                    let got = function.digest(backend, case);
                    assert_eq!(got, want, "{} {backend:?} {case}", function.name);
                }
            }
        }
    }

    #[test]
    fn no_two_cases_are_the_same() {
        for function in &FUNCTIONS {
            let mut digests: Vec<u64> = function.digests(Backend::detect()).collect();
            digests.sort_unstable();
            digests.dedup();
            // Those of no elements are.
            let distinct = digests.len() * 100 / function.cases;
            assert!(distinct >= 85, "{}: {distinct} %", function.name);
        }
    }

    #[test]
    fn the_share_meets_every_length_float_type_and_scheme() {
        for function in &FUNCTIONS {
            let name = format!("{}/{SHARE}", function.name);
            let share = Selection::by_name(&name).expect("a name");
            let cases: Vec<usize> = share.cases().collect();
            let kinds = 48;
            let distinct = |of: fn(usize) -> usize| {
                let all: std::collections::BTreeSet<_> = cases.iter().map(|&it| of(it)).collect();
                all.len()
            };
            assert_eq!(distinct(|it| it / 48), function.cases / kinds, "{name}");
            assert_eq!(distinct(|it| it % 48), kinds, "{name}");
        }
    }

    #[test]
    fn selections_have_names() {
        let some = Selection::by_name("pack").map(|it| (it.function.name, it.every));
        assert_eq!(some, Some(("pack", 1)));
        for name in ["pack/", "pack/0", "pack/18", "pack/19/19", "", "/19"] {
            assert!(Selection::by_name(name).is_none(), "{name}");
        }
    }

    #[test]
    fn words_and_bytes_have_the_same_digest() {
        for function in &FUNCTIONS {
            let mut record = Record::in_words();
            function.run(Backend::detect(), 777, &mut record);
            assert!(record.lines().iter().any(|line| line.contains(" = ")));
            let digest = function.digest(Backend::detect(), 777);
            assert_eq!(record.digest(), digest, "{}", function.name);
        }
    }
}
