//! The host's libraries, with what tells pkg-config and CMake where they are.

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{BuildKind, fresh_folder, run, symbols, write};
use crate::artifacts;
use crate::codegen::{HEADER, functions, version};
use crate::paths;
use crate::toolchain::{HOST, cargo, llvm, root, target_dir};

/// What C programs on Linux must name beside the static library.
const SYSTEM_LIBRARIES: &str = "-lpthread -ldl -lm";

/// Builds, and returns the prefix, an unfinished folder of this name: `include`, `lib`.
pub fn install(name: &str, kind: BuildKind) -> Result<PathBuf, Box<dyn Error>> {
    if !HOST.ends_with("linux-gnu") {
        return Err("the host's libraries are put together on Linux only".into());
    }
    let prefix = fresh_folder(name)?;
    let lib = prefix.join("lib");
    fs::create_dir_all(prefix.join("include"))?;
    fs::create_dir_all(&lib)?;
    fs::copy(root().join(HEADER), prefix.join("include/quant.h"))?;

    println!("{HOST}: the C library is built: a minute or two on two cores, from nothing");
    let built = build(kind)?;
    let shared = format!("libquant.so.{}", version());
    fs::copy(built.join("libquant_capi.so"), lib.join(&shared))?;
    symlink(&shared, lib.join(artifacts::soname()))?;
    symlink(&shared, lib.join("libquant.so"))?;
    archive(&built.join("libquant_capi.a"), &lib.join("libquant.a"))?;
    let ours = symbols::ours("")?;
    symbols::expect(&symbols::globals(&lib.join("libquant.a"), &[])?, &ours)?;
    symbols::expect(
        &symbols::globals(&lib.join(&shared), &["--dynamic"])?,
        &ours,
    )?;

    write(&lib.join("pkgconfig/quant.pc"), &pkg_config())?;
    let cmake = lib.join("cmake/quant");
    write(&cmake.join("quant-config.cmake"), &cmake_config())?;
    write(&cmake.join("quant-config-version.cmake"), &cmake_version())?;
    for library in ["libquant.a", &shared] {
        let size = fs::metadata(lib.join(library))?.len() >> 10;
        println!("{HOST}: {library}, {size} KiB, only ours is global");
    }
    Ok(prefix)
}

/// Builds the static and the shared library; the folder that they are in.
fn build(kind: BuildKind) -> Result<PathBuf, Box<dyn Error>> {
    let mut build = cargo("build");
    let folder = match kind {
        BuildKind::Whole => {
            paths::hide(&mut build, &[])?;
            artifacts::named(&mut build);
            build.args(["--profile", "lto", "--package", "quant-capi", "--lib"]);
            target_dir().join("lto")
        }
        BuildKind::Checked => {
            artifacts::checked(&mut build)?.arg("--lib");
            artifacts::checked_folder()
        }
    };
    match build.status()?.success() {
        true => Ok(folder),
        false => Err("the build failed".into()),
    }
}

/// One object of what the functions need, in which everything else is local.
fn archive(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    let object = to.with_extension("o");
    let mut link = Command::new("ld");
    link.args(["-r", "--gc-sections", "-o"]).arg(&object);
    for function in functions()? {
        link.args(["-u", &function]);
    }
    run(link.arg(from))?;
    let mut objcopy = Command::new(llvm("llvm-objcopy")?);
    objcopy.args(["--wildcard", "--keep-global-symbol=quant_*"]);
    run(objcopy
        .args(["--strip-debug", "--strip-unneeded"])
        .arg(&object))?;
    let mut ar = Command::new(llvm("llvm-ar")?);
    run(ar.arg("rcsD").arg(to).arg(&object))?;
    Ok(fs::remove_file(object)?)
}

fn major() -> &'static str {
    version().split('.').next().unwrap_or_default()
}

fn pkg_config() -> String {
    format!(
        "prefix=${{pcfiledir}}/../..
libdir=${{prefix}}/lib
includedir=${{prefix}}/include

Name: quant
Description: Linear quantization of neural-network tensors
Version: {}
Cflags: -I${{includedir}}
Libs: -L${{libdir}} -lquant
Libs.private: {SYSTEM_LIBRARIES}
",
        version()
    )
}

fn cmake_config() -> String {
    let libraries = SYSTEM_LIBRARIES.replace("-l", "").replace(' ', ";");
    format!(
        r#"# The targets quant::quant, which is shared, and quant::static.
get_filename_component(_quant_prefix "${{CMAKE_CURRENT_LIST_DIR}}/../../.." ABSOLUTE)
if(NOT TARGET quant::quant)
  add_library(quant::quant SHARED IMPORTED)
  set_target_properties(quant::quant PROPERTIES
    IMPORTED_LOCATION "${{_quant_prefix}}/lib/libquant.so.{version}"
    IMPORTED_SONAME "libquant.so.{major}"
    INTERFACE_INCLUDE_DIRECTORIES "${{_quant_prefix}}/include")
  add_library(quant::static STATIC IMPORTED)
  set_target_properties(quant::static PROPERTIES
    IMPORTED_LOCATION "${{_quant_prefix}}/lib/libquant.a"
    INTERFACE_INCLUDE_DIRECTORIES "${{_quant_prefix}}/include"
    INTERFACE_LINK_LIBRARIES "{libraries}")
endif()
unset(_quant_prefix)
"#,
        version = version(),
        major = major(),
    )
}

/// Before 1.0 every minor version may break.
fn cmake_version() -> String {
    let minor = version().rsplit_once('.').map_or(version(), |it| it.0);
    format!(
        r#"set(PACKAGE_VERSION "{version}")
if(PACKAGE_FIND_VERSION VERSION_LESS_EQUAL PACKAGE_VERSION
   AND NOT PACKAGE_FIND_VERSION VERSION_LESS "{minor}")
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
  if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
  endif()
endif()
"#,
        version = version(),
    )
}
