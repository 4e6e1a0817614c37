//! Samples passed through models: recorded, one after the other, stopped and resumed.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use quant_run::Tensor;

use super::{NET, NET_SHAPE, Room, fixture, json, model, sample};

#[test]
fn recordings_give_the_ranges_of_the_run() {
    let room = Room::new();
    let net = fixture(NET);
    room.samples(&NET_SHAPE, 3);
    let run = |more: &[&str]| {
        let common = ["calibrate", &net, "--samples", "samples", "-o", "run.json"];
        [&common[..], more].concat().join(" ")
    };
    let run = |more: &[&str]| {
        let words = run(more);
        let words: Vec<&str> = words.split(' ').collect();
        room.quant(&words)
    };
    for observer in ["min-max", "moving-average", "mse"] {
        let options = ["--observer", observer, "--force", "--record", "recorded"];
        let output = run(&options);
        assert!(output.status.success(), "{output:?}");
        let names = fs::read_dir(room.path("recorded")).unwrap().count();
        assert_eq!(names, 3);
        let again = ["calibrate", "recorded", "-o", "again.json", "--force"];
        room.done(&[&again[..], &["--observer", observer]].concat());
        assert_eq!(
            fs::read(room.path("run.json")).unwrap(),
            fs::read(room.path("again.json")).unwrap(),
            "{observer}"
        );
    }
    // A folder with anything else is left alone.
    fs::write(room.path("recorded/notes.txt"), "mine").unwrap();
    let output = run(&["--force", "--record", "recorded"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("recorded") && error.contains("notes.txt"),
        "{error}"
    );
    assert_eq!(fs::read(room.path("recorded/notes.txt")).unwrap(), b"mine");
    let output = run(&["--force", "--record", "samples"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_dir(room.path("samples")).unwrap().count(), 3);
    let output = run(&["--force", "--record", "other", "--resume"]);
    assert_eq!(output.status.code(), Some(2));
    // By another name, too.
    fs::create_dir(room.path("empty")).unwrap();
    let calibrate = ["calibrate", &net, "--samples", "samples", "--force"];
    let inside = ["-o", "./empty/run.json", "--record", "empty"];
    let output = room.quant(&[&calibrate[..], &inside].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("cannot lie in the folder"), "{error}");
    assert_eq!(fs::read_dir(room.path("empty")).unwrap().count(), 0);
}

/// What goes into the weights of a network, and what a search makes of it.
#[test]
fn the_importance_of_a_models_weights_is_found() {
    let room = Room::new();
    let net = fixture(NET);
    room.samples(&NET_SHAPE, 3);
    let find = ["calibrate", &net, "--samples", "samples", "--importance"];
    room.done(&[&find[..], &["-o", "all.safetensors"]].concat());
    let first = ["--samples-limit", "1", "-o", "one.safetensors"];
    room.done(&[&find[..], &first].concat());
    let all = fs::read(room.path("all.safetensors")).unwrap();
    assert_eq!(
        all.len(),
        fs::read(room.path("one.safetensors")).unwrap().len()
    );
    let searched = [
        "quantize",
        &net,
        "--search",
        "mse",
        "--min-elements",
        "0",
        "-f",
    ];
    let weighted = [
        "--importance",
        "all.safetensors",
        "--json",
        "-o",
        "q.mlpackage",
    ];
    let output = room.quant(&[&searched[..], &weighted].concat());
    assert!(output.status.success(), "{output:?}");
    // Each weight is known by its name.
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error, "");
    let output = room.quant(&["calibrate", &net, "--importance", "-o", "n.safetensors"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("--samples")
    );
}

/// What goes into one function says nothing of another one's weights of the same names.
#[test]
fn importance_is_that_of_a_function() {
    let room = Room::new();
    let package = &fixture("packages/functions_18_f16.mlpackage");
    room.samples(&[4, 48], 2);
    for function in ["one", "two"] {
        let output = format!("{function}.safetensors");
        let find = ["calibrate", package, "--importance", "--function", function];
        room.done(&[&find[..], &["--samples", "samples", "-o", &output]].concat());
    }
    let merge = ["calibrate", "--importance", "--merge"];
    let both = [
        "one.safetensors",
        "two.safetensors",
        "-o",
        "both.safetensors",
    ];
    room.done(&[&merge[..], &both].concat());
    let quantize = [
        "quantize",
        package,
        "--search",
        "mse",
        "--min-elements",
        "0",
    ];
    let with = ["-o", "q.mlpackage", "--strict", "--importance"];
    let output = room.quant(&[&quantize[..], &with, &["one.safetensors"]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("`two/first_weight_0` matches no name"),
        "{said}"
    );
    room.done(&[&quantize[..], &with, &["both.safetensors"]].concat());
}

/// What NumPy wrote into a pipe: `savez` twice, `savez_compressed` once.
#[test]
fn archives_in_a_stream_are_samples() {
    let room = Room::new();
    let sum = model("sum.mlpackage");
    let stream = fs::read(model("stream.npz")).unwrap();
    let with = |arguments: &[&str], bytes: &[u8]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_quant"))
            .args(arguments)
            .current_dir(room.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that looks at the first sample only closes it early.
        let _ = child.stdin.take().unwrap().write_all(bytes);
        child.wait_with_output().unwrap()
    };
    let calibrate = ["calibrate", &sum, "--samples", "-", "-o", "stream.json"];
    assert!(with(&calibrate, &stream).status.success());
    for i in 1..4 {
        let x = Tensor::from_floats(&[1, 4], vec![i as f32; 4]).unwrap();
        room.put(&format!("samples/{i}.npy"), &x);
    }
    room.done(&[
        "calibrate",
        &sum,
        "--samples",
        "samples",
        "-o",
        "files.json",
    ]);
    let [a, b] = ["stream.json", "files.json"].map(|name| fs::read(room.path(name)).unwrap());
    assert_eq!(a, b);
    let evaluate = [
        "evaluate",
        &sum,
        &sum,
        "--samples",
        "-",
        "--samples-limit",
        "2",
    ];
    let text = String::from_utf8(with(&evaluate, &stream).stdout).unwrap();
    assert!(
        text.contains("2 samples") && text.contains("exact"),
        "{text}"
    );
    let run = ["run", &sum, "-i", "-", "-o", "y.npz"];
    assert!(with(&run, &stream).status.success());
    // Damage is one line, and nothing is written.
    let calibrate = ["calibrate", &sum, "--samples", "-", "-o", "no.json"];
    let refused = |bytes: &[u8], word: &str| {
        let output = with(&calibrate, bytes);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.lines().count() == 1 && text.contains(word),
            "no {word}: {text}"
        );
        assert!(!room.path("no.json").exists());
    };
    refused(&[], "no samples");
    refused(b"hello", "npz");
    let last = stream.len() - 1;
    for end in [3, 20, 60, 200, 250, last] {
        refused(&stream[..end], "ends inside");
    }
    // An array that is named for another input is a mistake, also where it is the only one.
    let header = br#"{"z":{"dtype":"F32","shape":[1,4],"data_offsets":[0,16]}}"#;
    let mut named = (header.len() as u64).to_le_bytes().to_vec();
    named.extend(header);
    named.extend([0; 16]);
    fs::write(room.path("z.safetensors"), named).unwrap();
    let samples = ["--samples", "z.safetensors", "-o", "no.json"];
    room.refuses(
        &[&["calibrate", &sum], &samples[..]].concat(),
        &["`z` is no input of the model"],
    );
    let mut other = stream.clone();
    let values = 30 + "x.npy".len() + 20 + 128;
    other[values + 1] ^= 1;
    refused(&other, "checksum");
}

#[test]
fn a_sequence_keeps_its_states() {
    let room = Room::new();
    let sum = model("sum.mlpackage");
    for i in 0..3 {
        let ones = Tensor::from_floats(&[1, 4], vec![1.0; 4]).unwrap();
        room.put(&format!("samples/{i}.npy"), &ones);
    }
    let most = |more: &[&str]| {
        let calibrate = ["calibrate", &sum, "--samples", "samples", "-o", "r.json"];
        room.done(&[&calibrate[..], &["--record", "seen", "--force"], more].concat());
        let found = json(&room, "r.json");
        let found = found["activations"].as_object().unwrap();
        let of = |name: &str| found[name]["max"].as_f64();
        let mut all: Vec<f64> = found.keys().filter_map(|name| of(name)).collect();
        all.sort_by(f64::total_cmp);
        all.pop().unwrap()
    };
    // Twice the sum: of one sample, and of three.
    let (apart, together) = (most(&[]), most(&["--sequence"]));
    assert_eq!(together, 3.0 * apart);
    let evaluate = ["evaluate", &sum, &sum, "--samples", "samples", "--sequence"];
    assert!(room.done(&evaluate).contains("exact"));
}

/// Stops a run, again and again, each time a little later.
#[test]
fn a_stopped_run_is_resumed() {
    let room = Room::new();
    let net = fixture(NET);
    room.samples(&NET_SHAPE, 400);
    let common = [
        "calibrate",
        &net,
        "--samples",
        "samples",
        "--observer",
        "moving-average",
    ];
    room.done(&[&common[..], &["-o", "whole.json", "--quiet"]].concat());
    let checkpoint = room.path("part.json.checkpoint");
    let arguments = [
        &common[..],
        &["-o", "part.json", "--checkpoint", "0", "--resume"],
    ]
    .concat();
    let mut kills = 0;
    while !room.path("part.json").exists() {
        let before = fs::read(&checkpoint).unwrap_or_default();
        let mut child = Command::new(env!("CARGO_BIN_EXE_quant"))
            .args(&arguments)
            .current_dir(room.path(""))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while kills < 3
            && child.try_wait().unwrap().is_none()
            && fs::read(&checkpoint).unwrap_or_default() == before
        {
            assert!(start.elapsed() < Duration::from_secs(60), "no progress");
        }
        if kills < 3 {
            child.kill().unwrap();
            kills += u32::from(!room.path("part.json").exists());
        }
        child.wait().unwrap();
    }
    assert!(kills > 0);
    assert_eq!(
        fs::read(room.path("whole.json")).unwrap(),
        fs::read(room.path("part.json")).unwrap()
    );
    assert!(!checkpoint.exists());

    // What another command has left is not gone on with, nor replaced.
    fs::remove_file(room.path("part.json")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_quant"))
        .args(&arguments)
        .current_dir(room.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !checkpoint.exists() {
        assert!(child.try_wait().unwrap().is_none());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it was writing at that moment would be told, and removed.
    for path in room.names() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with(".quant-tmp") {
            fs::remove_file(path).unwrap();
        }
    }
    let part = ["-o", "part.json"];
    room.refuses(&[&common[..], &part].concat(), &["checkpoint", "--resume"]);
    let other = [&common[..], &part, &["--resume", "--round-f16"]].concat();
    room.refuses(&other, &["made with other options", "float16 rounded"]);
    room.put("samples/999.npy", &sample(&NET_SHAPE, 5));
    let more = [&common[..], &part, &["--resume"]].concat();
    room.refuses(&more, &["the data has changed"]);
}
