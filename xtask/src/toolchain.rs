//! Targets other than the host: how to build for them on the machine at hand.
//!
//! A target's standard library comes with rustup, or is built from its sources by cargo
//! (`-Zbuild-std`), for which Debian has a recent rustc.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's rustc and the sources of its standard library.
pub const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// The packages that [`DEBIAN_RUSTC`] comes in.
pub const DEBIAN_RUSTC_PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];
/// The oldest rustc that compiles the workspace.
const OLDEST: (u32, u32) = (1, 95);

/// A target that the project is built for.
#[derive(Debug)]
pub struct Target {
    pub triple: &'static str,
    /// The linker of programs; `None` where only static libraries are built.
    pub linker: Option<&'static str>,
}

pub const AARCH64_LINUX: Target = Target {
    triple: "aarch64-unknown-linux-gnu",
    linker: Some("aarch64-linux-gnu-gcc"),
};

/// Apple's, for which static libraries are built.
pub const APPLE: [Target; 4] = [
    Target::library("aarch64-apple-ios"),
    Target::library("aarch64-apple-ios-sim"),
    Target::library("x86_64-apple-ios"),
    Target::library("aarch64-apple-darwin"),
];

impl Target {
    const fn library(triple: &'static str) -> Self {
        Self {
            triple,
            linker: None,
        }
    }

    /// One whose programs zig links.
    pub const fn zig(triple: &'static str) -> Self {
        Self::library(triple)
    }

    fn is_host(&self) -> bool {
        self.triple == HOST
    }

    /// Every one of them.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        std::iter::once(&AARCH64_LINUX).chain(&APPLE)
    }
}

/// Where a target's standard library comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    /// It is installed beside the current rustc, or the target is the host.
    Installed,
    /// Cargo builds it with this rustc, whose sources are installed.
    BuildStd(PathBuf),
}

/// A way to build for a target on this machine.
#[derive(Debug)]
pub struct Toolchain {
    target: &'static Target,
    route: Route,
}

/// A target that cannot be built for on this machine.
#[derive(Debug)]
pub struct Missing {
    what: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; `cargo xtask setup` installs it", self.what)
    }
}

impl Error for Missing {}

impl Missing {
    /// The thing itself.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl Toolchain {
    /// # Errors
    /// What is missing.
    pub fn find(target: &'static Target) -> Result<Self, Missing> {
        let route = Route::find(target).ok_or_else(|| Missing {
            what: format!("no standard library for {}", target.triple),
        })?;
        match target.linker {
            Some(linker) if !target.is_host() && program(linker).is_none() => Err(Missing {
                what: format!("no linker for {} ({linker})", target.triple),
            }),
            _ => Ok(Self { target, route }),
        }
    }

    /// One that builds the standard library too, and so can leave out what is not asked for.
    ///
    /// # Errors
    /// If there is no rustc whose sources are installed.
    pub fn with_sources(target: &'static Target) -> Result<Self, Missing> {
        let route = Route::build_std().ok_or_else(|| Missing {
            what: "no rustc with the sources of its standard library".to_owned(),
        })?;
        Ok(Self { target, route })
    }

    /// [`cargo`](Self::cargo), and flags for rustc, for code that aborts where it would panic:
    /// without messages, unwinding and backtraces, and what these ask of the system.
    pub fn cargo_aborting(&self, subcommand: &str) -> (Command, [&'static str; 2]) {
        let mut command = self.cargo(subcommand);
        command.arg("-Zbuild-std-features=");
        (command, ["-Zunstable-options", "-Cpanic=immediate-abort"])
    }

    /// Whether the target's standard library is installed, or can be built.
    pub fn has_library(target: &Target) -> bool {
        Route::find(target).is_some()
    }

    /// `cargo subcommand`, set up for the target.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut command = cargo(subcommand);
        command.args(["--target", self.target.triple, "--target-dir"]);
        command.arg(self.target_dir());
        if let Some(linker) = self.target.linker
            && !self.target.is_host()
        {
            let triple = self.target.triple.to_uppercase().replace('-', "_");
            command.env(format!("CARGO_TARGET_{triple}_LINKER"), linker);
        }
        if let Route::BuildStd(rustc) = &self.route {
            command.arg("-Zbuild-std");
            command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
        }
        command
    }

    /// For a program that calls cargo, and takes its options: what [`cargo`](Self::cargo) has.
    pub fn settings(&self, command: &mut Command) {
        command.env("CARGO_TARGET_DIR", self.target_dir());
        if let Route::BuildStd(rustc) = &self.route {
            command.args(["-Z", "build-std"]);
            command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
        }
    }

    /// Where the target's files are built.
    pub fn output(&self) -> PathBuf {
        self.target_dir().join(self.target.triple)
    }

