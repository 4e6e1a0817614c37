//! What cargo built: where it lies, and the symbols in it.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use object::read::archive::ArchiveFile;
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionKind};
use serde::Deserialize;

use crate::paths;
use crate::toolchain::{HOST, target_dir};

/// A library or a program.
#[derive(Debug)]
pub struct Artifact {
    /// The crate's, or the program's.
    pub name: String,
    pub path: PathBuf,
    pub is_program: bool,
}

/// What cargo says on `--message-format=json`.
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// A profile.
const CHECKED: &str = "checked";

/// The packages whose programs and libraries tasks run or look at.
const PROGRAMS: [&str; 5] = [
    "quant-capi",
    "quant-cli",
    "quant-equivalence",
    "quant-exhaustive",
    "quant-simd",
];

/// Builds as for a release. All of the packages are named whatever is wanted of them, since cargo
/// compiles a dependency with the features that the named ones ask for: once, and not again for each
/// task. No task runs a model in release form, and what runs them takes long to compile; tests do.
pub fn released(cargo: &mut Command) -> &mut Command {
    programs(cargo, "release")
}

/// Builds what is checked, and not timed: kernels, the reference and what looks at them as for a
/// release, the rest without optimization, which takes a third of the time to compile. None of it names
/// a folder of this machine.
///
/// # Errors
/// If a folder's name, or RUSTFLAGS, is not UTF-8.
pub fn checked(cargo: &mut Command) -> Result<&mut Command, Box<dyn Error>> {
    let own = cargo.get_envs().find(|(name, _)| *name == "RUSTFLAGS");
    let flags = match own {
        Some((_, flags)) => flags.map(ToOwned::to_owned),
        None => std::env::var_os("RUSTFLAGS"),
    };
    let flags = flags.unwrap_or_default();
    let flags: Vec<&str> = flags
        .to_str()
        .ok_or("RUSTFLAGS is not UTF-8")?
        .split(' ')
        .collect();
    let flags: Vec<&str> = flags.into_iter().filter(|it| !it.is_empty()).collect();
    paths::hide(cargo, &flags)?;
    // The host is named, too: then flags are not for macros and build scripts, which are compiled once
    // for all targets.
    if !cargo.get_args().any(|it| it == "--target") {
        cargo.args(["--target", HOST]);
    }
    Ok(programs(named(cargo), CHECKED))
}

/// The folder of what is built so for the host.
pub fn checked_folder() -> PathBuf {
    target_dir().join(HOST).join(CHECKED)
}

/// The C library as a shared one has the name by which programs ask for it.
pub fn named(cargo: &mut Command) -> &mut Command {
    cargo.env("QUANT_SONAME", soname())
}

/// It changes with the interface.
pub fn soname() -> String {
    let major = env!("CARGO_PKG_VERSION_MAJOR");
    format!("libquant.so.{major}")
}

fn programs<'c>(cargo: &'c mut Command, profile: &str) -> &'c mut Command {
    cargo.args(["--no-default-features", "--profile", profile]);
    for package in PROGRAMS {
        cargo.args(["--package", package]);
    }
    cargo
}

/// Runs a cargo command that builds, and lists what it built, dependencies included.
///
/// # Errors
/// If it fails; cargo has then said why.
pub fn build(mut cargo: Command) -> Result<Vec<Artifact>, Box<dyn Error>> {
    cargo.args(["--quiet", "--message-format=json-render-diagnostics"]);
    let output = cargo.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the build failed: {cargo:?}").into());
    }
    let mut artifacts = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let message: Message = serde_json::from_str(line)?;
        let Some(Target { name }) = message.target else {
            continue;
        };
        let is_program = message.executable.is_some();
        let library =
            |path: &&PathBuf| path.extension().is_some_and(|it| it == "rlib" || it == "a");
        // Of a crate that is both, the static library.
        let libraries = message.filenames.iter().filter(library);
        let library = libraries
            .max_by_key(|path| path.extension() == Some("a".as_ref()))
            .cloned();
        if let Some(path) = message.executable.or(library) {
            artifacts.push(Artifact {
                name,
                path,
                is_program,
            });
        }
    }
    Ok(artifacts)
}

/// Runs a cargo command that builds, and returns the path of one program that it built.
///
/// # Errors
/// If it fails, or builds no such program.
pub fn program(cargo: Command, name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let mut built = build(cargo)?.into_iter();
    let program = built.find(|it| it.is_program && it.name == name);
    Ok(program.ok_or_else(|| format!("{name} was not built"))?.path)
}

/// The demangled names of the functions that a program or library defines or refers to.
///
/// # Errors
/// If it cannot be read.
pub fn symbols(path: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let data = std::fs::read(path)?;
    let mut names = Vec::new();
    for (_, member) in named_members(&data)? {
        let file = object::File::parse(member)?;
        for symbol in file.symbols() {
            names.push(format!("{:#}", rustc_demangle::demangle(symbol.name()?)));
        }
    }
    names.retain(|name| !name.is_empty());
    Ok(names)
}

/// What the functions of a library refer to: pairs of demangled names, callers first.
///
/// # Errors
/// If it cannot be read.
pub fn references(path: &Path) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let data = std::fs::read(path)?;
    let demangled = |name: &str| format!("{:#}", rustc_demangle::demangle(name));
    let mut pairs = Vec::new();
    for (_, member) in named_members(&data)? {
        let file = object::File::parse(member)?;
        for section in file.sections().filter(|it| it.kind() == SectionKind::Text) {
            let own = file
                .symbols()
                .filter(|it| it.is_definition() && it.section_index() == Some(section.index()));
            let mut functions = own
                .map(|it| Ok((it.address(), demangled(it.name()?))))
                .collect::<object::Result<Vec<_>>>()?;
            functions.sort();
            for (offset, relocation) in section.relocations() {
                let RelocationTarget::Symbol(index) = relocation.target() else {
                    continue;
                };
                let address = section.address() + offset;
                let after = functions.partition_point(|(start, _)| *start <= address);
                let Some((_, caller)) = functions[..after].last() else {
                    continue;
                };
                let callee = demangled(file.symbol_by_index(index)?.name()?);
                pairs.push((caller.clone(), callee));
            }
        }
    }
    Ok(pairs)
}

/// The object files of an archive with their names, or the one that is not an archive.
///
/// # Errors
/// If the archive is damaged.
pub fn named_members(data: &[u8]) -> object::Result<Vec<(String, &[u8])>> {
    if !data.starts_with(b"!<arch>\n") {
        return Ok(vec![(String::new(), data)]);
    }
    let mut objects = Vec::new();
    for member in ArchiveFile::parse(data)?.members() {
        let member = member?;
        let name = String::from_utf8_lossy(member.name()).into_owned();
        let data = member.data(data)?;
        // The metadata of a Rust library is no object file on every platform.
        if object::File::parse(data).is_ok() {
            objects.push((name, data));
        }
    }
    Ok(objects)
}
