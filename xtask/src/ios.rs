//! `cargo xtask ios`: static libraries for Apple's systems, and a look at what is in them.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use object::macho::{CPU_TYPE_ARM64, CPU_TYPE_X86_64, MachHeader64};
use object::read::macho::{MachHeader, MachOFile64};
use object::{Endianness, macho};

use crate::Outcome;
use crate::artifacts;
use crate::toolchain::{APPLE, Target, Toolchain, llvm};

/// The oldest systems that the libraries are for.
const OLDEST_IOS: u32 = 16;
const OLDEST_MACOS: u32 = 13;

/// What must be found in the kernels: for each, some of them under any of several names.
const EXPECTED: [(&str, &[&[&str]]); 7] = [
    (
        "::Quantize<f32,",
        &[&["fcvtns"], &["sqxtn", "uzp1"], &["fmla", "fmls"]],
    ),
    (
        "::Quantize<half::binary16::f16,",
        &[&["fcvtl"], &["fcvtns"], &["sqxtn", "uzp1"]],
    ),
    (
        "::QuantizeBlocks<f32,",
        &[&["fcvtns"], &["sqxtn", "uzp1"], &["fdiv"]],
    ),
    ("::Dequantize<f32,", &[&["scvtf"], &["fmul"]]),
    ("::Dequantize<half::binary16::f16,", &[&["fcvtn"]]),
    (
        "::FindRange<f32>",
        &[&["fmin", "fminnm"], &["fmax", "fmaxnm"]],
    ),
    ("::FindRange<half::binary16::f16>", &[&["fcvtl"]]),
];

/// Builds and checks all of them.
pub fn ios() -> Outcome {
    let mut failed = Vec::new();
    for target in &APPLE {
        if let Err(error) = target_library(target) {
            eprintln!("{}: {error}", target.triple);
            failed.push(target.triple);
        }
    }
    match failed.as_slice() {
        [] => Ok(()),
        failed => Err(format!("failed: {}", failed.join(", ")).into()),
    }
}

fn target_library(target: &'static Target) -> Outcome {
    let path = build(target)?;
    let objects = check_format(target, &path)?;
    let size = std::fs::metadata(&path)?.len() >> 10;
    println!(
        "{}: {size} KiB, {objects} objects of quant's own",
        target.triple
    );
    if is_arm(target) {
        check_kernels(&path)?;
        check_calls(&path)?;
    }
    Ok(())
}

/// No NEON kernel calls a function of the scalar backend.
fn check_calls(path: &Path) -> Outcome {
    let references = artifacts::references(path)?;
    let mut of_kernels = references
        .iter()
        .filter(|(caller, _)| caller.contains(VECTORIZED));
    let calls = of_kernels.clone().count();
    if calls == 0 {
        return Err("no NEON kernel refers to anything, not even to a panic".into());
    }
    let scalar = |(_, callee): &&(String, String)| callee.contains("scalar::Scalar");
    match of_kernels.find(scalar) {
        Some((caller, callee)) => Err(format!("{caller} calls {callee}").into()),
        None => {
            println!(
                "  {:<36} none of {calls} references",
                "calls of the scalar backend"
            );
            Ok(())
        }
    }
}

fn is_arm(target: &Target) -> bool {
    target.triple.starts_with("aarch64")
}

fn build(target: &'static Target) -> Result<PathBuf, Box<dyn Error>> {
    let mut cargo = Toolchain::find(target)?.cargo("rustc");
    cargo.args(["--release", "--package", "quant-capi", "--lib"]);
    // The shared library would need a linker for Apple's systems.
    cargo.args(["--crate-type", "staticlib"]);
    deployment(&mut cargo);
    // The older mangling leaves the types out that the kernels are told by.
    cargo.env("RUSTFLAGS", "-Csymbol-mangling-version=v0");
    let artifacts = artifacts::build(cargo)?;
    let library = artifacts.into_iter().find(|it| it.name == "quant_capi");
    Ok(library.ok_or("quant-capi was not built")?.path)
}

/// Builds for the oldest systems.
pub fn deployment(cargo: &mut Command) {
    cargo.env("IPHONEOS_DEPLOYMENT_TARGET", format!("{OLDEST_IOS}.0"));
    cargo.env("MACOSX_DEPLOYMENT_TARGET", format!("{OLDEST_MACOS}.0"));
}

