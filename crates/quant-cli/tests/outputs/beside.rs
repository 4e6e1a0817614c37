//! What commands write beside all that they read: samples, moments, importance, plans, labels.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::folder::Folder;

/// An npy array of f32.
fn npy(folder: &Folder, name: &str, shape: &[usize]) {
    let values =
        (0..shape.iter().product()).map(|i: usize| ((i * 7919) % 1009) as f32 / 504.5 - 1.0);
    let tensor = quant_run::Tensor::from_floats(shape, values.collect()).unwrap();
    let path = folder.file(name, "");
    fs::write(path, quant_run::write_npy(&tensor).unwrap()).unwrap();
}

/// All that a command may read. `far` holds what links in other folders lead to.
fn project() -> Folder {
    let folder = Folder::new();
    for model in ["m.mlpackage", "n.mlpackage"] {
        folder.package("../activations/conv_17_f16", model);
    }
    for sample in ["samples/0.npy", "samples/1.npy", "far/2.npy"] {
        npy(&folder, sample, &[1, 4, 8, 8]);
    }
    folder.link("../far/2.npy", "samples/2.npy");
    folder.file("labels.csv", "1\n0\n1\n");
    folder.model("w.safetensors", "w");
    npy(&folder, "far/w.npy", &[4, 96]);
    folder.link("../far/w.npy", "rows/w.npy");
    let importance = ["calibrate", "rows", "--importance", "-o", "i.safetensors"];
    folder.succeeds(&importance);
    folder.succeeds(&["plan", "w.safetensors", "-o", "plan.json"]);
    folder.succeeds(&["quantize", "w.safetensors", "-o", "c.safetensors"]);
    let samples = ["calibrate", "m.mlpackage", "--samples", "samples"];
    folder.succeeds(&[&samples[..], &["-o", "ranges.json"]].concat());
    folder
}

/// A command; the option of an output, how its name ends, and some of what the command reads.
const COMMANDS: [(&str, &str, &str, &[&str]); 17] = [
    (
        "plan m.mlpackage --target-bits 6 --samples samples",
        "-o",
        "json",
        &["samples/0.npy", "far/2.npy"],
    ),
    (
        "plan m.mlpackage --target-bits 6 --samples samples -o p.json",
        "--report",
        "html",
        &["m.mlpackage/Manifest.json", "far/2.npy"],
    ),
    (
        "plan w.safetensors --search mse --importance i.safetensors",
        "-o",
        "json",
        &["i.safetensors"],
    ),
    (
        "quantize m.mlpackage -o q.mlpackage --method gptq --samples samples",
        "--report",
        "json",
        &["samples/1.npy", "far/2.npy"],
    ),
    (
        "quantize w.safetensors -o q --method gptq --hessians c.safetensors",
        "--report",
        "json",
        &["c.safetensors"],
    ),
    (
        "quantize w.safetensors --method gptq --hessians c.safetensors",
        "-o",
        "safetensors",
        &["c.safetensors", "w.safetensors"],
    ),
    (
        "quantize w.safetensors --search mse --importance i.safetensors",
        "-o",
        "safetensors",
        &["i.safetensors"],
    ),
    (
        "quantize w.safetensors --plan plan.json",
        "-o",
        "safetensors",
        &["plan.json"],
    ),
    (
        "quantize w.safetensors --plan plan.json -o q",
        "--report",
        "json",
        &["plan.json"],
    ),
    (
        "run m.mlpackage --input x=samples/2.npy",
        "-o",
        "npz",
        &[
            "far/2.npy",
            "m.mlpackage/Data/com.apple.CoreML/model.mlmodel",
        ],
    ),
    (
        "evaluate m.mlpackage n.mlpackage --samples samples --labels labels.csv",
        "--report",
        "html",
        &["labels.csv", "far/2.npy", "n.mlpackage/Manifest.json"],
    ),
    (
        "calibrate m.mlpackage --samples samples",
        "-o",
        "json",
        &["far/2.npy", "m.mlpackage/Manifest.json"],
    ),
    (
        "calibrate m.mlpackage --samples samples --importance",
        "-o",
        "safetensors",
        &["far/2.npy", "m.mlpackage/Manifest.json"],
    ),
    (
        "calibrate rows --importance",
        "-o",
        "safetensors",
        &["far/w.npy"],
    ),
    (
        "calibrate --merge i.safetensors --importance",
        "-o",
        "safetensors",
        &["i.safetensors"],
    ),
    (
        "convert c.safetensors --format gguf",
        "-o",
        "gguf",
        &["c.safetensors"],
    ),
    ("plot ranges.json", "-o", "html", &["ranges.json"]),
];

/// By a link and by a hard link whose names end as they should.
#[test]
fn no_output_is_what_is_read() {
    let folder = project();
    for (command, option, ending, inputs) in COMMANDS {
        for input in inputs {
            let [link, hard] = ["link", "hard"].map(|name| format!("{name}.{ending}"));
            folder.link(input, &link);
            fs::hard_link(folder.path(input), folder.path(&hard)).unwrap();
            for output in [&link, &hard] {
                let mut line: Vec<&str> = command.split(' ').collect();
                line.extend([option, output, "--force"]);
                let stderr = folder.refused(&line, &[output]);
                let reason = ["itself", "is one of", "inside"];
                assert!(
                    reason.iter().any(|word| stderr.contains(word)),
                    "{line:?}: {stderr}"
                );
            }
            for name in [&link, &hard] {
                fs::remove_file(folder.path(name)).unwrap();
            }
        }
    }
}

/// Nor does one lie in a folder of samples, which would hold it the next time.
#[test]
fn no_output_lies_among_samples() {
    let folder = project();
    let commands = COMMANDS.iter().filter(|it| it.0.contains("--samples "));
    let mut count = 0;
    for (command, option, ending, _) in commands {
        let output = format!("samples/new.{ending}");
        let mut line: Vec<&str> = command.split(' ').collect();
        line.extend([*option, &output]);
        folder.refused(&line, &[&output, "inside ", "(samples)"]);
        count += 1;
    }
    let record = "calibrate m.mlpackage --samples samples -o r.json --record samples/recorded";
    let record: Vec<&str> = record.split(' ').collect();
    folder.refused(&record, &["samples/recorded", "inside ", "(samples)"]);
    assert_eq!(count, 6);
}

/// Answers and recordings tell of samples: they are for those who may read these.
#[test]
fn what_is_made_of_samples_is_as_private() {
    let folder = project();
    let mode = |name: &str| {
        let found = fs::metadata(folder.path(name)).unwrap();
        found.permissions().mode() & 0o077
    };
    fs::set_permissions(folder.path("far/2.npy"), fs::Permissions::from_mode(0o600)).unwrap();
    let run = |input, output| {
        folder.succeeds(&["run", "m.mlpackage", "--input", input, "-o", output]);
        mode(output)
    };
    assert_eq!(run("x=samples/2.npy", "private.npz"), 0);
    assert_ne!(run("x=samples/1.npy", "open.npz"), 0);
    let calibrate = "calibrate m.mlpackage --samples samples -o r.json --record recorded";
    folder.succeeds(&calibrate.split(' ').collect::<Vec<_>>());
    assert_eq!(mode("recorded"), 0);
    let none = ["run", "m.mlpackage", "--input", "x=", "-o", "none.npz"];
    let refused = folder.quant(&none);
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("--input x=: name a file"), "{stderr}");
}
