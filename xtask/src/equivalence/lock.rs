//! The digests that are written down.

use std::error::Error;
use std::fmt::Write;
use std::fs;

use super::{Digest, Digests, Done};
use crate::toolchain::root;

/// Where they are.
pub const FILE: &str = "xtask/equivalence.lock";

const HEAD: &str = "\
# What every machine must compute: function, cases, digest of all of them; and the same of a share of
# the cases, one of 19, where all would be too many. Every other run makes both from the same cases.
# `cargo xtask equivalence` compares, `cargo xtask equivalence --update` writes.
";

/// The function of a name that may be that of its share of cases: `range` of `range/19`.
pub fn function(name: &str) -> &str {
    name.split_once('/').map_or(name, |(function, _)| function)
}

/// Whether a name is that of a function's share of cases.
pub fn is_share(name: &str) -> bool {
    function(name) != name
}

/// What every target must give.
pub struct Lock {
    digests: Digests,
}

impl Lock {
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn read() -> Result<Self, Box<dyn Error>> {
        let text = fs::read_to_string(root().join(FILE))?;
        let digests = parse(text.lines().filter(|line| !line.starts_with('#')))?;
        Ok(Self { digests })
    }

    /// What came out of the first run of each function.
    ///
    /// # Errors
    /// If the command or all of the functions were not run.
    pub fn of(all: &[Done<'_>]) -> Result<Self, Box<dyn Error>> {
        let mut digests = Digests::new();
        for is_command in [false, true] {
            let mut runs = all
                .iter()
                .filter(|it| it.task.backend.is_none() == is_command);
            let first = runs
                .next()
                .ok_or("nothing to write down: not all was run")?;
            digests.extend(first.digests.clone());
        }
        Ok(Self { digests })
    }

    /// # Errors
    /// If it cannot be written.
    pub fn write(&self) -> Result<(), Box<dyn Error>> {
        let mut text = HEAD.to_owned();
        for (name, Digest { cases, digest }) in &self.digests {
            writeln!(text, "{name} {cases} {digest}")?;
        }
        Ok(fs::write(root().join(FILE), text)?)
    }

    /// What must come out of a function.
    pub fn get(&self, name: &str) -> Option<&Digest> {
        self.digests.get(name)
    }

    /// Of all functions, those that were run and are not written down included.
    pub fn names<'a>(&'a self, all: &'a [Done<'_>]) -> impl Iterator<Item = &'a String> {
        let names = all.iter().flat_map(|done| done.digests.keys());
        let mut names: Vec<_> = names.chain(self.digests.keys()).collect();
        names.sort();
        names.dedup();
        names.into_iter()
    }
}

/// Lines of function, cases, digest.
///
/// # Errors
/// The line that is not one.
pub fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Digests, String> {
    let parse = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, cases, digest] = words.as_slice() else {
            return None;
        };
        let digest = Digest {
            cases: cases.parse().ok()?,
            digest: (*digest).to_owned(),
        };
        Some(((*name).to_owned(), digest))
    };
    lines
        .map(|line| parse(line).ok_or_else(|| format!("not a digest: {line:?}")))
        .collect()
}
