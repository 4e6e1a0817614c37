//! `cargo xtask setup`: installs what the other tasks need and this machine lacks.

use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::release;
use crate::toolchain::{
    AARCH64_LINUX, DEBIAN_RUSTC_PACKAGES, LLVM_VERSION, Target, Toolchain, cargo, program, stdout,
};

/// Installs what is missing, or of that only what `cargo xtask test` needs: targets and nightly by
/// rustup, the rest (and targets, where rustup cannot fetch them) by Debian's packages.
pub fn setup(test: bool) -> Outcome {
    let wanted = || Target::all().filter(|it| !test || it.triple == AARCH64_LINUX.triple);
    let mut packages = missing_packages(test);
    let targets = wanted().filter(|target| !Toolchain::has_library(target));
    let targets: Vec<&str> = targets.map(|target| target.triple).collect();
    if !targets.is_empty() && !rustup(&[&["target", "add"], targets.as_slice()].concat()) {
        packages.extend(DEBIAN_RUSTC_PACKAGES.map(str::to_owned));
    }
    let mut failed = Vec::new();
    if !test
        && !has_nightly()
        && !rustup(&["toolchain", "install", "nightly", "--profile", "minimal"])
    {
        failed.push("nightly Rust".to_owned());
    }
    for name in ["cargo-deny", "cargo-semver-checks"] {
        if !test
            && release::installed(name).is_err()
            && !run(cargo("install").args(["--locked", name]))
        {
            failed.push(name.to_owned());
        }
    }
    if !packages.is_empty() && !apt_get(&packages) {
        failed.push(packages.join(" "));
    }
    for target in wanted() {
        match Toolchain::find(target) {
            Ok(toolchain) => println!("{:<28} {}", target.triple, toolchain.describe()),
            Err(missing) => failed.push(missing.what().to_owned()),
        }
    }
    match failed.as_slice() {
        [] => Ok(()),
        failed => Err(format!("not installed: {}", failed.join(", ")).into()),
    }
}

/// Packages of which a program, or a file, is not there.
fn missing_packages(test: bool) -> Vec<String> {
    let llvm = format!("llvm-{LLVM_VERSION}");
    let mca = format!("llvm-mca-{LLVM_VERSION}");
    let (clang, lld) = (
        format!("clang-{LLVM_VERSION}"),
        format!("lld-{LLVM_VERSION}"),
    );
    let ld64 = format!("ld64.lld-{LLVM_VERSION}");
    let mut programs = vec![
        ("qemu-aarch64-static", "qemu-user-static"),
        ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
        ("c++", "g++"),
        ("cmake", "cmake"),
        ("pkg-config", "pkgconf"),
        (&mca, &llvm),
    ];
    if program("swift").is_none() {
        programs.push(("debootstrap", "debootstrap"));
    }
    if !test {
        programs.extend([("valgrind", "valgrind"), (&clang, &clang), (&ld64, &lld)]);
    }
    let programs = programs.into_iter().filter(|(it, _)| program(it).is_none());
    let mut packages: Vec<String> = programs.map(|(_, package)| package.to_owned()).collect();
    // The compiler only recommends the C library's headers and start files.
    if !Path::new(CROSS_LIBC).is_file() {
        packages.push("libc6-dev-arm64-cross".to_owned());
    }
    packages
}

const CROSS_LIBC: &str = "/usr/aarch64-linux-gnu/lib/crt1.o";

pub fn has_nightly() -> bool {
    stdout(Command::new("rustup").args(["run", "nightly", "rustc", "-V"])).is_some()
}

fn rustup(arguments: &[&str]) -> bool {
    run(Command::new("rustup").args(arguments))
}

/// Installs packages where that is allowed, and otherwise says how.
fn apt_get(packages: &[String]) -> bool {
    let root = stdout(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0");
    if root && program("apt-get").is_some() {
        let apt_get = || {
            let mut command = Command::new("apt-get");
            command.env("DEBIAN_FRONTEND", "noninteractive");
            command
        };
        run(apt_get().arg("update"))
            && run(apt_get()
                .args(["install", "--yes", "--no-install-recommends"])
                .args(packages))
    } else {
        println!("run as root: apt-get install {}", packages.join(" "));
        false
    }
}

fn run(command: &mut Command) -> bool {
    println!("{command:?}");
    command.status().is_ok_and(|status| status.success())
}
