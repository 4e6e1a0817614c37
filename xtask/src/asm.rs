//! `cargo xtask asm`: no intrinsic is left as a call in the release build.
//!
//! An intrinsic that was not inlined into its kernel costs some seventy times as much as the
//! instruction it stands for, and no test would notice.

use std::error::Error;
use std::process::Command;

use crate::Outcome;
use crate::artifacts;
use crate::toolchain::{self, AARCH64_LINUX, HOST, Toolchain};

/// Detection, which is called once.
const DETECTION: [&str; 4] = ["_xgetbv", "__cpuid", "__cpuid_count", "__get_cpuid_max"];

/// The library, which holds every instance of a kernel.
const LIBRARY: &str = "quant_simd";
/// A program that calls all of it, for what the library would leave to its callers to compile. It has
/// no other libraries that are compiled without optimization.
const PROGRAM: &str = "quant-equivalence";

/// Checks library and program, for the host and for aarch64.
pub fn asm() -> Outcome {
    let mut calls = 0;
    // First, in a folder of its own: another task may be building for the host.
    if HOST != AARCH64_LINUX.triple {
        match Toolchain::find(&AARCH64_LINUX) {
            Ok(toolchain) => {
                calls += check(AARCH64_LINUX.triple, toolchain.cargo("build"))?;
            }
            Err(missing) => println!("{}: not checked: {missing}", AARCH64_LINUX.triple),
        }
    }
    calls += check(HOST, toolchain::cargo("build"))?;
    match calls {
        0 => Ok(()),
        calls => Err(format!("{calls} intrinsics are calls, not instructions").into()),
    }
}

fn check(triple: &str, mut cargo: Command) -> Result<usize, Box<dyn Error>> {
    // What cargo builds for a program, it lists with it: the library too.
    artifacts::checked(&mut cargo)?.args(["--bin", PROGRAM]);
    let artifacts = artifacts::build(cargo)?;
    let mut calls = 0;
    for name in [LIBRARY, PROGRAM] {
        let built = artifacts.iter().find(|artifact| artifact.name == name);
        let path = &built.ok_or_else(|| format!("{name} was not built"))?.path;
        let symbols = artifacts::symbols(path)?;
        if !symbols.iter().any(|symbol| symbol.contains("quant_simd::")) {
            return Err(format!("{} has no symbols to look at", path.display()).into());
        }
        let before = calls;
        for symbol in symbols.iter().filter(|symbol| is_intrinsic(symbol)) {
            println!("{triple}: {name}: {symbol}");
            calls += 1;
        }
        let (symbols, found) = (symbols.len(), calls - before);
        println!("{triple}: {name}: {symbols} symbols, {found} of them intrinsics");
    }
    Ok(calls)
}

/// An instruction of std's, or pulp's method of the same name.
fn is_intrinsic(symbol: &str) -> bool {
    let function = symbol.rsplit("::").next().unwrap_or(symbol);
    symbol.contains("core_arch::") && !DETECTION.contains(&function)
}

#[cfg(test)]
mod tests {
    use super::is_intrinsic;

    #[test]
    fn intrinsics_are_told_from_detection() {
        for call in [
            "core::core_arch::x86::avx512f::_mm512_add_ps",
            "pulp::core_arch::x86::Avx::_mm256_add_ps",
            "core::core_arch::aarch64::neon::generated::vcvtnq_s32_f32",
        ] {
            assert!(is_intrinsic(call), "{call}");
        }
        for fine in [
            "core::core_arch::x86::xsave::_xgetbv",
            "core::core_arch::x86::cpuid::__cpuid_count",
            "quant_simd::slice::range",
        ] {
            assert!(!is_intrinsic(fine), "{fine}");
        }
    }
}
