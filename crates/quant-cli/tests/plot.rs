//! `quant plot`, run as a process.

mod recordings;

use std::fs;
use std::process::Command;

use recordings::{Folder, npy_f32, values};

impl Folder {
    fn plot(&self, arguments: &str) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quant"));
        command.arg("plot").args(arguments.split(' '));
        command.current_dir(self.path("")).output().unwrap()
    }

    fn plotted(&self, file: &str) -> String {
        let output = self.plot(&format!("ranges.json -o {file} --force"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        fs::read_to_string(self.path(file)).unwrap()
    }

    fn ranges(&self, arguments: &str) {
        let text = self.calibrated(arguments);
        self.write("ranges.json", text.as_bytes());
    }
}

#[test]
fn a_page_shows_every_activation() {
    let folder = Folder::new();
    for i in 0..3 {
        folder.write(&format!("data/conv_1/{i}.npy"), &npy_f32(&values(i, 4000)));
        let relu: Vec<f32> = values(i + 9, 4000).iter().map(|x| x.max(0.0)).collect();
        folder.write(&format!("data/relu_1/{i}.npy"), &npy_f32(&relu));
    }
    for observer in ["min-max", "moving-average", "percentile", "entropy", "mse"] {
        folder.ranges(&format!(
            "data --observer {observer} --dtype uint8 --mode affine"
        ));
        let page = folder.plotted("ranges.html");
        // A chart each; or all in one, where there is nothing but ranges.
        let has_histogram = !matches!(observer, "min-max" | "moving-average");
        let charts = if has_histogram { 2 } else { 1 };
        assert_eq!(page.matches("<svg").count(), charts, "{observer}");
        let sections = if has_histogram { 2 } else { 0 };
        assert_eq!(page.matches("<section").count(), sections, "{observer}");
        for words in [
            "conv_1",
            "relu_1",
            observer,
            "<td>12000</td>",
            "\nvalue",
            "prefers-color-scheme: dark",
        ] {
            assert!(page.contains(words), "{observer}: no {words}");
        }
        for words in [
            "12000 values in 3 samples",
            "conv_1</h2>",
            "\nvalues per bar\n",
        ] {
            assert_eq!(page.contains(words), has_histogram, "{observer}: {words}");
        }
        let text = fs::read_to_string(folder.path("ranges.json")).unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let max = document["activations"]["conv_1"]["observed_max"]
            .as_f64()
            .unwrap();
        assert!(page.contains(&format!("{max:.4}")), "{observer}");
        // Nothing is fetched.
        let elsewhere = page.matches("http").count();
        assert_eq!(
            elsewhere,
            page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count()
        );
        for fetching in ["<script", "<link", "<img", "url(", "@import", "src="] {
            assert!(!page.contains(fetching), "{fetching}");
        }
        assert_eq!(
            page.contains("keeps no histogram"),
            !has_histogram,
            "{observer}"
        );
        assert_eq!(page.contains("% clipped"), has_histogram, "{observer}");
        assert_eq!(page.contains("<polygon"), has_histogram, "{observer}");
        // Decades of counts.
        assert_eq!(page.contains("\n1000\n"), has_histogram, "{observer}");

        let picture = folder.plotted("ranges.svg");
        assert_eq!(picture.matches("<svg").count(), 1);
        assert!(picture.contains("conv_1") && picture.contains("relu_1"));
        assert_eq!(page, folder.plotted("ranges.html"), "{observer}");
    }
}

#[test]
fn names_cannot_leave_their_places() {
    let folder = Folder::new();
    let sample = npy_f32(&[0.0, 1.0]);
    let name = "<script>alert(1)</script>&\"'\n\u{ffff}";
    folder.write("x.npy", &sample);
    let arguments = [
        "x.npy",
        "--observer",
        "mse",
        "--name",
        name,
        "-o",
        "ranges.json",
    ];
    let output = folder.command(&arguments).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 3);
    for file in ["plot.html", "plot.svg"] {
        let text = folder.plotted(file);
        assert!(text.contains("&lt;script&gt;"), "{file}");
        assert!(text.contains("\\n\\u{ffff}"), "{file}");
        assert!(
            !text.contains("<script") && !text.contains('\u{ffff}'),
            "{file}"
        );
    }
}

#[test]
fn extreme_ranges_are_drawn() {
    let folder = Folder::new();
    let tiny = f32::from_bits(1);
    let next = f32::from_bits(1e30_f32.to_bits() + 1);
    for (name, values) in [
        ("a", &[0.0, 0.0][..]),
        ("b", &[tiny, -tiny]),
        ("c", &[f32::MAX, f32::MIN]),
        ("d", &[1e30, next]),
        ("e", &[f32::NAN]),
        ("f", &[-3.0, -3.0, -3.0]),
        ("g", &[tiny, f32::MAX]),
        ("h", &[]),
    ] {
        folder.write(&format!("data/{name}.npy"), &npy_f32(values));
    }
    for observer in [
        "min-max",
        "percentile --percentile 50",
        "entropy --bins 8192",
        "mse",
    ] {
        for mode in ["symmetric", "affine"] {
            folder.ranges(&format!("data --observer {observer} --mode {mode}"));
            let page = folder.plotted("plot.html");
            let sections = if observer == "min-max" { 0 } else { 8 };
            assert_eq!(page.matches("<section").count(), sections);
            assert!(!page.contains("NaN") && !page.contains("inf"), "{observer}");
            assert_eq!(page.matches("no finite value, no range").count(), 2);
            let _ = folder.plotted("plot.svg");
        }
    }
    folder.write(
        "ranges.json",
        br#"{"version": 1, "observer": {"kind": "min-max"}, "quantization":
        {"dtype": "int8", "mode": "affine", "rule": "coremltools"}, "activations": {}}"#,
    );
    assert!(
        folder
            .plotted("plot.html")
            .contains("Ranges of 0 activations")
    );
    let _ = folder.plotted("plot.svg");
}

#[test]
fn what_cannot_be_plotted_is_refused() {
    let folder = Folder::new();
    folder.write("x.npy", &npy_f32(&[0.0, 1.0]));
    folder.ranges("x.npy");
    folder.write("old.html", b"old");
    folder.write("bad.json", b"{");
    folder.write(
        "by_hand.json",
        br#"{"version": 1, "activations": {"x": {"min": 0, "max": 1}}}"#,
    );
    let before = folder.names();
    for (arguments, words) in [
        ("ranges.json -o plot.png", ".html or .svg"),
        ("ranges.json -o plot", ".html or .svg"),
        ("ranges.json -o old.html", "exists already"),
        ("ranges.json -o nowhere/plot.html", "nowhere"),
        ("old.html --force", "the output is the input itself"),
        ("none.json -o plot.html", "none.json"),
        ("bad.json -o plot.html", "bad.json"),
        ("by_hand.json -o plot.html", "by_hand.json"),
    ] {
        folder.check_refusal(&folder.plot(arguments), &[words]);
        assert_eq!(folder.names(), before);
    }
    assert_eq!(fs::read(folder.path("old.html")).unwrap(), b"old");
}
