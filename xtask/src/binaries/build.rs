//! Wheels and programs, linked by zig.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{MANYLINUX, System, files, new_file};
use crate::dist::notices_of;
use crate::ios::deployment;
use crate::paths;
use crate::python::{PACKAGE, run};
use crate::toolchain::{Target, Toolchain, root};

/// Licences and notices beside the package, from where maturin takes them; gone again afterwards.
pub struct Notices(Vec<PathBuf>);

impl Notices {
    pub fn write() -> Result<Self, Box<dyn Error>> {
        let folder = root().join(PACKAGE);
        let before = files(&folder)?;
        let names = notices_of("quant-python", "all", &folder)?;
        let written = names.into_iter().map(|name| folder.join(name));
        Ok(Self(written.filter(|it| !before.contains(it)).collect()))
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        for path in &self.0 {
            // They are in .gitignore, and the next build writes them anew.
            let _ = fs::remove_file(path);
        }
    }
}

/// The package's sources, with all that they are compiled from.
pub fn sdist(tools: &Path, folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let before = files(folder)?;
    let mut maturin = Command::new(tools.join("bin/maturin"));
    maturin.args(["sdist", "--out"]).arg(folder);
    run(maturin.current_dir(root().join(PACKAGE)))?;
    new_file(folder, &before)
}

/// A wheel for a target.
pub fn wheel(
    tools: &Path,
    target: &'static Target,
    folder: &Path,
) -> Result<PathBuf, Box<dyn Error>> {
    let before = files(folder)?;
    let toolchain = Toolchain::find(target)?;
    let mut maturin = Command::new(tools.join("bin/maturin"));
    maturin.args([
        "build",
        "--release",
        "--locked",
        "--zig",
        "--target",
        target.triple,
        "--out",
    ]);
    maturin.arg(folder);
    if target.triple.contains("linux") {
        maturin.args(["--compatibility", MANYLINUX]);
    }
    maturin.current_dir(root().join(PACKAGE));
    toolchain.settings(&mut maturin);
    finished(tools, &mut maturin, &[])?;
    new_file(folder, &before)
}

/// The command; on Linux static, so that it runs everywhere.
pub fn command(tools: &Path, system: &System) -> Result<PathBuf, Box<dyn Error>> {
    let toolchain = Toolchain::find(system.command)?;
    let mut cargo = toolchain.cargo("zigbuild");
    cargo.args(["--release", "--locked", "--package", "quant-cli"]);
    cargo.args(["--config", "profile.release.strip=\"symbols\""]);
    let flags: &[&str] = match system.command.triple.ends_with("musl") {
        // Zig brings the C library, and what begins a program.
        true => &["-Clink-self-contained=no", "-Ctarget-feature=+crt-static"],
        false => &[],
    };
    finished(tools, &mut cargo, flags)?;
    Ok(toolchain.output().join("release/quant"))
}

/// Runs a build whose files name no folder of this machine.
fn finished(tools: &Path, build: &mut Command, flags: &[&str]) -> Result<(), Box<dyn Error>> {
    paths::hide(build, flags)?;
    deployment(build);
    build.env("PATH", path_with(tools)?);
    run(build)
}

/// The `PATH` with the environment's programs first. Debian's rustc lacks the program that strips what
/// is for macOS; zig strips it.
fn path_with(tools: &Path) -> Result<OsString, Box<dyn Error>> {
    let shims = tools.join("shims");
    fs::create_dir_all(&shims)?;
    let objcopy = shims.join("rust-objcopy");
    fs::write(&objcopy, "#!/bin/sh\nexit 0\n")?;
    fs::set_permissions(&objcopy, fs::Permissions::from_mode(0o755))?;
    let path = env::var_os("PATH").unwrap_or_default();
    let first = [tools.join("bin"), shims].into_iter();
    Ok(env::join_paths(first.chain(env::split_paths(&path)))?)
}