    /// The host's, so that build scripts and macros are compiled once; but another rustc would undo
    /// the host's build, hence a folder of its own.
    fn target_dir(&self) -> PathBuf {
        match self.route {
            Route::Installed => target_dir(),
            Route::BuildStd(_) => target_dir().join("cross-build-std"),
        }
    }
}

impl Route {
    fn find(target: &Target) -> Option<Self> {
        let current = OsString::from("rustc");
        let installed = |root: PathBuf| root.join("lib/rustlib").join(target.triple).join("lib");
        if sysroot(&current).is_some_and(|root| installed(root).is_dir()) {
            return Some(Self::Installed);
        }
        Self::build_std()
    }

    fn build_std() -> Option<Self> {
        let candidates = ["rustc", DEBIAN_RUSTC].map(OsString::from);
        let rustc = candidates.iter().find(|rustc| can_build_std(rustc))?;
        Some(Self::BuildStd(rustc.into()))
    }
}

/// The machine that xtask itself was built for.
pub const HOST: &str = if cfg!(all(target_arch = "x86_64", target_os = "linux")) {
    "x86_64-unknown-linux-gnu"
} else if cfg!(all(target_arch = "aarch64", target_os = "linux")) {
    "aarch64-unknown-linux-gnu"
} else if cfg!(all(target_arch = "aarch64", target_os = "macos")) {
    "aarch64-apple-darwin"
} else {
    "another"
};

fn can_build_std(rustc: &OsString) -> bool {
    let sources = sysroot(rustc).map(|root| root.join("lib/rustlib/src/rust/library/Cargo.lock"));
    sources.is_some_and(|lock| lock.is_file()) && version(rustc).is_some_and(|it| it >= OLDEST)
}

/// Where a rustc and what belongs to it are.
pub fn sysroot(rustc: &OsString) -> Option<PathBuf> {
    stdout(Command::new(rustc).args(["--print", "sysroot"])).map(|text| text.trim().into())
}

fn version(rustc: &OsString) -> Option<(u32, u32)> {
    let text = stdout(Command::new(rustc).arg("-vV"))?;
    let release = text
        .lines()
        .find_map(|line| line.strip_prefix("release: "))?;
    let mut numbers = release.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// What a command prints, if it succeeds.
pub fn stdout(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(text)
}

/// `cargo subcommand` for the host, from the workspace's root.
pub fn cargo(subcommand: &str) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root()).arg(subcommand);
    command
}

/// Cargo's output folder for the host.
pub fn target_dir() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The workspace's root.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask is a folder of the workspace")
}

/// Where a program is found on the `PATH`.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let mut candidates = env::split_paths(&path).map(|folder| folder.join(name));
    candidates.find(|candidate| candidate.is_file())
}

/// One of LLVM's programs: of the version that [`crate::setup`] installs, or else of any later one.
///
/// # Errors
/// If it is missing, or too old: that of LLVM 14 crashes on what rustc makes today.
pub fn llvm(name: &str) -> Result<PathBuf, Missing> {
    if let Some(found) = program(&format!("{name}-{LLVM_VERSION}")) {
        return Ok(found);
    }
    let what = match program(name) {
        None => format!("no {name}-{LLVM_VERSION}"),
        Some(found) => match llvm_version(&found) {
            Some(version) if version >= LLVM_VERSION => return Ok(found),
            Some(version) => {
                format!("{name} is of LLVM {version}, not of {LLVM_VERSION} or later")
            }
            None => format!("{} does not say its version", found.display()),
        },
    };
    Err(Missing { what })
}

/// The number in `Debian LLVM version 19.1.7`, `clang version 19.1.7`, `LLD 19.1.7`.
fn llvm_version(program: &Path) -> Option<u32> {
    version_in(&stdout(Command::new(program).arg("--version"))?)
}

fn version_in(text: &str) -> Option<u32> {
    let mut words = text.split_whitespace();
    words.find(|word| matches!(*word, "version" | "LLD"))?;
    words.next()?.split('.').next()?.parse().ok()
}

/// The release of LLVM whose programs are installed: figures and spellings differ by release.
pub const LLVM_VERSION: u32 = 19;

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn versions_of_llvm_are_read() {
        for (text, version) in [
            ("Debian LLVM version 14.0.6\n  Optimized build.", Some(14)),
            ("LLVM (http://llvm.org/):\n  LLVM version 19.1.7", Some(19)),
            ("Debian clang version 19.1.7 (3~deb12u1)", Some(19)),
            ("Debian LLD 19.1.7 (compatible with GNU linkers)", Some(19)),
            (
                "llvm-nm, compatible with GNU nm\nLLVM version 20.1.8",
                Some(20),
            ),
            ("GNU nm (GNU Binutils for Debian) 2.40", None),
            ("", None),
        ] {
            assert_eq!(version_in(text), version, "{text}");
        }
    }
}
