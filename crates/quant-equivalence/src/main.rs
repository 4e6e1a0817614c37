//! Runs the corpus, and prints digests; or one case, in words.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use quant_equivalence::{FUNCTIONS, Function, Record};
use quant_simd::Backend;

const USAGE: &str = "\
usage: quant-equivalence backends                       those that this machine has, the best first
       quant-equivalence digests BACKEND                function, cases and digest, a line each
       quant-equivalence cases BACKEND FUNCTION         the digest of each case
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
                let (name, cases) = (function.name, function.cases);
                println!("{name} {cases} {:016x}", function.digest(backend));
            }
        }
        ["cases", backend, function] => {
            let (backend, function) = (
                Backend::by_name(backend).ok()?,
                Function::by_name(function)?,
            );
            for digest in function.digests(backend) {
                println!("{digest:016x}");
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