/// Mach-O, for the processor and the oldest system; how many of the objects are quant's own. Those
/// of std, if they come with rustup, are for older systems too.
pub fn check_format(target: &Target, path: &Path) -> Result<usize, Box<dyn Error>> {
    let data = std::fs::read(path)?;
    let processor = match is_arm(target) {
        true => CPU_TYPE_ARM64,
        false => CPU_TYPE_X86_64,
    };
    let (platform, oldest) = match target.triple {
        "aarch64-apple-ios" => (macho::PLATFORM_IOS, OLDEST_IOS),
        "aarch64-apple-darwin" => (macho::PLATFORM_MACOS, OLDEST_MACOS),
        _ => (macho::PLATFORM_IOSSIMULATOR, OLDEST_IOS),
    };
    let mut own = 0;
    for (name, member) in artifacts::named_members(&data)? {
        let file = MachOFile64::<Endianness>::parse(member)
            .map_err(|error| format!("{name} is not Mach-O: {error}"))?;
        let header: &MachHeader64<_> = file.macho_header();
        if header.cputype(file.endian()) != processor {
            return Err(format!("{name} is for another processor").into());
        }
        let mut commands = file.macho_load_commands()?;
        let mut found = None;
        while let Some(command) = commands.next()? {
            if let Some((version, _)) = command.build_version(file.endian())? {
                let minimum = version.minos.get(file.endian()).0 >> 16;
                found = Some((version.platform.get(file.endian()), minimum));
            }
        }
        if name.starts_with("quant_") {
            own += 1;
            if found != Some((platform, oldest)) {
                let expected = (platform, oldest);
                return Err(format!(
                    "{name}: platform and oldest system are {found:?}, not {expected:?}"
                )
                .into());
            }
        }
    }
    match own {
        0 => Err("none of the objects is quant's own".into()),
        own => Ok(own),
    }
}

/// Pulp's function with the instruction set, into which a kernel is inlined.
const VECTORIZED: &str = "neon::Call<";

/// A function of the disassembly.
#[derive(Default)]
struct Listing {
    name: String,
    mnemonics: Vec<String>,
}

/// The kernel with all its types, if a function is a part of one of that name: the backend's choice,
/// or pulp's function with the instruction set. How much of it is inlined into which, varies.
fn instance<'a>(function: &'a str, kernel: &str) -> Option<&'a str> {
    let is_part = function.contains("Backend>::run") || function.contains(VECTORIZED);
    let start = function.find(kernel).filter(|_| is_part)?;
    Some(function[start + 2..].trim_end_matches('>'))
}

/// The NEON kernels contain what [`EXPECTED`] says.
fn check_kernels(path: &Path) -> Outcome {
    let output = Command::new(llvm("llvm-objdump")?)
        .args(["--disassemble", "--no-show-raw-insn"])
        .arg(path)
        .output()?;
    let functions = functions(&String::from_utf8_lossy(&output.stdout));
    for (kernel, expected) in EXPECTED {
        let mut instances: BTreeMap<&str, Vec<&Listing>> = BTreeMap::new();
        for function in &functions {
            if let Some(instance) = instance(&function.name, kernel) {
                instances.entry(instance).or_default().push(function);
            }
        }
        if instances.is_empty() {
            return Err(format!("no instances of {kernel}").into());
        }
        for (instance, parts) in &instances {
            let mnemonics = || parts.iter().flat_map(|it| &it.mnemonics);
            let found = |names: &&&[&str]| {
                let is_one = |it: &String| names.iter().any(|name| it.starts_with(name));
                mnemonics().any(is_one)
            };
            if let Some(missing) = expected.iter().find(|names| !found(names)) {
                return Err(format!("{instance}: none of {missing:?}").into());
            }
        }
        println!("  {:<36} {} instances", &kernel[2..], instances.len());
    }
    Ok(())
}

fn functions(listing: &str) -> Vec<Listing> {
    let demangled = |symbol: &str| format!("{:#}", rustc_demangle::demangle(symbol));
    let mut functions = vec![Listing::default()];
    for line in listing.lines() {
        let last = functions.last_mut();
        if let Some((_, symbol)) = line.strip_suffix(">:").and_then(|it| it.split_once(" <")) {
            functions.push(Listing {
                name: demangled(symbol),
                ..Listing::default()
            });
        } else if let (Some((_, rest)), Some(last)) = (line.split_once(':'), last) {
            let mut words = rest.split_whitespace();
            match (words.next(), words.next()) {
                // Vectors only: the same names work on single numbers.
                (Some(mnemonic), Some(operand)) if operand.starts_with('v') => {
                    last.mnemonics.push(mnemonic.to_owned());
                }
                // Apple's spelling puts the shape behind the name.
                (Some(mnemonic), Some(_)) if mnemonic.contains('.') => {
                    last.mnemonics.push(mnemonic.to_owned());
                }
                _ => {}
            }
        }
    }
    functions
}
