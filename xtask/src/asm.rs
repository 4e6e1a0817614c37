//! `cargo xtask asm`: no intrinsic is left as a call in the release build.
//!
//! An intrinsic that was not inlined into its kernel costs some seventy times as much as the
//! instruction it stands for, and no test would notice.

use std::error::Error;

use crate::Outcome;
use crate::artifacts::{self, Artifact};
use crate::toolchain::{self, AARCH64_LINUX, HOST, Toolchain};

/// Detection, which is called once.
const DETECTION: [&str; 4] = ["_xgetbv", "__cpuid", "__cpuid_count", "__get_cpuid_max"];

/// Checks the library and two programs that use all of it, for the host and for aarch64.
pub fn asm() -> Outcome {
    let mut calls = check(HOST, toolchain::cargo("build"))?;
    if HOST != AARCH64_LINUX.triple {
        match Toolchain::find(&AARCH64_LINUX) {
            Ok(toolchain) => calls += check(AARCH64_LINUX.triple, toolchain.cargo("build"))?,
            Err(missing) => println!("{}: not checked: {missing}", AARCH64_LINUX.triple),
        }
    }
    match calls {
        0 => Ok(()),
        calls => Err(format!("{calls} intrinsics are calls, not instructions").into()),
    }
}

fn check(triple: &str, mut cargo: std::process::Command) -> Result<usize, Box<dyn Error>> {
    cargo.args(["--release", "--lib", "--bins", "--example", "report"]);
    for package in ["quant-simd", "quant-cli", "benches"] {
        cargo.args(["--package", package]);
    }
    let mut calls = 0;
    let mut checked = Vec::new();
    for Artifact {
        name,
        path,
        is_program,
    } in artifacts::build(cargo)?
    {
        let library = name == "quant_simd";
        let program = is_program && (name == "quant" || name == "report");
        if !library && !program {
            continue;
        }
        let symbols = artifacts::symbols(&path)?;
        if !symbols.iter().any(|symbol| symbol.contains("quant_simd::")) {
            return Err(format!("{} has no symbols to look at", path.display()).into());
        }
        for symbol in symbols.iter().filter(|symbol| is_intrinsic(symbol)) {
            println!("{triple}: {name}: {symbol}");
            calls += 1;
        }
        println!("{triple}: {name}: {} symbols", symbols.len());
        checked.push(name);
    }
    checked.sort();
    match checked.as_slice() {
        [a, b, c] if [a, b, c] == ["quant", "quant_simd", "report"] => Ok(calls),
        checked => Err(format!("{triple}: built only {checked:?}").into()),
    }
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
