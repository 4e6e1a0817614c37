//! What a library defines for others, and what it asks others for.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::process::Command;

use super::run;
use crate::Outcome;
use crate::codegen::functions;
use crate::toolchain::llvm;

/// Names as C spells them, or with Apple's underscore.
fn nm(options: &[&str], library: &Path) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let mut nm = Command::new(llvm("llvm-nm")?);
    let text = run(nm
        .args(["--format=just-symbols", "--quiet"])
        .args(options)
        .arg(library))?;
    let names = text
        .lines()
        .filter(|line| !line.ends_with(':') && !line.is_empty());
    Ok(names.map(|name| name.trim().to_owned()).collect())
}

/// What is left for the linker to find.
pub fn imports(library: &Path) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let defined = nm(&["--defined-only"], library)?;
    let undefined = nm(&["--undefined-only"], library)?;
    Ok(undefined.difference(&defined).cloned().collect())
}

/// What the library defines for others.
pub fn globals(library: &Path, options: &[&str]) -> Result<BTreeSet<String>, Box<dyn Error>> {
    nm(
        &[&["--extern-only", "--defined-only"], options].concat(),
        library,
    )
}

/// The header's functions; Apple's have an underscore in front.
pub fn ours(prefix: &str) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let ours = functions()?.into_iter();
    Ok(ours.map(|name| format!("{prefix}{name}")).collect())
}

/// The library defines the header's functions for others, and nothing else: another Rust library
/// in the same program would have the same names.
pub fn expect(found: &BTreeSet<String>, ours: &BTreeSet<String>) -> Outcome {
    let missing: Vec<_> = ours.difference(found).collect();
    let more: Vec<_> = found.difference(ours).collect();
    match missing.is_empty() && more.is_empty() {
        true => Ok(()),
        false => Err(format!("not defined: {missing:?}; not ours: {more:?}").into()),
    }
}
