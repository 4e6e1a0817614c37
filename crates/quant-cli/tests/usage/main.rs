//! The command line: options that need others, exit statuses, help and manual, names of outputs.

#[path = "../folder/mod.rs"]
mod folder;
mod help;
mod options;
#[path = "../signals/mod.rs"]
mod signals;
mod values;

use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::process::Stdio;

use folder::{Folder, f32_bytes, wave};
use signals::{wait_until_it_listens, with_default_signals};

fn model(folder: &Folder, file: &str) {
    let (w, b) = (f32_bytes(64 * 96, wave), f32_bytes(64, wave));
    folder.model(
        file,
        &[("w", "F32", &[64, 96], &w), ("b", "F32", &[64], &b)],
    );
}

/// Names are bytes; not one of them is lost.
#[test]
#[cfg(target_os = "linux")]
fn a_name_that_is_no_text_keeps_its_bytes() {
    let folder = Folder::new();
    model(&folder, "m.safetensors");
    let name = |bytes: &[u8]| std::ffi::OsString::from_vec(bytes.to_vec());
    let input = name(b"m\xff\xfe.safetensors");
    fs::rename(folder.path("m.safetensors"), folder.path("").join(&input)).unwrap();
    let output = folder.quant(&["quantize".into(), input]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        folder
            .path("")
            .join(name(b"m\xff\xfe.int8.safetensors"))
            .exists()
    );
    let quantized = name(b"m\xff\xfe.int8.safetensors");
    assert!(
        folder
            .quant(&["dequantize".into(), quantized])
            .status
            .success()
    );
    assert!(
        folder
            .path("")
            .join(name(b"m\xff\xfe.int8.float.safetensors"))
            .exists()
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_standard_output_is_an_error() {
    let folder = Folder::new();
    model(&folder, "m.safetensors");
    for (arguments, status) in [
        ("--help", 1),
        ("--version", 1),
        ("quantize --help", 1),
        ("man", 1),
        ("completions bash", 1),
        ("backends", 1),
        ("inspect m.safetensors", 1),
        ("inspect m.safetensors --json", 1),
        ("quantize m.safetensors -n", 1),
        ("quantize m.safetensors -f", 1),
        ("diff m.safetensors m.safetensors", 2),
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = folder.command(&arguments).stdout(full).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            output.status.code(),
            Some(status),
            "{arguments:?}: {stderr}"
        );
        assert!(
            stderr.starts_with("quant: standard output: cannot write"),
            "{stderr}"
        );
    }
    // A reader that has seen enough is none.
    let mut child = folder
        .command(&["man"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
#[cfg(unix)]
fn a_signal_ends_with_its_number_and_the_second_at_once() {
    let folder = Folder::new();
    for (signal, status) in [("HUP", 129), ("INT", 130), ("TERM", 143)] {
        // It waits for its standard input.
        let start = || {
            let plain = folder.command(&["calibrate", "-", "--name", "x", "-o", "r.json"]);
            let mut child = with_default_signals(&plain)
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            wait_until_it_listens(&mut child);
            child
        };
        let kill = |id: u32| {
            let id = id.to_string();
            let killed = std::process::Command::new("kill")
                .args([&format!("-{signal}"), &id])
                .status();
            assert!(killed.unwrap().success());
        };
        let mut child = start();
        kill(child.id());
        std::thread::sleep(std::time::Duration::from_millis(100));
        // What it waits for comes no more.
        drop(child.stdin.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{signal}: {stderr}");

        let mut child = start();
        let input = child.stdin.take();
        kill(child.id());
        std::thread::sleep(std::time::Duration::from_millis(100));
        let begin = std::time::Instant::now();
        if child.try_wait().unwrap().is_none() {
            kill(child.id());
        }
        assert_eq!(child.wait().unwrap().code(), Some(status), "{signal}");
        assert!(begin.elapsed().as_secs() < 5);
        drop(input);
        assert!(folder.names().is_empty(), "{:?}", folder.names());
    }
}

/// Neither while samples are awaited, nor where the other end of the pipe ends by the same signal.
#[test]
#[cfg(all(unix, feature = "run"))]
fn a_signal_ends_what_waits_for_samples() {
    let folder = Folder::with_package("linear_18_f16");
    let plain = folder.command(&["evaluate", "m.mlpackage", "m.mlpackage", "--samples", "-"]);
    for closes_first in [false, true] {
        let mut child = with_default_signals(&plain)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_until_it_listens(&mut child);
        let input = child.stdin.take();
        let killed = std::process::Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        assert!(killed.unwrap().success());
        let input = input.filter(|_| !closes_first);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(130), "{stderr}");
        assert!(stderr.contains("interrupted"), "{stderr}");
        drop(input);
    }
}
