//! Emulated processors, by QEMU and Bochs, and how programs for them are built.

use std::path::Path;
use std::process::Command;

use crate::bochs;
use crate::not_run::Absent;
use crate::toolchain::{self, AARCH64_LINUX, HOST, Toolchain, program};

/// An emulated processor, and the backends that it must be seen to have, the fastest first.
pub struct Processor {
    pub architecture: &'static str,
    pub name: &'static str,
    pub backends: &'static str,
    /// Whether it has instructions that convert f16.
    pub has_f16: bool,
    pub emulator: Emulator,
}

/// What emulates it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Emulator {
    /// As fast as emulation goes, without AVX-512.
    Qemu,
    /// With AVX-512; slow, and for static programs only.
    Bochs,
}

/// Those of one architecture follow one another.
pub const PROCESSORS: [Processor; 5] = [
    Processor::new("aarch64", "max", "neon scalar"),
    // ARMv8.0, without the optional half-precision arithmetic, dot products, LSE.
    Processor::new("aarch64", "cortex-a53", "neon scalar").without_f16(),
    // SSE4.2, no AVX.
    Processor::new("x86_64", "Nehalem", "scalar").without_f16(),
    // AVX2, FMA and F16C, no AVX-512.
    Processor::new("x86_64", "Haswell-v4", "avx2 scalar"),
    Processor {
        emulator: Emulator::Bochs,
        ..Processor::new("x86_64", "icelake", "avx512 avx2 scalar")
    },
];

impl Processor {
    const fn new(architecture: &'static str, name: &'static str, backends: &'static str) -> Self {
        Self {
            architecture,
            name,
            backends,
            has_f16: true,
            emulator: Emulator::Qemu,
        }
    }

    const fn without_f16(self) -> Self {
        Self {
            has_f16: false,
            ..self
        }
    }

    /// Runs a program of the processor's architecture.
    pub fn run(&self, program: &Path) -> Command {
        if self.emulator == Emulator::Bochs {
            return bochs::command(program);
        }
        let mut command = Command::new(emulator(self.architecture));
        command.args(["-cpu", self.name]);
        if self.architecture == "aarch64" {
            command.args(["-L", "/usr/aarch64-linux-gnu"]);
        }
        command.arg(program);
        command
    }

    /// # Errors
    /// If the emulator is missing.
    pub fn find(&self) -> Result<(), Absent> {
        if self.emulator == Emulator::Bochs {
            return bochs::find();
        }
        let emulator = emulator(self.architecture);
        match program(&emulator) {
            Some(_) => Ok(()),
            None => Err(Absent::NotInstalled(format!(
                "no {emulator}; `cargo xtask setup` installs it"
            ))),
        }
    }
}

fn emulator(architecture: &str) -> String {
    format!("qemu-{architecture}-static")
}

/// `cargo subcommand` for Linux on an architecture: the host's own, or another.
///
/// # Errors
/// If this machine cannot build for it.
pub fn cargo(architecture: &str, subcommand: &str) -> Result<Command, Absent> {
    match architecture {
        _ if HOST.starts_with(architecture) && HOST.ends_with("linux-gnu") => {
            Ok(toolchain::cargo(subcommand))
        }
        "aarch64" => match Toolchain::find(&AARCH64_LINUX) {
            Ok(toolchain) => Ok(toolchain.cargo(subcommand)),
            Err(missing) => Err(Absent::NotInstalled(missing.to_string())),
        },
        _ => Err(Absent::Impossible(format!(
            "there is no way to build for {architecture} on this machine"
        ))),
    }
}
