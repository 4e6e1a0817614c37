//! Ctrl-C in the midst of many tensors.

use std::fs;
use std::io::{BufWriter, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::folder::Folder;
use crate::signals::with_default_signals;

/// Tensors of 16 bytes.
fn many(folder: &Folder, tensors: usize) {
    let mut header = String::with_capacity(80 * tensors);
    for i in 0..tensors {
        let (start, end) = (16 * i, 16 * (i + 1));
        header += if i == 0 { "{" } else { "," };
        header +=
            &format!(r#""t{i}":{{"dtype":"F32","shape":[2,2],"data_offsets":[{start},{end}]}}"#);
    }
    header += "}";
    let file = fs::File::create(folder.path("m.safetensors")).unwrap();
    let mut file = BufWriter::new(file);
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    for i in 0..4 * tensors {
        file.write_all(&((i % 61) as f32).to_le_bytes()).unwrap();
    }
    file.flush().unwrap();
}

/// Seconds of processor time; `None` once the process is no more.
fn processor_seconds(process: u32) -> Option<(f64, bool)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |i: usize| fields[i].parse::<f64>().ok();
    Some(((ticks(11)? + ticks(12)?) / 100.0, fields[0] == "Z"))
}

/// In so much processor time, and nothing is left: on a machine that does other things besides, a
/// second of the clock is shorter.
fn stops(tensors: usize, moments: u32, seconds: f64) {
    let folder = Folder::new();
    many(&folder, tensors);
    let command = |options: &[&str]| {
        let quantize = ["quantize", "m.safetensors", "-o", "out"];
        let plain = folder.command(&[&quantize[..], options].concat());
        let mut command = with_default_signals(&plain);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    for options in [&[][..], &["--dry-run", "--json"]] {
        let begun = Instant::now();
        assert!(command(options).status().unwrap().success());
        let whole = begun.elapsed();
        let _ = fs::remove_file(folder.path("out"));
        let mut stopped = 0;
        for moment in 1..moments {
            let mut child = command(options).spawn().unwrap();
            std::thread::sleep(whole * moment / moments);
            let kill = Command::new("kill")
                .args(["-INT", &child.id().to_string()])
                .status();
            assert!(kill.unwrap().success());
            // Not before: on a busy machine it takes a while until the signal is sent.
            let (before, _) = processor_seconds(child.id()).unwrap();
            let mut taken = before;
            while let Some((now, ended)) = processor_seconds(child.id()) {
                taken = now;
                if ended {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            let status = child.wait().unwrap();
            let taken = taken - before;
            assert!(
                taken < seconds,
                "{options:?} at {moment}/{moments}: {taken} s to stop"
            );
            stopped += usize::from(status.code() == Some(130));
            let _ = fs::remove_file(folder.path("out"));
            assert_eq!(folder.names(""), ["m.safetensors"]);
        }
        assert!(stopped > 0, "{options:?}: no run was hit");
    }
}

#[test]
fn work_on_many_tensors_stops_at_once() {
    stops(50_000, 5, 0.5);
}

#[test]
#[ignore = "takes minutes: run by cargo xtask outputs"]
fn work_on_a_million_tensors_stops_within_a_second() {
    stops(1_000_000, 10, 1.0);
}
