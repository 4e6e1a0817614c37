//! C and C++ programs, built by the system's compiler against the static and the shared library.

use std::path::{Path, PathBuf};
use std::process::Command;

use quant_core::{IntType, Mode, Scheme};
use quant_models::{Grouping, Job, QuantizeOptions};

const HERE: &str = env!("CARGO_MANIFEST_DIR");
const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// How a program gets the library.
#[derive(Clone, Copy, Debug)]
enum Link {
    Static,
    Shared,
}

/// Where cargo put the libraries that belong to this test.
fn libraries() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let deps = program.parent().unwrap();
    let has = |folder: &&Path| folder.join("libquant_capi.a").is_file();
    let folder = [deps, deps.parent().unwrap()].into_iter().find(has);
    folder.expect("libquant_capi.a").to_owned()
}

fn compile(source: &str, link: Link, options: &[&str], folder: &Path) -> PathBuf {
    let source = Path::new(HERE).join("tests/c").join(source);
    let (compiler, standard) = match source.extension().unwrap().to_str().unwrap() {
        "cpp" => ("c++", "-std=c++17"),
        _ => ("cc", "-std=c11"),
    };
    let name = source.file_name().unwrap().to_str().unwrap();
    let program = folder.join(format!("{name}.{link:?}"));
    let (libraries, mut command) = (libraries(), Command::new(compiler));
    command
        .arg(standard)
        .args(WARNINGS)
        .args(options)
        .arg("-I")
        .arg(Path::new(HERE).join("include"))
        .arg("-o")
        .arg(&program)
        .arg(&source);
    match link {
        Link::Static => command.arg(libraries.join("libquant_capi.a")),
        Link::Shared => command
            .arg("-L")
            .arg(&libraries)
            .arg("-lquant_capi")
            .arg(format!("-Wl,-rpath,{}", libraries.display())),
    };
    command.args(["-lm", "-lpthread", "-ldl"]);
    let output = command.output().expect("a C compiler");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{errors}");
    program
}

/// Runs a program to its end, and returns what it prints.
fn run(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program:?} {arguments:?}\n{text}{errors}"
    );
    text
}

#[test]
fn a_model_gets_the_bytes_of_quant() {
    let folder = tempfile::tempdir().unwrap();
    let model = format!("{HERE}/../../examples/digits/digits.safetensors");
    let mut programs = Vec::new();
    for link in [Link::Static, Link::Shared] {
        for source in ["model.c", "model.cpp"] {
            programs.push((source, compile(source, link, &[], folder.path())));
        }
    }
    // Type, mode, block size, and how many tensors there are for C and for C++.
    let cases = [
        (IntType::Int8, Mode::Symmetric, 0, [4, 4]),
        (IntType::Uint8, Mode::Affine, 0, [4, 4]),
        (IntType::Int4, Mode::Symmetric, 0, [4, 4]),
        (IntType::Uint4, Mode::Affine, 16, [4, 2]),
    ];
    for (dtype, mode, block, counts) in cases {
        let quantized = folder.path().join("quantized.safetensors");
        let options = QuantizeOptions::default()
            .with_scheme(Scheme::new(dtype, mode))
            .with_granularity(match block {
                0 => Grouping::PerChannel { axis: None },
                block_size => Grouping::PerBlock {
                    axis: None,
                    block_axis: None,
                    block_size,
                },
            })
            .with_min_elements(1000);
        quantize(Path::new(&model), &quantized, &options);
        let (dtype, mode) = (dtype as u32, mode as u32);
        let numbers = [dtype, mode, block as u32].map(|it| it.to_string());
        for (source, program) in &programs {
            let mut arguments = vec![model.as_str(), quantized.to_str().unwrap()];
            arguments.extend(numbers.iter().map(String::as_str));
            let count = counts[usize::from(*source == "model.cpp")];
            let expected = format!(
                "quant {}: {count} tensors are the same\n",
                env!("CARGO_PKG_VERSION")
            );
            assert_eq!(run(program, &arguments), expected, "{program:?}");
        }
    }
}

fn quantize(model: &Path, to: &Path, options: &QuantizeOptions) {
    let job = Job::UNWATCHED.with_force(true);
    quant_models::quantize(model, to, options, &job).unwrap();
}

#[test]
fn every_function_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let source = "every_function.c";
    for link in [Link::Static, Link::Shared] {
        run(&compile(source, link, &[], folder.path()), &[]);
    }
    // And no function is forgotten.
    let header = std::fs::read_to_string(format!("{HERE}/include/quant.h")).unwrap();
    let program = std::fs::read_to_string(format!("{HERE}/tests/c/{source}")).unwrap();
    let functions = header.lines().filter_map(|line| {
        let (declaration, _) = line.split_once('(')?;
        let name = declaration.rsplit([' ', '*']).next()?;
        (!line.starts_with("//") && name.starts_with("quant_")).then_some(name)
    });
    let mut count = 0;
    for function in functions {
        assert!(program.contains(&format!("{function}(")), "{function}");
        count += 1;
    }
    assert_eq!(count, 32);
}

/// What stands in the README under the name of a language.
fn readme(language: &str) -> String {
    let readme = std::fs::read_to_string(format!("{HERE}/README.md")).unwrap();
    let (_, rest) = readme.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_readmes_example_runs() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("readme.c");
    std::fs::write(&source, readme("c")).unwrap();
    let program = compile(source.to_str().unwrap(), Link::Static, &[], folder.path());
    assert_eq!(run(&program, &[]), "done\n");
}

/// `cargo xtask swift` runs it.
#[test]
fn the_readmes_swift_is_the_tests() {
    let tests = format!("{HERE}/../../swift/Tests/QuantTests/ReadmeTests.swift");
    let tests = std::fs::read_to_string(tests).unwrap();
    let example = readme("swift");
    let lines = example.lines().filter(|line| !line.is_empty());
    let mut rest = tests.as_str();
    for line in lines {
        let at = rest.find(line).unwrap_or_else(|| panic!("{line}"));
        rest = &rest[at + line.len()..];
    }
}

#[test]
fn wrong_arguments_are_told_under_address_sanitizer() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["-g", "-fsanitize=address", "-fno-omit-frame-pointer"];
    let program = compile("wrong_arguments.c", Link::Static, &options, folder.path());
    let text = run(&program, &[]);
    assert!(text.ends_with("calls, 0 wrong\n"), "{text}");
}
