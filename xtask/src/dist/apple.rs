//! `Quant.xcframework`, and the Swift package that it is in, put together without Xcode.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use plist::{Dictionary, Value};

use super::{copy_folder, fresh_folder, notices, publish, run, symbols, write};
use crate::Outcome;
use crate::artifacts;
use crate::codegen::HEADER;
use crate::ios::{check_format, deployment};
use crate::paths;
use crate::toolchain::{APPLE, Target, Toolchain, llvm, root};

/// The C module, and the folder of its header: two frameworks with a module map at the top of
/// `Headers` break an app's build.
const MODULE: &str = "CQuant";
const MODULE_MAP: &str = "module CQuant {\n    header \"quant.h\"\n    export *\n}\n";
/// The symbols of Apple's libSystem that ours may ask for, each of them used.
const SYSTEM: &str = "crates/quant-capi/apple/libSystem.tbd";
const EVERY_FUNCTION: &str = "crates/quant-capi/tests/c/every_function.c";
/// How names begin that are Rust's own.
const PRIVATE: &str = "_quant_rust_";
/// Functions on files, clocks and disks, which PrivacyInfo.xcprivacy would have to give reasons
/// for, and others of their kind.
const FORBIDDEN: [&str; 32] = [
    "access",
    "clock_getres",
    "clock_gettime",
    "clock_gettime_nsec_np",
    "close",
    "creat",
    "fopen",
    "fstat",
    "fstatat",
    "fstatfs",
    "getattrlist",
    "getattrlistat",
    "getattrlistbulk",
    "getcwd",
    "gettimeofday",
    "lstat",
    "mach_absolute_time",
    "mach_continuous_time",
    "mkdir",
    "nanosleep",
    "open",
    "openat",
    "opendir",
    "readdir",
    "readdir_r",
    "rename",
    "stat",
    "statfs",
    "statvfs",
    "time",
    "times",
    "unlink",
];

/// A folder of the bundle, and the targets whose libraries are joined in it.
struct Slice {
    name: &'static str,
    platform: &'static str,
    variant: Option<&'static str>,
    triples: &'static [&'static str],
    architectures: &'static [&'static str],
}

const SLICES: [Slice; 3] = [
    Slice {
        name: "ios-arm64",
        platform: "ios",
        variant: None,
        triples: &["aarch64-apple-ios"],
        architectures: &["arm64"],
    },
    Slice {
        name: "ios-arm64_x86_64-simulator",
        platform: "ios",
        variant: Some("simulator"),
        triples: &["aarch64-apple-ios-sim", "x86_64-apple-ios"],
        architectures: &["arm64", "x86_64"],
    },
    Slice {
        name: "macos-arm64",
        platform: "macos",
        variant: None,
        triples: &["aarch64-apple-darwin"],
        architectures: &["arm64"],
    },
];

/// Builds the package, and checks what is in it.
pub fn bundle() -> Outcome {
    let work = fresh_folder("apple")?;
    let package = fresh_folder("swift")?;
    copy_folder(&root().join("swift"), &package)?;
    let framework = package.join("Quant.xcframework");
    for slice in &SLICES {
        let mut thin = Vec::new();
        for triple in slice.triples {
            let target = APPLE.iter().find(|it| it.triple == *triple);
            thin.push(library(target.ok_or("a known target")?, &work)?);
        }
        let folder = framework.join(slice.name);
        let headers = folder.join("Headers").join(MODULE);
        fs::create_dir_all(&headers)?;
        fs::copy(root().join(HEADER), headers.join("quant.h"))?;
        write(&headers.join("module.modulemap"), MODULE_MAP)?;
        let library = folder.join("libquant.a");
        let mut lipo = Command::new(llvm("llvm-lipo")?);
        run(lipo.arg("-create").args(&thin).arg("-output").arg(&library))?;
        for architecture in slice.architectures {
            run(Command::new(llvm("llvm-lipo")?)
                .arg(&library)
                .args(["-verify_arch", architecture]))?;
        }
        let size = fs::metadata(&library)?.len() >> 10;
        println!("{}: {size} KiB, only ours is global", slice.name);
    }
    information().to_file_xml(framework.join("Info.plist"))?;
    notices::write(&package.join("Licences"), APPLE[0].triple)?;
    paths::check(&package)?;
    link(&work)?;
    publish("swift")
}

