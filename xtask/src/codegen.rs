//! `cargo xtask codegen`: what is made from sources, and checked in.

use std::error::Error;
use std::fs;

use regex::Regex;

use crate::Outcome;
use crate::toolchain::root;

const CRATE: &str = "crates/quant-capi";
pub const HEADER: &str = "crates/quant-capi/include/quant.h";

/// Writes the header of the C library, or checks that it is as it would be written.
pub fn codegen(check: bool) -> Outcome {
    let path = root().join(HEADER);
    let header = header()?;
    if check {
        let committed = fs::read_to_string(path).unwrap_or_default();
        return match committed == header {
            true => Ok(()),
            false => Err(format!("{HEADER} is not up to date: run `cargo xtask codegen`").into()),
        };
    }
    fs::create_dir_all(path.parent().ok_or("a folder")?)?;
    Ok(fs::write(path, header)?)
}

fn header() -> Result<String, Box<dyn Error>> {
    let source = root().join(CRATE);
    let mut config = cbindgen::Config::from_file(source.join("cbindgen.toml"))?;
    let preamble = config.after_includes.take().unwrap_or_default();
    config.after_includes = Some(preamble.replace("{version}", version()));
    let bindings = cbindgen::Builder::new()
        .with_crate(source)
        .with_config(config)
        .generate()?;
    let mut header = Vec::new();
    bindings.write(&mut header);
    annotated(&String::from_utf8(header)?)
}

/// The functions of the header.
///
/// # Errors
/// If it cannot be read.
pub fn functions() -> Result<Vec<String>, Box<dyn Error>> {
    let header = fs::read_to_string(root().join(HEADER))?;
    let name = Regex::new(r"(?m)^[A-Za-z][^/\n]*?\b(quant_\w+)\(")?;
    let names = name.captures_iter(&header);
    Ok(names.map(|found| found[1].to_owned()).collect())
}

/// That of the whole workspace.
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// With what clang and Swift want to know, and cbindgen cannot say: that enumerations may hold other
/// numbers, what Swift calls their cases, and which pointers may be null. Those to buffers may;
/// those to results may not, with exceptions.
fn annotated(header: &str) -> Result<String, Box<dyn Error>> {
    let pointer = Regex::new(r"(?<type>\w+) \*(?<name>\w+)(?<end>[,;)])")?;
    let case = Regex::new(r"^  (?<name>QUANT_[A-Z]+_(?<case>\w+)) = ")?;
    let lines = header.lines().map(|line| {
        if line.trim_start().starts_with("//") {
            return line.to_owned();
        }
        let line = line.replace("typedef enum {", "typedef enum QUANT_OPEN_ENUM {");
        let line = case.replace(&line, |found: &regex::Captures<'_>| {
            let (name, case) = (&found["name"], camel_case(&found["case"]));
            format!("  {name} QUANT_SWIFT_NAME({case}) = ")
        });
        let annotated = pointer.replace_all(&line, |found: &regex::Captures<'_>| {
            let (of, name, end) = (&found["type"], &found["name"], &found["end"]);
            let is_result = of.starts_with("Quant") || of == "size_t" && name == "size";
            match is_result && !OPTIONAL.contains(&name) {
                true => found[0].to_owned(),
                false => format!("{of} *QUANT_NULLABLE {name}{end}"),
            }
        });
        annotated.into_owned()
    });
    Ok(lines.collect::<Vec<_>>().join("\n") + "\n")
}

/// `NON_FINITE` as `nonFinite`.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_').map(str::to_lowercase);
    let first = words.next().unwrap_or_default();
    words.fold(first, |name, word| {
        let (initial, rest) = word.split_at(1);
        name + &initial.to_uppercase() + rest
    })
}

/// Results that a caller need not want, and a list that may be empty.
const OPTIONAL: [&str; 3] = ["backends", "failure", "lost"];
