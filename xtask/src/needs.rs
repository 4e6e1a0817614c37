//! What each task needs of a machine besides cargo and a C compiler: looked for before anything is
//! compiled, and installed by `cargo xtask setup`.

use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::release;
use crate::toolchain::{
    AARCH64_LINUX, APPLE, HOST, LLVM_VERSION, Target, Toolchain, llvm, program, stdout,
};

/// One thing that a machine has or lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A target's standard library and its linker.
    Target(&'static str),
    /// A rustc that can build a standard library from its sources.
    Sources,
    /// Nightly Rust.
    Nightly,
    /// A subcommand of cargo, compiled from its sources.
    Cargo(&'static str),
    /// A program, and Debian's package that has it.
    Program(&'static str, &'static str),
    /// One of LLVM's programs, of [`LLVM_VERSION`] or later, and the package without the version.
    Llvm(&'static str, &'static str),
    /// A file, and Debian's package that has it.
    File(&'static str, &'static str),
    /// Swift itself, or what makes a Debian that has it.
    Swift,
}

use Need::{Cargo, File, Llvm, Nightly, Program, Sources, Swift};

const ARM: &[Need] = &[
    Need::Target(AARCH64_LINUX.triple),
    // The compiler only recommends the C library's headers and start files.
    File("/usr/aarch64-linux-gnu/lib/crt1.o", "libc6-dev-arm64-cross"),
];
const QEMU: &[Need] = &[Program("qemu-aarch64-static", "qemu-user-static")];
const BOCHS: &[Need] = &[Program("bochs-bin", "bochs"), Program("ld", "binutils")];
const HOST_DIST: &[Need] = &[
    Program("ld", "binutils"),
    Llvm("llvm-nm", "llvm"),
    Llvm("llvm-objcopy", "llvm"),
    Llvm("llvm-ar", "llvm"),
    Program("c++", "g++"),
    Program("pkg-config", "pkgconf"),
    Program("cmake", "cmake"),
];
const APPLE_DIST: &[Need] = &[
    Sources,
    Llvm("llvm-lipo", "llvm"),
    Llvm("clang", "clang"),
    Llvm("ld64.lld", "lld"),
];
const IOS: &[Need] = &[
    Need::Target(APPLE[0].triple),
    Need::Target(APPLE[1].triple),
    Need::Target(APPLE[2].triple),
    Need::Target(APPLE[3].triple),
    Llvm("llvm-objdump", "llvm"),
];
const MCA: &[Need] = &[
    Need::Target(AARCH64_LINUX.triple),
    Llvm("llvm-objdump", "llvm"),
    Llvm("llvm-symbolizer", "llvm"),
    Llvm("llvm-mca", "llvm"),
];
const RELEASE: &[Need] = &[
    Sources,
    Program("mmdebstrap", "mmdebstrap"),
    Cargo("cargo-cyclonedx"),
];

/// The tasks that need something, and the groups of what they need.
const TASKS: [(&str, &[&[Need]]); 18] = [
    ("test", &[ARM, QEMU, BOCHS]),
    ("ci", &[ARM, QEMU, BOCHS, HOST_DIST, &[Swift]]),
    ("cross", &[ARM, QEMU]),
    ("equivalence", &[ARM, QEMU, BOCHS]),
    ("asm", &[ARM]),
    ("dist", &[HOST_DIST, APPLE_DIST]),
    ("dist --only-host", &[HOST_DIST]),
    ("swift", &[HOST_DIST, &[Swift]]),
    ("ios", &[IOS]),
    ("doc", &[&[Need::Target(APPLE[0].triple)]]),
    ("mca", &[MCA]),
    ("outputs", &[&[Program("strace", "strace")]]),
    ("sanitize", &[&[Nightly, Program("valgrind", "valgrind")]]),
    ("fuzz", &[&[Program("c++", "g++")]]),
    ("deny", &[&[Cargo("cargo-deny")]]),
    ("release", &[RELEASE, QEMU, HOST_DIST, APPLE_DIST]),
    ("release --only", &[RELEASE, QEMU]),
    ("semver", &[&[Cargo("cargo-semver-checks")]]),
];

/// What people use most: `cargo xtask setup` installs what these need.
pub const USUAL: [&str; 3] = ["test", "dist", "ios"];

/// The tasks that [`of`] knows.
pub fn tasks() -> impl Iterator<Item = &'static str> {
    TASKS.iter().map(|(task, _)| *task)
}

