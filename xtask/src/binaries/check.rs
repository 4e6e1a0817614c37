//! What was built is looked at, and used where this machine can.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{Endianness, elf};

use super::mach_o::mach_o;
use super::{System, is_host, pack, pythons};
use crate::Outcome;
use crate::dist::{fresh_folder, run};
use crate::not_run;
use crate::toolchain::{program, root, target_dir};

/// The command: of Linux, static, and used in a folder where there is nothing else.
pub fn command(system: &System, archive: &Path) -> Outcome {
    let unpacked = pack::unpacked(archive, "unpacked")?;
    let path = &unpacked.join("quant");
    let data = fs::read(path)?;
    if system.name.starts_with("macos") {
        mach_o(&data)?;
        return Ok(fs::remove_dir_all(unpacked)?);
    }
    let file = ElfFile64::<Endianness>::parse(&*data)?;
    let mut parts = file.elf_program_headers().iter();
    if parts.any(|part| part.p_type(file.endian()) == elf::PT_INTERP) {
        return Err(format!("{}: it is not static", path.display()).into());
    }
    let folder = fresh_folder("alone")?;
    fs::copy(path, folder.join("quant"))?;
    let model = root().join("examples/digits/digits.safetensors");
    fs::copy(model, folder.join("digits.safetensors"))?;
    let emulator = match is_host(system) {
        true => None,
        false => match program("qemu-aarch64-static") {
            Some(path) => Some(path),
            None => {
                not_run::note(format!("{}: no emulator", system.name));
                return Ok(());
            }
        },
    };
    if let Some(path) = &emulator {
        fs::copy(path, folder.join("emulator"))?;
    }
    let alone = |arguments: &[&str]| {
        let mut command = Command::new("chroot");
        command
            .arg(&folder)
            .args(emulator.as_ref().map(|_| "/emulator"));
        run(command.arg("/quant").args(arguments))
    };
    alone(&[
        "quantize",
        "/digits.safetensors",
        "-o",
        "/small.safetensors",
    ])?;
    let told = alone(&["inspect", "/small.safetensors"])?;
    if !told.contains("int8") {
        return Err(format!("{}: it gives no quantized model", path.display()).into());
    }
    println!(
        "{}: static, and works where there is nothing else",
        system.name
    );
    fs::remove_dir_all(folder)?;
    Ok(fs::remove_dir_all(unpacked)?)
}

/// A wheel: installed and used in an environment of its own, by the oldest Python and the newest one
/// that there are; or its library looked at.
pub fn wheel(system: &System, wheel: &Path) -> Outcome {
    if system.name == "linux-aarch64" && !is_host(system) {
        return emulated(system, wheel);
    }
    if !is_host(system) {
        let folder = fresh_folder("wheel")?;
        unpack(wheel, &folder)?;
        let library = folder.join("linquant/_native.abi3.so");
        let data = fs::read(library)?;
        match system.name.starts_with("macos") {
            true => mach_o(&data)?,
            false => drop(object::File::parse(&*data)?),
        }
        not_run::note(format!(
            "the wheel for {}: looked at, not used",
            system.name
        ));
        return Ok(fs::remove_dir_all(folder)?);
    }
    for python in pythons::oldest_and_newest()? {
        let told = used(&python, wheel)?;
        println!("{}: the wheel works with {}", system.name, told.trim());
    }
    Ok(())
}

/// The sources: installed as by those for whose system there is no wheel, and used. Nothing is optimized,
/// since that says nothing about them.
pub fn sources(sources: &Path) -> Outcome {
    let pythons = pythons::oldest_and_newest()?;
    let told = used(pythons.first().ok_or("no Python")?, sources)?;
    println!("sources: built, and they work with {}", told.trim());
    Ok(())
}

/// The example of the package's README, run without cargo and rustc on the `PATH`.
fn used(python: &Path, package: &Path) -> Result<String, Box<dyn Error>> {
    let folder = fresh_folder("environment")?;
    run(Command::new(python).args(["-m", "venv"]).arg(&folder))?;
    let own = folder.join("bin/python");
    let mut install = Command::new(&own);
    install
        .args(["-m", "pip", "install", "--quiet"])
        .arg(package);
    // For sources alone.
    install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0");
    install.env("CARGO_TARGET_DIR", target_dir().join("sources"));
    run(&mut install)?;
    let example = example()?;
    let clean = |program: &Path| {
        let mut command = Command::new(program);
        command
            .current_dir(&folder)
            .env_clear()
            .env("PATH", folder.join("bin"));
        command
    };
    run(clean(&own).args(["-c", &example]))?;
    run(clean(&folder.join("bin/linquant")).args(["backends", "--json"]))?;
    let version = run(clean(&own).arg("--version"))?;
    fs::remove_dir_all(folder)?;
    Ok(version)
}

/// What users read first.
fn example() -> Result<String, Box<dyn Error>> {
    let readme = fs::read_to_string(root().join(crate::python::PACKAGE).join("README.md"))?;
    let parts = readme.split("```python\n").nth(1);
    let example = parts.and_then(|it| it.split("```").next());
    Ok(example
        .ok_or("the package's README has no example")?
        .to_owned())
}

/// The same by Debian's Python and NumPy for that processor, which are unpacked and emulated.
fn emulated(system: &System, wheel: &Path) -> Outcome {
    let (Some(emulator), Some(_)) = (program("qemu-aarch64-static"), program("mmdebstrap")) else {
        not_run::note(format!("{}: no emulator, or no mmdebstrap", system.name));
        return Ok(());
    };
    let folder = fresh_folder("debian")?;
    let packages = "libopenblas0-pthread,python3-minimal,python3-numpy";
    let mut debian = Command::new("mmdebstrap");
    debian.args(["--quiet", "--variant=extract", "--arch=arm64"]);
    debian.arg(format!("--include={packages}")).arg("bookworm");
    run(debian.arg(&folder))?;
    fs::copy(emulator, folder.join("emulator"))?;
    unpack(wheel, &folder.join("site"))?;
    let mut python = Command::new("chroot");
    python
        .arg(&folder)
        .args(["/emulator", "-E", "PYTHONPATH=/site", "-E"]);
    // Packages are unpacked, and not set up: nothing links to this.
    python.arg("LD_LIBRARY_PATH=/usr/lib/aarch64-linux-gnu/openblas-pthread");
    python.args(["/usr/bin/python3.11", "-c", &example()?]);
    let told = run(&mut python)?;
    let told = told.replace('\n', " ");
    println!("{}: the wheel works under emulation: {told}", system.name);
    Ok(fs::remove_dir_all(folder)?)
}

fn unpack(wheel: &Path, folder: &Path) -> Outcome {
    let mut python = Command::new("python3");
    python
        .args(["-m", "zipfile", "--extract"])
        .arg(wheel)
        .arg(folder);
    run(&mut python).map(drop)
}
