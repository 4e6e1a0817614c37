//! Runs the corpus, and prints digests; or one case, in words.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use quant_equivalence::{FUNCTIONS, Function, Record, SHARE, Selection, digest};
use quant_simd::Backend;

const USAGE: &str = "\
usage: quant-equivalence backends                       those that this machine has, the best first
       quant-equivalence digests BACKEND [share]        function, cases and digest, a line each; also
                                                        for one case of 19, or only for these
       quant-equivalence cases BACKEND FUNCTION[/19]    number and digest of each case
       quant-equivalence case BACKEND FUNCTION NUMBER   what goes in and comes out";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Some(()) => ExitCode::SUCCESS,
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[&str]) -> Option<()> {
    match *arguments {
        ["backends"] => {
            for backend in Backend::available() {
                println!("{}", backend.name());
            }
        }
        ["digests", backend] => {
            let backend = Backend::by_name(backend).ok()?;
            for function in &FUNCTIONS {
                let digests: Vec<u64> = function.digests(backend).collect();
                print_digest(function.name, digests.iter().copied());
                print_share(function, digests.into_iter().step_by(SHARE));
            }
        }
        ["digests", backend, "share"] => {
            let backend = Backend::by_name(backend).ok()?;
            for function in &FUNCTIONS {
                let share = (0..function.cases).step_by(SHARE);
                print_share(function, share.map(|case| function.digest(backend, case)));
            }
        }
        ["cases", backend, selection] => {
            let (backend, selection) = (
                Backend::by_name(backend).ok()?,
                Selection::by_name(selection)?,
            );
            for case in selection.cases() {
                println!("{case} {:016x}", selection.function.digest(backend, case));
            }
        }
        ["case", backend, function, number] => {
            let (backend, function) = (
                Backend::by_name(backend).ok()?,
                Function::by_name(function)?,
            );
            let number = number.parse().ok().filter(|&it| it < function.cases)?;
            let mut record = Record::in_words();
            function.run(backend, number, &mut record);
            for line in record.lines() {
                println!("{line}");
            }
        }
        _ => return None,
    }
    Some(())
}

fn print_share(function: &Function, cases: impl Iterator<Item = u64>) {
    print_digest(&format!("{}/{SHARE}", function.name), cases);
}

fn print_digest(name: &str, cases: impl Iterator<Item = u64>) {
    let mut count = 0;
    let digest = digest(cases.inspect(|_| count += 1));
    println!("{name} {count} {digest:016x}");
}
