//! What a release must pass besides the tests: documentation, dependencies, public interfaces.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use crate::Outcome;
use crate::toolchain::{APPLE, Toolchain, cargo, program, stdout};

/// The crates that others call from Rust.
const LIBRARIES: [&str; 9] = [
    "quant-core",
    "quant-simd",
    "quant-model",
    "quant-safetensors",
    "quant-coreai",
    "quant-coreml",
    "quant-gguf",
    "quant-calibration",
    "quant-models",
];

/// `cargo xtask doc`: the documentation for this machine and for iOS, without warnings.
pub fn doc() -> Outcome {
    succeed(documentation(cargo("doc")).arg("--workspace"))?;
    let ios = &APPLE[0];
    let mut command = documentation(Toolchain::find(ios)?.cargo("doc"));
    for library in LIBRARIES.iter().chain(&["quant-capi"]) {
        command.args(["--package", library]);
    }
    // The rustdoc of the rustc that is used, not of the one that is the default.
    if let Some(rustdoc) = rustdoc_of(&command) {
        command.env("RUSTDOC", rustdoc);
    }
    succeed(&mut command)
}

fn documentation(mut command: Command) -> Command {
    command.arg("--no-deps").env("RUSTDOCFLAGS", "-D warnings");
    command
}

fn rustdoc_of(command: &Command) -> Option<PathBuf> {
    let rustc = command.get_envs().find(|(name, _)| *name == "RUSTC")?.1?;
    Some(PathBuf::from(rustc).with_file_name("rustdoc"))
}

/// `cargo xtask deny`: licenses and sources of all dependencies, and what is known against them.
pub fn deny() -> Outcome {
    let deny = |arguments: &[&str]| {
        let mut command = cargo("deny");
        command.args(arguments);
        command
    };
    succeed(&mut deny(&["check", "bans", "licenses", "sources"]))?;
    if !deny(&["fetch", "db"]).status()?.success() {
        println!("advisories: not run, since their database cannot be fetched");
        return Ok(());
    }
    succeed(&mut deny(&["check", "advisories"]))
}

/// `cargo xtask semver`: whether the libraries' version numbers say what has changed since a
/// revision of this repository, or else since the last release.
pub fn semver(baseline: Option<String>) -> Outcome {
    let last_release = || {
        let tag = ["describe", "--tags", "--abbrev=0", "--match", "v*"];
        stdout(Command::new("git").args(tag)).map(|tag| tag.trim().to_owned())
    };
    let baseline = baseline
        .or_else(last_release)
        .ok_or("there is no release to compare with yet; name a revision by --baseline")?;
    let mut command = cargo("semver-checks");
    command.args(["--baseline-rev", &baseline]);
    for library in LIBRARIES {
        command.args(["--package", library]);
    }
    succeed(&mut command)
}

/// Whether a subcommand of cargo is there.
pub fn installed(name: &str) -> bool {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo")));
    program(name).is_some() || home.is_some_and(|it| it.join("bin").join(name).is_file())
}

fn succeed(command: &mut Command) -> Outcome {
    let status = command.status()?;
    match status.success() {
        true => Ok(()),
        false => {
            let program = OsString::from(command.get_program());
            let subcommand = command.get_args().next().unwrap_or_default();
            Err(format!("{} {}: {status}", program.display(), subcommand.display()).into())
        }
    }
}
