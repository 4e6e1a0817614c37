//! A processor with AVX-512 on every machine: Bochs runs a static Linux program without Linux.
//!
//! The emulator starts machine.s, a ROM that takes the place of a BIOS, a boot loader and a kernel:
//! it switches to 64-bit mode with AVX-512 on, reads the program from a disk (image.rs) and answers
//! the few system calls that Rust's standard library needs on one thread. Output goes to a port that
//! Bochs prints. It takes some two hundred times as long as a processor.

mod image;
mod patch;

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, process};

use crate::Outcome;
use crate::not_run::Absent;
use crate::toolchain::{HOST, program, root, target_dir};

/// The program itself; `bochs` is a script.
const BOCHS: &str = "bochs-bin";
/// The processor that Bochs is told to be: Ice Lake.
const MODEL: &str = "corei7_icelake_u";
/// Before and after a program's output; the exit status follows.
const BEGIN: u8 = 2;
const END: u8 = 4;
/// The environment of programs, as far as there is one.
const PASSED_ON: [&str; 3] = ["PROPTEST_CASES", "TEST_EVERY", "RUST_BACKTRACE"];

/// How programs are linked that run there: with all they need, at a fixed address.
pub const RUSTFLAGS: [&str; 2] = ["-Ctarget-feature=+crt-static", "-Crelocation-model=static"];

/// # Errors
/// If this machine cannot build programs for it, or the emulator is missing.
pub fn find() -> Result<(), Absent> {
    if HOST != "x86_64-unknown-linux-gnu" {
        let why = "static programs are built on x86-64 Linux only";
        return Err(Absent::Impossible(why.to_owned()));
    }
    for name in [BOCHS, "cc", "ld"] {
        if program(name).is_none() {
            let why = format!("no {name}; `cargo xtask setup` installs it");
            return Err(Absent::NotInstalled(why));
        }
    }
    Ok(())
}

/// The command that runs a program there.
pub fn command(program: &Path) -> Command {
    let xtask = env::current_exe().unwrap_or_else(|_| "xtask".into());
    let mut command = Command::new(xtask);
    command.arg("bochs").arg(program);
    command
}

/// `cargo xtask bochs`: runs a program there, prints what it prints, and ends as it ends.
///
/// # Errors
/// If the emulator does not get to the program's end.
pub fn run(program: &Path, arguments: &[String]) -> Outcome {
    find()?;
    let folder = target_dir().join("bochs").join(process::id().to_string());
    fs::create_dir_all(&folder)?;
    let outcome = run_in(&folder, program, arguments);
    fs::remove_dir_all(&folder)?;
    let (output, status) = outcome?;
    io::stdout().write_all(&output)?;
    match status {
        0 => Ok(()),
        status => process::exit(status.into()),
    }
}

/// Puts the emulator's files into a folder, and returns output and exit status.
fn run_in(
    folder: &Path,
    program: &Path,
    arguments: &[String],
) -> Result<(Vec<u8>, u8), Box<dyn Error>> {
    let name = program.display().to_string();
    let file = fs::read(program).map_err(|error| format!("{name}: {error}"))?;
    let arguments: Vec<String> = std::iter::once(&name).chain(arguments).cloned().collect();
    let passed_on = |name: &&str| Some(format!("{name}={}", env::var(name).ok()?));
    let environment: Vec<String> = PASSED_ON.iter().filter_map(passed_on).collect();
    let disk = image::disk(&file, &arguments, &environment);
    let disk = disk.map_err(|error| format!("{name}: {error}"))?;
    fs::write(folder.join("disk"), &disk)?;
    // No BIOS asks for it, but Bochs wants one.
    fs::write(folder.join("vga"), [0; 512])?;
    fs::rename(
        compile(folder, "machine.s", "0xffff0000")?,
        folder.join("rom"),
    )?;
    fs::write(folder.join("bochsrc"), configuration(disk.len()))?;
    // Debian's Bochs has a debugger, which waits for this word.
    fs::write(folder.join("debugger"), "continue\n")?;
    let mut bochs = Command::new(copy(folder)?);
    bochs.args(["-q", "-f", "bochsrc", "-rc", "debugger"]);
    // It ends with an error, always.
    let output = bochs.current_dir(folder).stdin(Stdio::null()).output()?;
    match parse(&output.stdout) {
        Ok((output, status)) => Ok((output.to_vec(), status)),
        Err(output) => {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            let output = String::from_utf8_lossy(output);
            Err(format!("{output}\n{log}\n{name}: Bochs did not get to its end").into())
        }
    }
}