/// What a task needs, each thing once.
pub fn of(task: &str) -> Vec<Need> {
    let mut needs = Vec::new();
    let groups = TASKS.iter().filter(|(name, _)| *name == task);
    for need in groups.flat_map(|(_, groups)| groups.iter().copied().flatten()) {
        if !needs.contains(need) {
            needs.push(*need);
        }
    }
    needs
}

/// Whether all is there that a task needs.
///
/// # Errors
/// Everything that is missing, and the command that installs it.
pub fn check(task: &str) -> Outcome {
    let missing: Vec<String> = of(task).iter().filter_map(|need| need.missing()).collect();
    match missing.as_slice() {
        [] => Ok(()),
        missing => Err(format!(
            "`{task}` needs what this machine lacks: {}; `cargo xtask setup {}` installs it",
            missing.join("; "),
            task.split(' ').next().unwrap_or(task)
        )
        .into()),
    }
}

impl Need {
    /// What is missing, if it is.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Target(triple) => {
                let target = Target::all().find(|it| it.triple == triple)?;
                Some(Toolchain::find(target).err()?.what().to_owned())
            }
            Sources => {
                let missing = Toolchain::with_sources(&APPLE[0]).err()?;
                Some(missing.what().to_owned())
            }
            Nightly => (!has_nightly()).then(|| "nightly Rust".to_owned()),
            Cargo(name) => (!release::installed(name)).then(|| name.to_owned()),
            Program(name, _) => program(name).is_none().then(|| format!("no {name}")),
            Llvm(name, _) => Some(llvm(name).err()?.what().to_owned()),
            File(path, _) => (!Path::new(path).is_file()).then(|| format!("no {path}")),
            Swift => {
                let found = ["swift", "mmdebstrap", "debootstrap"].map(program);
                let none = found.iter().all(Option::is_none);
                none.then(|| "neither swift nor mmdebstrap".to_owned())
            }
        }
    }

    /// Debian's package that has it, where one does.
    pub fn package(self) -> Option<String> {
        match self {
            Program(_, package) | File(_, package) => Some(package.to_owned()),
            Llvm(_, package) => Some(format!("{package}-{LLVM_VERSION}")),
            Swift => Some("mmdebstrap".to_owned()),
            Self::Target(triple) if triple == AARCH64_LINUX.triple && triple != HOST => {
                Some("gcc-aarch64-linux-gnu".to_owned())
            }
            _ => None,
        }
    }
}

fn has_nightly() -> bool {
    stdout(Command::new("rustup").args(["run", "nightly", "rustc", "-V"])).is_some()
}

#[cfg(test)]
mod tests {
    use super::{Need, USUAL, of, tasks};

    #[test]
    fn the_usual_tasks_compile_no_tools() {
        for task in USUAL {
            let needs = of(task);
            assert!(!needs.is_empty(), "{task}");
            assert!(
                !needs.iter().any(|it| matches!(it, Need::Cargo(_))),
                "{task}"
            );
        }
    }

    #[test]
    fn every_need_has_a_way_to_be_installed() {
        for need in tasks().flat_map(of) {
            let by_cargo_or_rustup = matches!(
                need,
                Need::Target(_) | Need::Sources | Need::Nightly | Need::Cargo(_)
            );
            assert!(by_cargo_or_rustup || need.package().is_some(), "{need:?}");
        }
    }
}
