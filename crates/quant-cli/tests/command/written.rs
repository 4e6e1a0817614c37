//! What is written, and what stays when writing fails.

use std::fs;
use std::process::Command;

use crate::{Folder, f32_bytes, small_model, wave, write};
use safetensors::tensor::Dtype;

#[test]
fn outputs_are_replaced_only_by_force() {
    let folder = Folder::new();
    small_model(&folder.path("m.safetensors"));
    fs::write(folder.path("out"), "precious").unwrap();
    folder.refuses(
        &["quantize", "m.safetensors", "-o", "out"],
        1,
        &["out", "--force"],
    );
    assert_eq!(fs::read(folder.path("out")).unwrap(), b"precious");
    folder.refuses(
        &["quantize", "m.safetensors", "-o", "none/out"],
        1,
        &["none/out", "cannot create"],
    );
    // Nobody can create a file here, not even root.
    #[cfg(target_os = "linux")]
    folder.refuses(
        &["quantize", "m.safetensors", "-o", "/proc/out"],
        1,
        &["/proc/out", "cannot create"],
    );
    folder.succeeds(&["quantize", "m.safetensors", "-o", "out", "--force"]);
    folder.refuses(
        &["quantize", "out", "-o", "again"],
        1,
        &["out", "already quantized"],
    );
    assert_eq!(folder.names(), ["m.safetensors", "out"]);
}

/// Ctrl-C and a kill at many moments: no output or a whole one, and after Ctrl-C nothing else.
#[test]
fn a_killed_run_leaves_no_half_output() {
    let folder = Folder::new();
    let w = f32_bytes(2048 * 2048, wave);
    let path = folder.path("m.safetensors");
    write(&path, &[("w", Dtype::F32, &[2048, 2048], &w)]);
    folder.succeeds(&["quantize", "m.safetensors", "-o", "whole"]);
    let whole = fs::read(folder.path("whole")).unwrap();
    let mut ended_early = 0;
    for moment in 0..24 {
        for signal in ["-INT", "-KILL"] {
            let mut child = Command::new(env!("CARGO_BIN_EXE_quant"))
                .args(["quantize", "m.safetensors", "-o", "out", "--quiet"])
                .current_dir(folder.0.path())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2 * moment));
            let kill = Command::new("kill")
                .args([signal, &child.id().to_string()])
                .status();
            assert!(kill.is_ok());
            let status = child.wait().unwrap();
            ended_early += usize::from(!status.success());
            let mut names = folder.names();
            if signal == "-KILL" {
                names.retain(|name| !name.starts_with(".quant-"));
            }
            match fs::read(folder.path("out")) {
                Ok(bytes) => {
                    assert!(bytes == whole, "a half output");
                    assert_eq!(names, ["m.safetensors", "out", "whole"]);
                    fs::remove_file(folder.path("out")).unwrap();
                }
                Err(_) => assert_eq!(names, ["m.safetensors", "whole"]),
            }
            for name in folder
                .names()
                .iter()
                .filter(|name| name.starts_with(".quant-"))
            {
                fs::remove_file(folder.path(name)).unwrap();
            }
        }
    }
    assert!(ended_early > 0, "no run was hit");
}

/// A device without room, which Linux has ready.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_reported() {
    let folder = Folder::new();
    let w = f32_bytes(2048 * 512, wave);
    write(
        &folder.path("m.safetensors"),
        &[("w", Dtype::F32, &[2048, 512], &w)],
    );
    // A limit on the size of files makes the write fail as a full disk does.
    let script = format!(
        "trap '' XFSZ; ulimit -f 100; exec '{}' quantize m.safetensors",
        env!("CARGO_BIN_EXE_quant")
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(folder.0.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("m.int8.safetensors") && stderr.contains("cannot write"),
        "{stderr}"
    );
    assert_eq!(folder.names(), ["m.safetensors"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_standard_error_changes_no_exit_code() {
    let status = Command::new(env!("CARGO_BIN_EXE_quant"))
        .args(["inspect", "no such model"])
        .stderr(fs::File::create("/dev/full").unwrap())
        .status();
    assert_eq!(status.unwrap().code(), Some(1));
}

/// An impossible report ends the work before there is an output; a folder that is missing is named
/// as it was given.
#[test]
fn places_that_are_not_there_are_named() {
    let folder = Folder::new();
    let w = f32_bytes(64 * 64, wave);
    write(
        &folder.path("m.safetensors"),
        &[("w", Dtype::F32, &[64, 64], &w)],
    );
    let report = ["quantize", "m.safetensors", "--report", "none/r.json"];
    folder.refuses(&report, 1, &["none/r.json", "not found"]);
    let output = ["quantize", "m.safetensors", "-o", "none/m.safetensors"];
    folder.refuses(&output, 1, &["none/m.safetensors", "not found"]);
    let said = folder.quant(&output).stderr;
    let said = String::from_utf8(said).unwrap();
    assert!(!said.contains(".quant-"), "{said}");
    folder.succeeds(&["quantize", "m.safetensors", "--report", "r.json"]);
    let names = ["m.int8.safetensors", "m.safetensors", "r.json"];
    assert_eq!(folder.names(), names);
    for (report, words) in [
        ("r.json", "exists already"),
        ("m.safetensors", "the report is the model itself"),
        ("./m.safetensors", "the report is the model itself"),
        ("o.safetensors", "the report is the model itself"),
        ("new/", "the name of a folder"),
    ] {
        let arguments = [
            "quantize",
            "m.safetensors",
            "-o",
            "o.safetensors",
            "--report",
            report,
        ];
        folder.refuses(&arguments, 1, &[report, words]);
    }
    folder.succeeds(&["quantize", "m.safetensors", "--report", "r.json", "--force"]);
}
