//! Recordings, documents of ranges and checkpoints of any content: refused in one line and nothing
//! left behind, or a document that can be read and merged.
#![no_main]

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use quant_core::observer::ObserverConfig;
use quant_core::{IntType, Mode};
use quant_models::{
    Calibration, CalibrationOptions, CalibrationSettings, Error, Job, Ranges, Recordings,
    calibrate, calibrate_stream, merge_calibrations,
};
use serde_json::Value;
use xxhash_rust::xxh64::xxh64;

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, content)) = bytes.split_first() else {
        return;
    };
    let (kind, which) = (which % 3, usize::from(which / 3));
    let folder = tempfile::tempdir().unwrap();
    let [input, output, merged] =
        ["x.npy", "ranges.json", "merged.json"].map(|name| folder.path().join(name));
    let observer = ObserverConfig::ALL[which % ObserverConfig::ALL.len()];
    let settings = CalibrationSettings::new(
        observer.with_bins(128),
        [IntType::Int8, IntType::Uint8][which / 5 % 2],
        [Mode::Symmetric, Mode::Affine][which / 10 % 2],
    );
    let options = CalibrationOptions::new(settings)
        .with_activation("x".to_string())
        .with_resume(kind == 2)
        .with_checkpoint_every(Duration::ZERO);
    let job = Job::UNWATCHED;
    let of_file = |output: &Path, job: &Job<'_>| {
        Recordings::list(std::slice::from_ref(&input), None, output)
            .and_then(|recordings| calibrate(&recordings, output, &options, job))
    };
    let check_error = |error: &Error, left: usize| {
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            left,
            "{error}"
        );
    };
    match kind {
        0 => {
            let streamed = calibrate_stream(Cursor::new(content.to_vec()), &output, &options, &job);
            if let Err(error) = &streamed {
                check_error(error, 0);
            }
            fs::write(&input, content).unwrap();
            // A file holds one array, where a stream may hold several.
            if of_file(&merged, &job).is_ok() {
                assert_eq!(fs::read(&output).unwrap(), fs::read(&merged).unwrap());
            }
            let _ = fs::remove_file(&merged);
            if streamed.is_err() {
                return;
            }
        }
        1 => fs::write(&output, content).unwrap(),
        _ => {
            fs::write(&input, include_bytes!("recording.npy")).unwrap();
            let checkpoint = folder.path().join("ranges.json.checkpoint");
            // What it says of the data must be true, or it is refused before the rest is looked at.
            let stop = AtomicBool::new(true);
            let stopped = job.with_cancel(&stop);
            of_file(&output, &stopped).unwrap_err();
            let stored = fs::read_to_string(&checkpoint).unwrap();
            let (_, stored) = stored.split_once('\n').unwrap();
            let mut stored: Value = serde_json::from_str(stored).unwrap();
            match serde_json::from_slice(content) {
                Ok(Value::Object(fields)) => {
                    stored.as_object_mut().unwrap().extend(fields);
                    let stored = stored.to_string();
                    let digest = xxh64(stored.as_bytes(), 0);
                    fs::write(&checkpoint, format!("{digest:016x}\n{stored}\n")).unwrap();
                }
                _ => fs::write(&checkpoint, content).unwrap(),
            }
            if let Err(error) = of_file(&output, &job) {
                return check_error(&error, 2);
            }
        }
    }
    let inputs = std::slice::from_ref(&output);
    let others = fs::read_dir(folder.path()).unwrap().count();
    match merge_calibrations(inputs, &merged, &job) {
        Ok(_) => {
            Calibration::open(&merged).unwrap();
            let again = folder.path().join("again.json");
            merge_calibrations(std::slice::from_ref(&merged), &again, &job).unwrap();
            assert_eq!(fs::read(&merged).unwrap(), fs::read(&again).unwrap());
            if kind != 1 {
                assert_eq!(fs::read(&output).unwrap(), fs::read(&merged).unwrap());
            }
        }
        Err(error) => {
            assert!(kind == 1 || observer.name() == "moving-average", "{error}");
            check_error(&error, others);
        }
    }
    if let Err(error) = Ranges::open(&output) {
        check_error(&error, fs::read_dir(folder.path()).unwrap().count());
    }
});
