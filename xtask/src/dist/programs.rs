//! C and C++ programs that find the installed library by pkg-config and by CMake, and quantize the
//! example model with it.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{fresh_folder, run};
use crate::Outcome;
use crate::artifacts;
use crate::toolchain::{cargo, root};

const SOURCES: &str = "crates/quant-capi/tests/c";
const MODEL: &str = "examples/digits/digits.safetensors";
/// int8, symmetric, one scale for each index of the first axis.
const SCHEME: [&str; 3] = ["0", "0", "0"];

/// Builds and runs all of them.
pub fn check(prefix: &Path) -> Outcome {
    let folder = fresh_folder("programs")?;
    let quantized = folder.join("quantized.safetensors");
    let mut build = cargo("build");
    artifacts::checked(&mut build)?.args(["--bin", "quant"]);
    let mut quantize = Command::new(artifacts::program(build, "quant")?);
    quantize.arg("quantize").arg(root().join(MODEL)).arg("-o");
    run(quantize.arg(&quantized).args(["--force", "--quiet"]))?;

    let mut programs = by_pkg_config(prefix, &folder)?;
    programs.extend(by_cmake(prefix, &folder)?);
    for program in programs {
        let mut command = Command::new(&program);
        command.arg(root().join(MODEL)).arg(&quantized).args(SCHEME);
        command.env("LD_LIBRARY_PATH", prefix.join("lib"));
        let name = program.strip_prefix(&folder).unwrap_or(&program).display();
        print!("{name}: {}", run(&mut command)?);
    }
    Ok(())
}

fn by_pkg_config(prefix: &Path, folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut programs = Vec::new();
    for (compiler, source) in [("cc", "model.c"), ("c++", "model.cpp")] {
        for link in ["static", "shared"] {
            let mut pkg_config = Command::new("pkg-config");
            pkg_config.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
            if link == "static" {
                pkg_config.arg("--static");
            }
            let flags = run(pkg_config.args(["--cflags", "--libs", "quant"]))?;
            let program = folder.join(format!("{source}.pkg-config.{link}"));
            let mut compile = Command::new(compiler);
            compile
                .args(["-Wall", "-Wextra", "-Werror", "-o"])
                .arg(&program);
            compile.arg(root().join(SOURCES).join(source));
            if link == "static" {
                compile.arg("-static");
            }
            run(compile.args(words(&flags)))?;
            programs.push(program);
        }
    }
    Ok(programs)
}

/// Words as a shell takes them: pkg-config writes a backslash before a blank that is part of one.
fn words(flags: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut letters = flags.trim().chars();
    while let Some(letter) = letters.next() {
        let last = words.len() - 1;
        match letter {
            '\\' => words[last].extend(letters.next()),
            _ if letter.is_whitespace() => words.push(String::new()),
            _ => words[last].push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn by_cmake(prefix: &Path, folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let build = folder.join("cmake");
    let mut configure = Command::new("cmake");
    configure
        .arg("-S")
        .arg(root().join(SOURCES))
        .arg("-B")
        .arg(&build);
    configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()));
    run(&mut configure)?;
    run(Command::new("cmake").arg("--build").arg(&build))?;
    let names = ["c.static", "c.shared", "cpp.static", "cpp.shared"];
    Ok(names
        .map(|name| build.join(format!("model.{name}")))
        .to_vec())
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn blanks_may_be_part_of_a_word() {
        let flags = "-I/another\\ folder/include  -lquant\n";
        assert_eq!(words(flags), ["-I/another folder/include", "-lquant"]);
        assert!(words(" \n").is_empty());
    }
}
