//! Every input there is: the kernels, and the arithmetic they rest on, against the reference.

#![forbid(unsafe_code)]
// A new type, mode or dialect must be thought of wherever there is a choice.
#![deny(
    clippy::wildcard_enum_match_arm,
    clippy::match_wildcard_for_single_variants
)]

mod floats;
mod halves;
mod mlx;
mod proof;
mod search;

use std::fmt;
use std::process::ExitCode;

/// What a row must show.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Expect {
    /// No difference.
    #[default]
    Equal,
    /// Some difference: that the comparison can fail.
    Different,
    /// Whatever it is: a finding.
    Anything,
}

/// One line of the table.
#[derive(Clone, Debug, Default)]
struct Row {
    what: String,
    scales: u64,
    inputs: u64,
    differences: u64,
    first: Option<String>,
    seconds: f64,
    expect: Expect,
}

impl Row {
    fn named(mut self, what: &str, expect: Expect) -> Self {
        self.what = what.into();
        self.expect = expect;
        self
    }

    fn is_good(&self) -> bool {
        match self.expect {
            Expect::Equal => self.differences == 0,
            Expect::Different => self.differences > 0,
            Expect::Anything => true,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            scales,
            inputs,
            differences,
            seconds,
            ..
        } = self;
        write!(
            to,
            "{what:<44} {scales:>8} {inputs:>15} {differences:>12} {seconds:>8.1}"
        )?;
        match &self.first {
            Some(first) if self.differences > 0 => write!(to, "\n    first: {first}"),
            _ => Ok(()),
        }
    }
}

/// Differences, and the first of them.
fn sum(a: (u64, Option<String>), b: (u64, Option<String>)) -> (u64, Option<String>) {
    (a.0 + b.0, a.1.or(b.1))
}

/// Runs everything, or some of each kind of input, prints the table, and says whether all of it is
/// as it must be.
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let reduced = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--reduced"] => true,
        _ => {
            eprintln!("usage: quant-exhaustive [--reduced]");
            return ExitCode::from(2);
        }
    };
    if cfg!(debug_assertions) {
        eprintln!("quant-exhaustive: not an optimized build, this takes hours");
    }
    match run(reduced) {
        true => ExitCode::SUCCESS,
        false => {
            eprintln!("quant-exhaustive: not as it must be, see above");
            ExitCode::FAILURE
        }
    }
}

fn run(reduced: bool) -> bool {
    println!(
        "{:<44} {:>8} {:>15} {:>12} {:>8}",
        "what", "scales", "inputs", "differences", "seconds"
    );
    let mut good = true;
    let mut show = |row: Row| {
        println!("{row}");
        good &= row.is_good();
    };
    proof::rows(reduced).into_iter().for_each(&mut show);
    halves::rows(reduced).into_iter().for_each(&mut show);
    mlx::rows(reduced).into_iter().for_each(&mut show);
    search::rows(reduced).into_iter().for_each(&mut show);
    floats::rows(reduced, &mut show);
    good
}
