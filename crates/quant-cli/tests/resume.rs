//! `quant calibrate`, killed and interrupted, and resumed.

mod recordings;
mod signals;

use std::fs;
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quant_core::observer::ObserverConfig;
use quant_core::{IntType, Mode};
use quant_models::{CalibrationOptions, CalibrationSettings, Error, Job, Recordings};
use recordings::{Folder, npy_f32, values};
use signals::with_default_signals;

impl Folder {
    /// Fails with one line that holds all of `words`, and leaves the folder as it was.
    fn refuses(&self, arguments: &str, words: &[&str]) {
        let before = self.names();
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let output = self.command(&arguments).output().unwrap();
        self.check_refusal(&output, words);
        assert_eq!(self.names(), before, "{arguments:?}");
    }
}

/// So many samples that the first checkpoint comes long before the end.
fn many(folder: &Folder) {
    for i in 0..3000 {
        folder.write(
            &format!("data/x/{i:05}.npy"),
            &npy_f32(&values(i, 50 + i % 7)),
        );
    }
    folder.write("data/y/1.npy", &npy_f32(&values(1, 30_000_000)));
}

fn wait_for(path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "no checkpoint");
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn a_killed_run_is_resumed() {
    let folder = Folder::new();
    many(&folder);
    let checkpoint = folder.path("out.json.checkpoint");
    for observer in ["min-max", "moving-average", "percentile --bins 512"] {
        let options = format!("data --observer {observer} --checkpoint 0 --threads 2");
        let whole = folder.calibrated(&options);
        fs::remove_file(folder.path("out.json")).unwrap();
        let arguments = format!("{options} -o out.json --resume");
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let mut kills = 0;
        // Again and again, each time a little later, until it comes to its end.
        while !folder.path("out.json").exists() {
            let before = fs::read(&checkpoint).unwrap_or_default();
            let mut child = folder
                .command(&arguments)
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            if kills < 4 {
                let start = Instant::now();
                // Until another checkpoint is there, or it is done after all.
                while child.try_wait().unwrap().is_none()
                    && fs::read(&checkpoint).unwrap_or_default() == before
                {
                    assert!(start.elapsed() < Duration::from_secs(60), "no progress");
                }
                child.kill().unwrap();
                child.wait().unwrap();
                kills += u32::from(!folder.path("out.json").exists());
            } else {
                assert!(child.wait().unwrap().success());
                assert!(!checkpoint.exists());
            }
        }
        // A busy machine may let it come to its end before the last of them.
        assert!(kills > 0, "never killed in the middle");
        let resumed = fs::read_to_string(folder.path("out.json")).unwrap();
        assert!(resumed == whole, "{observer}");
        let _ = fs::remove_file(&checkpoint);
    }
}

#[test]
fn ctrl_c_leaves_a_checkpoint() {
    let folder = Folder::new();
    many(&folder);
    let whole = folder.calibrated("data --observer mse");
    fs::remove_file(folder.path("out.json")).unwrap();
    let checkpoint = folder.path("out.json.checkpoint");
    let plain = folder.command(&[
        "data",
        "--observer",
        "mse",
        "-o",
        "out.json",
        "--checkpoint",
        "0",
    ]);
    let child = with_default_signals(&plain)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for(&checkpoint);
    let interrupt = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("--resume"), "{stderr}");

    let stored = fs::read(&checkpoint).unwrap();
    folder.refuses("data --observer mse -o out.json", &["--resume", "--force"]);
    folder.refuses(
        "data --observer entropy -o out.json --resume",
        &["made with other options", "mse", "entropy"],
    );
    folder.refuses(
        "data --observer mse --name x -o out.json --resume",
        &["made with other options", "--name x"],
    );
    folder.refuses(
        "data/x --observer mse -o out.json --resume",
        &["the data has changed"],
    );
    let array = folder.path("data/x/00100.npy");
    let bytes = fs::read(&array).unwrap();
    let time = fs::metadata(&array).unwrap().modified().unwrap();
    fs::write(&array, &bytes).unwrap();
    folder.refuses(
        "data --observer mse -o out.json --resume",
        &["the data has changed"],
    );
    let file = fs::File::options().write(true).open(&array).unwrap();
    file.set_modified(time).unwrap();
    for cut in [0, 1, 100, stored.len() - 1] {
        fs::write(&checkpoint, &stored[..cut]).unwrap();
        folder.refuses(
            "data --observer mse -o out.json --resume",
            &["not a checkpoint"],
        );
    }
    let other = String::from_utf8(stored.clone()).unwrap();
    let other = other.replace("\"file\":", "\"file\":1");
    fs::write(&checkpoint, other).unwrap();
    folder.refuses(
        "data --observer mse -o out.json --resume",
        &["a damaged one"],
    );
    fs::write(&checkpoint, &stored).unwrap();
    assert!(folder.calibrated("data --observer mse --resume") == whole);

    fs::write(&checkpoint, b"left behind").unwrap();
    assert!(folder.calibrated("data --observer mse --force") == whole);
    assert!(!checkpoint.exists());
}

fn options(observer: &str) -> CalibrationOptions {
    let observer = ObserverConfig::from_name(observer).unwrap();
    let settings = CalibrationSettings::new(observer, IntType::Int8, Mode::Symmetric);
    CalibrationOptions::new(settings)
        .with_activation("x".to_string())
        .with_checkpoint_every(Duration::from_secs(3600))
}

/// Stops as soon as the last byte has been seen, while ranges are searched for.
#[test]
fn a_search_for_ranges_that_is_stopped_is_resumed() {
    let folder = Folder::new();
    folder.write("x.npy", &npy_f32(&values(0, 5000)));
    let whole = folder.calibrated("x.npy --observer entropy");
    fs::remove_file(folder.path("out.json")).unwrap();
    let output = folder.path("out.json");
    let recordings = Recordings::list(&[folder.path("x.npy")], None, &output).unwrap();
    let mut options = options("entropy");
    let (seen, cancelled) = (AtomicU64::new(0), AtomicBool::new(false));
    let progress = |bytes| {
        let seen = seen.fetch_add(bytes, Ordering::Relaxed) + bytes;
        cancelled.store(seen == recordings.bytes(), Ordering::Relaxed);
    };
    let job = Job::UNWATCHED
        .with_progress(&progress)
        .with_cancel(&cancelled);
    let stopped = quant_models::calibrate(&recordings, &output, &options, &job);
    assert!(matches!(stopped, Err(Error::Paused { .. })), "{stopped:?}");
    assert!(!output.exists());

    options.resume = true;
    let job = Job::UNWATCHED.with_progress(&|_| panic!("nothing is read again"));
    quant_models::calibrate(&recordings, &output, &options, &job).unwrap();
    assert!(fs::read_to_string(&output).unwrap() == whole);
}

/// Two arrays, and then it panics.
struct Panics(Cursor<Vec<u8>>);

impl Read for Panics {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => panic!("as a test wants it"),
            read => Ok(read),
        }
    }
}

#[test]
fn a_stream_whose_reader_panics_has_not_ended() {
    let folder = Folder::new();
    let array = npy_f32(&values(0, 3_000_000));
    let options = options("min-max");
    let job = Job::UNWATCHED;
    let stream = Panics(Cursor::new([array.clone(), array].concat()));
    let found = quant_models::calibrate_stream(stream, &folder.path("out.json"), &options, &job);
    assert!(found.unwrap_err().to_string().contains("panicked"));
    assert!(folder.names().is_empty());
}