/// The program's output and exit status; or, without these, all there is.
fn parse(output: &[u8]) -> Result<(&[u8], u8), &[u8]> {
    let begin = output.iter().position(|&byte| byte == BEGIN);
    let end = output.iter().rposition(|&byte| byte == END);
    match (begin, end) {
        (Some(begin), Some(end)) if begin < end && end + 1 < output.len() => {
            Ok((&output[begin + 1..end], output[end + 1]))
        }
        _ => Err(output),
    }
}

/// The machine code of a source beside this one, for an address.
fn compile(folder: &Path, source: &str, address: &str) -> Result<PathBuf, Box<dyn Error>> {
    let (object, code) = (folder.join("object"), folder.join(source));
    let mut compiler = Command::new("cc");
    compiler.args([
        "-c",
        "-Os",
        "-ffreestanding",
        "-fno-pic",
        "-fcf-protection=none",
    ]);
    compiler.args(["-fno-stack-protector", "-fno-asynchronous-unwind-tables"]);
    compiler.arg(root().join("xtask/src/bochs").join(source));
    compiler.arg("-o").arg(&object);
    let mut linker = Command::new("ld");
    linker.args(["--oformat", "binary", "--entry=0", "-Ttext", address]);
    linker.arg(&object).arg("-o").arg(&code);
    for mut command in [compiler, linker] {
        let status = command.status()?;
        if !status.success() {
            return Err(format!("{command:?}: {status}").into());
        }
    }
    Ok(code)
}

/// A copy of the emulator without its error.
fn copy(folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let (original, copy) = (program(BOCHS).ok_or("no Bochs")?, folder.join("bochs"));
    fs::copy(&original, &copy)?;
    let function = fs::read(compile(folder, "rounding.c", "0")?)?;
    let mut bytes = fs::read(&copy)?;
    patch::rounding(&mut bytes, &function)
        .map_err(|error| format!("{}: {error}", original.display()))?;
    fs::write(&copy, bytes)?;
    Ok(copy)
}

/// A processor, memory and a disk; nothing else, and no window.
fn configuration(disk_len: usize) -> String {
    let cylinders = disk_len / image::CYLINDER;
    format!(
        "\
cpu: model={MODEL}, count=1, reset_on_triple_fault=0
memory: guest=1024, host=1024
romimage: file=rom, address=0xffff0000
vgaromimage: file=vga
ata0-master: type=disk, path=disk, mode=flat, cylinders={cylinders}, heads=16, spt=63
port_e9_hack: enabled=1
display_library: rfb, options=\"timeout=0\"
sound: driver=dummy
pci: enabled=0
plugin_ctrl: es1370=0, sb16=0, usb_uhci=0, usb_ohci=0, usb_ehci=0, usb_xhci=0, e1000=0, ne2k=0, \
voodoo=0
log: log
panic: action=fatal
error: action=report
info: action=ignore
debug: action=ignore
"
    )
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn output_is_between_its_marks() {
        assert_eq!(
            parse(b"Bochs\x02out\n\x04\x07panic"),
            Ok((&b"out\n"[..], 7))
        );
        for unfinished in [&b"Bochs"[..], b"Bochs\x02out", b"\x02out\x04", b"\x04\x02"] {
            assert_eq!(parse(unfinished), Err(unfinished));
        }
    }
}
