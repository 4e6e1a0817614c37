//! `--hide avx512`: a task as it goes on a machine whose processor lacks AVX-512.
//!
//! The libraries read no environment, so this is a cfg: everything is built again with it, xtask
//! included, in a folder of its own, and detection does not find what is hidden.

use std::env;
use std::process::Command;

use clap::ValueEnum;

use crate::Outcome;
use crate::toolchain::{cargo, target_dir};

/// What can be hidden.
#[derive(Clone, Copy, ValueEnum)]
pub enum Hidden {
    Avx512,
}

/// Whether this xtask was built without it.
pub const IS_HIDDEN: bool = cfg!(quant_hide_avx512);

const CFG: &str = "--cfg quant_hide_avx512";
const FOLDER: &str = "without-avx512";

/// Runs xtask with the same arguments, built anew.
pub fn rerun() -> Outcome {
    let mut command = cargo("run");
    command.args(["--quiet", "--package", "xtask", "--"]);
    command.args(env::args_os().skip(1));
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{flags} {CFG}").trim_start());
    command.env("CARGO_TARGET_DIR", target_dir().join(FOLDER));
    println!("AVX-512 is hidden: everything is built without it");
    match command.status()? {
        status if status.success() => Ok(()),
        status => Err(format!("without AVX-512: {status}").into()),
    }
}

/// `cargo` for what must have every backend, also where this xtask was built without one: an
/// emulated processor has what this machine lacks.
pub fn seeing(mut cargo: Command) -> Command {
    if IS_HIDDEN {
        let flags = env::var("RUSTFLAGS").unwrap_or_default();
        cargo.env("RUSTFLAGS", flags.replace(CFG, "").trim());
        let target_dir = target_dir();
        if let (Some(folder), Some(name)) = (target_dir.parent(), target_dir.file_name())
            && name == FOLDER
        {
            cargo.env("CARGO_TARGET_DIR", folder);
        }
    }
    cargo
}
