//! `cargo xtask codegen`: what is made from sources, and checked in.

use std::error::Error;
use std::fs;

use regex::Regex;

use crate::Outcome;
use crate::toolchain::root;

const CRATE: &str = "crates/quant-capi";
pub const HEADER: &str = "crates/quant-capi/include/quant.h";
const SWIFT: &str = "swift/Sources/Quant/Enumerations.swift";
/// The types that the header's enumerations belong to in Swift, and what they are called there.
const SWIFT_NAMES: [(&str, &str, &str); 4] = [
    ("Scheme", "QuantCode", "Code"),
    ("Scheme", "QuantMode", "Mode"),
    ("Scheme", "QuantDialect", "Dialect"),
    ("Observer", "QuantObserverKind", "Kind"),
];

/// Writes the header of the C library and Swift's enumerations, or checks that they are as they
/// would be written.
pub fn codegen(check: bool) -> Outcome {
    let header = header()?;
    let enumerations = swift_enumerations(&header)?;
    for (file, text) in [(HEADER, header), (SWIFT, enumerations)] {
        let path = root().join(file);
        if !check {
            fs::create_dir_all(path.parent().ok_or("a folder")?)?;
            fs::write(path, text)?;
        } else if fs::read_to_string(path).unwrap_or_default() != text {
            return Err(format!("{file} is not up to date: run `cargo xtask codegen`").into());
        }
    }
    Ok(())
}

fn header() -> Result<String, Box<dyn Error>> {
    let source = root().join(CRATE);
    let mut config = cbindgen::Config::from_file(source.join("cbindgen.toml"))?;
    let preamble = config.after_includes.take().unwrap_or_default();
    let mut parts = version().split('.');
    let preamble = ["{major}", "{minor}", "{patch}"]
        .into_iter()
        .fold(preamble, |text, part| {
            text.replace(part, parts.next().unwrap_or("0"))
        });
    config.after_includes = Some(preamble.replace("{version}", version()));
    let bindings = cbindgen::Builder::new()
        .with_crate(source)
        .with_config(config)
        .generate()?;
    let mut header = Vec::new();
    bindings.write(&mut header);
    annotated(&tagged(&String::from_utf8(header)?))
}

/// With the names of structures and enumerations as their tags, too: so they can be declared ahead.
fn tagged(header: &str) -> String {
    let mut lines: Vec<String> = header.lines().map(str::to_owned).collect();
    let mut open = None;
    for i in 0..lines.len() {
        if lines[i].starts_with("typedef ") && lines[i].ends_with(" {") {
            open = Some(i);
        }
        let name = lines[i].strip_prefix("} ");
        let name = name.and_then(|it| it.strip_suffix(';')).map(str::to_owned);
        if let (Some(name), Some(at)) = (name, open) {
            let brace = lines[at].len() - 1;
            lines[at].insert_str(brace, &format!("{name} "));
            open = None;
        }
    }
    lines.join("\n")
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
    let enumeration = Regex::new(r"^typedef enum (?<name>\w+) \{$")?;
    let case = Regex::new(r"^  (?<name>QUANT_\w+) = ")?;
    // What the names of the enumeration's cases begin with.
    let mut prefix = String::new();
    let lines = header.lines().map(|line| {
        if line.trim_start().starts_with("//") {
            return line.to_owned();
        }
        if let Some(found) = enumeration.captures(line) {
            prefix = words(&found["name"]) + "_";
        }
        let line = line.replace("typedef enum ", "typedef enum QUANT_OPEN_ENUM ");
        let line = case.replace(&line, |found: &regex::Captures<'_>| {
            let name = &found["name"];
            let case = camel_case(name.strip_prefix(&prefix).unwrap_or(name));
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
        // Where a new observer goes.
        annotated.replace("**observer", "*QUANT_NULLABLE *QUANT_NONNULL observer")
    });
    Ok(lines.collect::<Vec<_>>().join("\n") + "\n")
}

/// The header's enumerations as Swift's, which cannot hold other numbers.
fn swift_enumerations(header: &str) -> Result<String, Box<dyn Error>> {
    let case = Regex::new(r"^  QUANT_\w+ QUANT_SWIFT_NAME\((?<case>\w+)\) = (?<number>\d+),$")?;
    let mut swift = String::from(
        "// Made from the C library's header by `cargo xtask codegen`: change it there.\n",
    );
    let mut before = "";
    for (owner, c_name, name) in SWIFT_NAMES {
        if owner != before {
            let end = if before.is_empty() { "" } else { "}\n" };
            swift += &format!("{end}\nextension {owner} {{");
            before = owner;
        }
        let lines: Vec<&str> = header.lines().collect();
        let end = format!("}} {c_name};");
        let end = lines.iter().position(|line| *line == end);
        let end = end.ok_or_else(|| format!("no {c_name} in the header"))?;
        let start = lines[..end].iter().rposition(|line| line.is_empty());
        swift += "\n";
        for line in &lines[start.map_or(0, |line| line + 1)..end] {
            if let Some(found) = case.captures(line) {
                swift += &format!("        case {} = {}\n", &found["case"], &found["number"]);
            } else if let Some(text) = line.trim_start().strip_prefix("//") {
                let depth = if line.starts_with("//") { 4 } else { 8 };
                swift += &format!("{:depth$}///{}\n", "", text.trim_start_matches('/'));
            } else {
                swift += &format!("    public enum {name}: UInt32, CaseIterable, Sendable {{\n");
            }
        }
        swift += "    }\n";
    }
    Ok(swift + "}\n")
}

/// `QuantObserverKind` as `QUANT_OBSERVER_KIND`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push('_');
        }
        words.extend(letter.to_uppercase());
    }
    words
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

/// Results that a caller need not want, a list that may be empty, and what may be freed.
const OPTIONAL: [&str; 4] = ["backends", "ended", "failure", "error_stats"];
