//! Plans and searches that weigh errors by what goes into weights.

use std::fs;

use super::folder::{Folder, f32_bytes, wave};
use super::{bytes, model, read};

#[test]
fn errors_are_weighed_by_what_goes_into_a_weight() {
    let folder = model();
    let weights = f32_bytes(64 * 64, |i| if i % 64 == 7 { 3.0 } else { wave(i) });
    folder.model(
        "s.safetensors",
        &[("fc.weight", "F32", &[64, 64], &weights)],
    );
    // Only the input of the large weights is ever large.
    let inputs = f32_bytes(4 * 64, |i| if i % 64 == 7 { 100.0 } else { 0.01 });
    folder.model("in.safetensors", &[("fc.weight", "F32", &[4, 64], &inputs)]);
    let find = |from: &[&str], output: &str| {
        let line = [&["calibrate"], from, &["--importance", "-o", output]].concat();
        folder.succeeds(&line)
    };
    find(&["in.safetensors"], "one.safetensors");
    find(
        &["--merge", "one.safetensors", "one.safetensors"],
        "two.safetensors",
    );
    let base = [
        "quantize",
        "s.safetensors",
        "--dtype",
        "int4",
        "--search",
        "mse",
    ];
    let quantize = |more: &[&str]| {
        let line = [&base[..], &["-f", "-o", "q.safetensors"], more].concat();
        folder.succeeds(&line);
        bytes(&folder, "q.safetensors")
    };
    let alike = quantize(&[]);
    let weighted = quantize(&["--importance", "one.safetensors"]);
    assert_ne!(alike, weighted);
    // Means are the same, however often the samples are counted.
    assert_eq!(weighted, quantize(&["--importance", "two.safetensors"]));
    // What the large weights lose is what counts.
    let lost = |options: &[&str]| {
        quantize(options);
        folder.succeeds(&["dequantize", "q.safetensors", "-f", "-o", "r.safetensors"]);
        let data = fs::read(folder.path("r.safetensors")).unwrap();
        let data = &data[data.len() - weights.len()..];
        let floats = data
            .as_chunks::<4>()
            .0
            .iter()
            .map(|&it| f32::from_le_bytes(it));
        let large: Vec<f32> = floats.skip(7).step_by(64).collect();
        large
            .iter()
            .map(|value| (value - 3.0).abs())
            .fold(0.0, f32::max)
    };
    assert!(lost(&["--importance", "one.safetensors"]) <= lost(&[]));
    folder.succeeds(&[
        "plan",
        "s.safetensors",
        "-o",
        "i.json",
        "--search",
        "mse",
        "--importance",
        "one.safetensors",
        "--target-bits",
        "5",
    ]);

    folder.model(
        "short.safetensors",
        &[("fc.weight", "F32", &[4, 32], &inputs[..512])],
    );
    find(&["short.safetensors"], "other.safetensors");
    folder.model(
        "named.safetensors",
        &[("nothing", "F32", &[4, 64], &inputs)],
    );
    find(&["named.safetensors"], "unknown.safetensors");
    let importance = |file| [&base[..], &["--importance", file, "-o", "n.safetensors"]].concat();
    folder.refuses(
        &importance("other.safetensors"),
        1,
        &["fc.weight", "32 inputs", "64"],
    );
    folder.refuses(
        &importance("unknown.safetensors"),
        1,
        &["fc.weight", "nothing"],
    );
    folder.refuses(
        &importance("s.safetensors"),
        1,
        &["fc.weight", "holds no importance"],
    );
    folder.refuses(&importance("absent.dat"), 1, &["absent.dat"]);
    let line = [
        "quantize",
        "s.safetensors",
        "--importance",
        "one.safetensors",
    ];
    folder.refuses(&line, 2, &["--importance", "--search mse"]);
    let line = [
        "calibrate",
        "in.safetensors",
        "--importance",
        "-o",
        "r.safetensors",
        "--bins",
        "64",
    ];
    folder.refuses(&line, 2, &["--importance", "--bins"]);
}

/// A plan says by what errors were weighed; carried out without it, it says so. What a file has no inputs
/// of counts alike, and is told.
#[test]
fn importance_that_is_left_out_or_says_nothing_is_told() {
    let folder = Folder::new();
    let weights = f32_bytes(64 * 64, wave);
    let shape: &[usize] = &[64, 64];
    folder.model(
        "m.safetensors",
        &[
            ("a.weight", "F32", shape, &weights),
            ("b.weight", "F32", shape, &weights),
        ],
    );
    let (seen, unseen) = (f32_bytes(4 * 64, wave), vec![0; 4 * 64 * 4]);
    let importance = |name: &str, a: &[u8], b: &[u8]| {
        let inputs = [("a.weight", a), ("b.weight", b)];
        folder.model(
            "in.safetensors",
            &inputs.map(|(name, inputs)| (name, "F32", &[4, 64][..], inputs)),
        );
        folder.succeeds(&["calibrate", "in.safetensors", "--importance", "-o", name]);
    };
    importance("both.safetensors", &seen, &seen);
    importance("one.safetensors", &seen, &unseen);
    importance("none.safetensors", &unseen, &unseen);
    let said = |line: &[&str]| {
        let output = folder.quant(line);
        let stderr = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), stderr)
    };
    let search = ["--search", "mse", "--importance", "both.safetensors", "-f"];
    let carry_out = [
        "quantize",
        "m.safetensors",
        "--plan",
        "p.json",
        "-f",
        "-o",
        "q.safetensors",
    ];
    for target in [&["--dtype", "int4"][..], &["--target-bits", "5"]] {
        let plan = ["plan", "m.safetensors", "-o", "p.json"];
        folder.succeeds(&[&plan[..], &search, target].concat());
        assert_eq!(read(&folder, "p.json")["importance"], "both.safetensors");
        let given = [&carry_out[..], &["--importance", "both.safetensors"]].concat();
        assert_eq!(said(&given), (0, String::new()));
        let weighed = bytes(&folder, "q.safetensors");
        let (status, stderr) = said(&carry_out);
        let wanted = "p.json was made with errors weighed by both.safetensors, and here they count alike; give --importance both.safetensors";
        assert!(status == 0 && stderr.contains(wanted), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert_ne!(weighed, bytes(&folder, "q.safetensors"));
        assert_eq!(said(&[&carry_out[..], &["--strict"]].concat()).0, 3);
    }
    let quantize = [
        "quantize",
        "m.safetensors",
        "-o",
        "q.safetensors",
        "-f",
        "--search",
        "mse",
    ];
    let weighed = |file| [&quantize[..], &["--importance", file]].concat();
    let (status, stderr) = said(&weighed("one.safetensors"));
    let wanted =
        "one.safetensors: the inputs of `b.weight` are all 0, so that errors count alike there";
    assert!(status == 0 && stderr.contains(wanted), "{stderr}");
    assert_eq!(
        said(&[&weighed("one.safetensors")[..], &["--strict"]].concat()).0,
        3
    );
    folder.refuses(
        &weighed("none.safetensors"),
        1,
        &["none.safetensors", "`a.weight`", "all of its inputs are 0"],
    );
}