/// The library for one target, checked: its symbols, its imports, its format.
// Long: the steps of making a library, in order.
fn library(target: &'static Target, work: &Path) -> Result<PathBuf, Box<dyn Error>> {
    println!("{}: the C library is built, with Rust's own", target.triple);
    let (mut build, flags) = Toolchain::with_sources(target)?.cargo_aborting("rustc");
    paths::hide(&mut build, &flags)?;
    build.args(["--profile", "lto", "--package", "quant-capi", "--lib"]);
    build.args(["--crate-type", "staticlib"]);
    deployment(&mut build);
    let built = artifacts::build(build)?;
    let built = built.into_iter().rfind(|it| it.name == "quant_capi");
    let data = fs::read(built.ok_or("quant-capi was not built")?.path)?;
    // All of it is in one object. That of compiler_builtins, of which nothing is asked, is in the
    // format of rustc's LLVM only.
    let objects = artifacts::named_members(&data)?;
    let is_ours = |(name, _): &&(String, &[u8])| name.starts_with("quant_capi-");
    let object = objects.iter().find(is_ours).ok_or("no object of ours")?.1;
    let folder = work.join(target.triple);
    fs::create_dir_all(&folder)?;
    let (path, library) = (folder.join("quant_capi.o"), folder.join("libquant.a"));
    fs::write(&path, object)?;
    let mut objcopy = Command::new(llvm("llvm-objcopy")?);
    objcopy.arg("--strip-debug");
    // No tool at hand makes a name of Mach-O local. With our prefix they clash with nobody's.
    let ours = symbols::ours("_")?;
    for name in symbols::globals(&path, &[])?.difference(&ours) {
        let renamed = format!("{PRIVATE}{}", name.trim_start_matches('_'));
        objcopy.arg(format!("--redefine-sym={name}={renamed}"));
    }
    run(objcopy.arg(&path))?;
    let mut archive = Command::new(llvm("llvm-ar")?);
    run(archive
        .args(["--format=darwin", "rcsD"])
        .arg(&library)
        .arg(&path))?;

    check_format(target, &library)?;
    let mut found = symbols::globals(&library, &[])?;
    found.retain(|name| !name.starts_with(PRIVATE));
    symbols::expect(&found, &ours)?;
    let asked = symbols::imports(&library)?;
    if let Some(name) = FORBIDDEN
        .iter()
        .find(|it| asked.contains(&format!("_{it}")))
    {
        return Err(format!("{}: asks for {name}", target.triple).into());
    }
    // What all ask for, and what one does besides.
    let mut allowed = system_symbols("arm64-ios")?;
    match target.triple {
        "x86_64-apple-ios" => allowed.extend(system_symbols("x86_64-ios-simulator")?),
        "aarch64-apple-darwin" => allowed.extend(system_symbols("arm64-macos")?),
        _ => {}
    }
    let more: Vec<_> = asked.difference(&allowed).collect();
    let fewer: Vec<_> = allowed.difference(&asked).collect();
    if !more.is_empty() || target.triple == "aarch64-apple-ios" && !fewer.is_empty() {
        return Err(format!(
            "{}: asks for {more:?}, which {SYSTEM} does not have, and not for {fewer:?}",
            target.triple
        )
        .into());
    }
    Ok(library)
}

/// Those that the stub of libSystem has for a target. It is YAML of one shape: names stand alone in
/// their lines, below their target's.
fn system_symbols(target: &str) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let text = fs::read_to_string(root().join(SYSTEM))?;
    let wanted = format!("- targets: [ {target} ]");
    let mut is_wanted = false;
    let mut names = BTreeSet::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.starts_with(&["-", "targets:"]) {
            is_wanted = words.join(" ") == wanted;
        } else if is_wanted && words.first().is_some_and(|it| it.starts_with('_')) {
            names.insert(words[0].trim_end_matches(',').to_owned());
        }
    }
    Ok(names)
}

/// A program that calls every function is linked for iOS, with nothing but libSystem.
fn link(work: &Path) -> Outcome {
    let system = work.join("sdk/usr/lib");
    fs::create_dir_all(&system)?;
    fs::copy(root().join(SYSTEM), system.join("libSystem.tbd"))?;
    let (object, program) = (work.join("every_function.o"), work.join("every_function"));
    let mut compile = Command::new(llvm("clang")?);
    compile.args(["--target=arm64-apple-ios16.0", "-ffreestanding", "-std=c11"]);
    compile.arg("-fno-stack-protector");
    compile.args([
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wnullability-completeness",
        "-c",
        "-I",
    ]);
    compile.arg(root().join(HEADER).parent().ok_or("a folder")?);
    compile.arg(root().join(EVERY_FUNCTION));
    run(compile.arg("-o").arg(&object))?;
    let mut link = Command::new(llvm("ld64.lld")?);
    link.args(["-arch", "arm64", "-platform_version", "ios", "16.0", "16.0"]);
    link.args(["-dead_strip", "-fatal_warnings", "-syslibroot"])
        .arg(work.join("sdk"));
    link.arg(&object)
        .arg(work.join("aarch64-apple-ios/libquant.a"));
    // The program's own: compilers call it to clear a structure.
    link.args(["-U", "_memset"]);
    run(link.args(["-lSystem", "-o"]).arg(&program))?;
    println!("aarch64-apple-ios: a program that calls every function is linked");
    Ok(())
}

/// What Xcode asks a bundle of libraries for.
fn information() -> Value {
    let libraries = SLICES.iter().map(|slice| {
        let mut library = Dictionary::new();
        let text = |text: &str| Value::from(text);
        library.insert("BinaryPath".into(), text("libquant.a"));
        library.insert("HeadersPath".into(), text("Headers"));
        library.insert("LibraryIdentifier".into(), text(slice.name));
        library.insert("LibraryPath".into(), text("libquant.a"));
        let architectures = slice.architectures.iter().map(|it| text(it)).collect();
        library.insert("SupportedArchitectures".into(), Value::Array(architectures));
        library.insert("SupportedPlatform".into(), text(slice.platform));
        if let Some(variant) = slice.variant {
            library.insert("SupportedPlatformVariant".into(), text(variant));
        }
        Value::Dictionary(library)
    });
    let mut bundle = Dictionary::new();
    bundle.insert(
        "AvailableLibraries".into(),
        Value::Array(libraries.collect()),
    );
    bundle.insert("CFBundlePackageType".into(), "XFWK".into());
    bundle.insert("XCFrameworkFormatVersion".into(), "1.0".into());
    Value::Dictionary(bundle)
}
