//! File systems that can do less than this one, and the order in which things reach the disk; as
//! `strace` shows and changes it. `cargo xtask outputs` runs these tests.

use std::fs;
use std::process::{Command, Output};

use crate::folder::Folder;

const WITHOUT: [&[&str]; 5] = [
    &["-e", "inject=renameat2:error=EINVAL"],
    &["-e", "inject=renameat2:error=ENOSYS"],
    &["-e", "inject=renameat2:error=EOPNOTSUPP"],
    // What some say of all that they do not know.
    &["-e", "inject=renameat2:error=EIO"],
    &[
        "-e",
        "inject=renameat2:error=EINVAL",
        "-e",
        "inject=link,linkat:error=EPERM",
    ],
];

fn traced(folder: &Folder, options: &[&str], arguments: &[&str]) -> Output {
    Command::new("strace")
        .args(["-f", "-qq", "-o", "../trace"])
        .args(options)
        .arg(env!("CARGO_BIN_EXE_quant"))
        .args(arguments)
        .current_dir(folder.path("work"))
        .output()
        .expect("strace")
}

fn project() -> Folder {
    let folder = Folder::new();
    folder.sharded("work/model", 3);
    folder.package("linear_18_f16", "work/m.mlpackage");
    folder.model("work/m.safetensors", "w");
    folder.gguf("work/m.gguf");
    folder.core_ai("work/m.aimodel");
    folder
}

const INPUTS: [(&str, &str); 5] = [
    ("model", "out"),
    ("m.mlpackage", "out.mlpackage"),
    ("m.safetensors", "out.safetensors"),
    ("m.gguf", "out.gguf"),
    ("m.aimodel", "out.aimodel"),
];

fn quantize<'a>(input: &'a str, output: &'a str) -> Vec<&'a str> {
    let mut arguments = vec!["quantize", input, "-o", output, "--quiet"];
    if input.ends_with(".aimodel") {
        arguments.extend(["--dialect", "coreai-torch"]);
    }
    arguments
}

#[test]
#[ignore = "takes strace: run by cargo xtask outputs"]
fn renames_without_flags() {
    for without in WITHOUT {
        for (input, output) in INPUTS {
            let folder = project();
            let quantize = quantize(input, output);
            let forced = [&quantize[..], &["--force"]].concat();
            let succeeds = |arguments: &[&str]| {
                let done = traced(&folder, without, arguments);
                let stderr = String::from_utf8_lossy(&done.stderr);
                assert!(done.status.success(), "{without:?} {arguments:?}: {stderr}");
                let trace = fs::read_to_string(folder.path("trace")).unwrap();
                assert!(trace.contains("(INJECTED)"), "nothing was changed");
            };
            succeeds(&quantize);
            let first = folder.tree();
            let again = traced(&folder, without, &quantize);
            assert_eq!(again.status.code(), Some(1), "it exists already");
            succeeds(&forced);
            fs::remove_file(folder.path("trace")).unwrap();
            let mut first = first;
            first.remove(&folder.path("trace"));
            assert!(
                folder.tree() == first,
                "{without:?}: the same, and nothing is left"
            );
        }
    }
}

/// Files, then the name, then the folder of the name, and only then is removed what it replaced.
#[test]
#[ignore = "takes strace: run by cargo xtask outputs"]
fn the_old_one_is_removed_last() {
    let calls = "trace=fsync,fdatasync,/^rename,/^unlink,rmdir";
    for without in [&[][..], WITHOUT[0]] {
        for (input, output) in INPUTS {
            let folder = project();
            let quantize = [&quantize(input, output)[..], &["--force"]].concat();
            assert!(traced(&folder, &[], &quantize).status.success());
            let options = [&["-y", "-e", calls], without].concat();
            assert!(traced(&folder, &options, &quantize).status.success());
            let trace = fs::read_to_string(folder.path("trace")).unwrap();
            let lines: Vec<&str> = trace
                .lines()
                .filter(|line| !line.contains("(INJECTED)"))
                .collect();
            let place = format!("\"{output}\"");
            let named = lines
                .iter()
                .rposition(|line| line.contains("rename") && line.contains(&place))
                .unwrap_or_else(|| panic!("no rename to {output} in {trace}"));
            let is_sync = |line: &str| line.contains("sync(");
            let synced = lines[..named].iter().filter(|line| is_sync(line)).count();
            let files = match output {
                // Shards and index; manifest, model and weights; and the folders.
                "out" => 3 + 1 + 1,
                "out.mlpackage" => 3 + 4,
                // Program, digest and metadata.
                "out.aimodel" => 3 + 1,
                _ => 1,
            };
            assert!(
                synced >= files,
                "{synced} synced before it is named: {trace}"
            );
            let parent = lines[named..]
                .iter()
                .position(|line| is_sync(line) && line.contains("work>"))
                .unwrap_or_else(|| panic!("the folder of the name is not synced: {trace}"));
            let removed = lines[named..]
                .iter()
                .position(|line| line.contains("unlink") || line.contains("rmdir"));
            if let Some(removed) = removed {
                assert!(parent < removed, "removed too early: {trace}");
            }
            assert!(
                removed.is_some() || ["out.safetensors", "out.gguf"].contains(&output),
                "{trace}"
            );
        }
    }
}

/// The same result, and nothing waits for the disk.
#[test]
#[ignore = "takes strace: run by cargo xtask outputs"]
fn without_waiting_for_the_disk() {
    for (input, output) in INPUTS {
        for force in [false, true] {
            let folder = project();
            let run = |output: &str, option: Option<&str>| {
                let mut arguments = quantize(input, output);
                arguments.extend(option);
                let arguments = [&arguments[..], if force { &["--force"] } else { &[] }].concat();
                let done = traced(&folder, &["-e", "trace=fsync,fdatasync"], &arguments);
                assert!(done.status.success(), "{arguments:?}");
                fs::read_to_string(folder.path("trace")).unwrap()
            };
            if force {
                run(output, None);
            }
            let trace = run(output, Some("--no-sync"));
            assert!(!trace.contains("sync("), "{trace}");
            let other = format!("waited-{output}");
            assert!(run(&other, None).contains("sync("));
            let mut compare = Command::new("diff");
            compare
                .args(["-r", output, &other])
                .current_dir(folder.path("work"));
            assert!(
                compare.status().unwrap().success(),
                "{output}: not the same"
            );
        }
    }
}
