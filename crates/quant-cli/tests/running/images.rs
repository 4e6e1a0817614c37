//! Images as inputs.

use std::fs;

use quant_run::read_arrays;

use super::{Room, json, model};

/// What torch made of the same pixels; see `models/make.py`.
fn expected(name: &str) -> Vec<f32> {
    let arrays = read_arrays(model(&format!("{name}.npy")).as_ref()).unwrap();
    arrays[0].1.floats().unwrap().to_vec()
}

#[test]
fn images_come_as_the_model_declares_them() {
    let room = Room::new();
    let photo = model("photo0.png");
    for name in ["rgb", "bgr", "gray"] {
        let package = model(&format!("{name}.mlpackage"));
        let input = format!("image={photo}");
        room.done(&["run", &package, "-i", &input, "-o", "y.npy", "--force"]);
        let found = read_arrays(&room.path("y.npy")).unwrap();
        let found = found[0].1.floats().unwrap();
        for (x, y) in found.iter().zip(expected(name)) {
            assert!((x - y).abs() < 1e-6, "{name}: {found:?}");
        }
    }
    let none = ["run", &model("rgb.mlpackage"), "-i"];
    let wrong = format!("x={photo}");
    let wrong = [&none[..], &[&wrong, "-o", "z.npy"]].concat();
    room.refuses(&wrong, &["photo0.png", "no input `x`", "image"]);
    let tensor = ["run", &model("sum.mlpackage"), "-i", &photo, "-o", "z.npy"];
    room.refuses(&tensor, &["photo0.png", "declares `x` as a tensor"]);
    // Nor does it wait for what a pipe or a device may send.
    std::os::unix::fs::symlink("/dev/null", room.path("null.png")).unwrap();
    let device = [&none[..], &["null.png", "-o", "z.npy"]].concat();
    room.refuses(&device, &["null.png", "not a file"]);
}

#[test]
fn folders_of_photos_are_samples() {
    let room = Room::new();
    let package = model("rgb.mlpackage");
    fs::create_dir(room.path("photos")).unwrap();
    for i in 0..3 {
        let photo = format!("photo{i}.png");
        fs::copy(model(&photo), room.path(&format!("photos/{photo}"))).unwrap();
    }
    fs::write(room.path("photos/.DS_Store"), "x").unwrap();
    fs::write(room.path("photos/notes.txt"), "x").unwrap();
    let calibrate = |samples: &str, output: &str, more: &[&str]| {
        let common = ["calibrate", &package, "--samples", samples, "-o", output];
        room.quant(&[&common[..], more].concat())
    };
    let output = calibrate("photos", "r.json", &[]);
    assert!(output.status.success());
    let warnings = String::from_utf8(output.stderr).unwrap();
    assert!(
        warnings.contains("notes.txt")
            && warnings.contains("1 file ")
            && !warnings.contains("another size"),
        "{warnings}"
    );
    let found = json(&room, "r.json");
    let found = found["activations"].as_object().unwrap();
    assert!(!found.is_empty());
    assert!(
        found.values().all(|range| range["samples"] == 3),
        "{found:?}"
    );
    let same = ["evaluate", &package, &package, "--samples", "photos"];
    assert!(room.done(&same).contains("3 samples"));

    // A larger one is scaled, and that is said.
    let wide = image::RgbImage::from_pixel(40, 12, image::Rgb([9, 8, 7]));
    wide.save(room.path("photos/wide.jpg")).unwrap();
    let output = calibrate("photos", "s.json", &[]);
    let warnings = String::from_utf8(output.stderr).unwrap();
    assert!(warnings.contains("1 of 4 images"), "{warnings}");
    let exact = calibrate("photos", "t.json", &["--image-fit", "exact"]);
    let error = String::from_utf8(exact.stderr).unwrap();
    assert_eq!(exact.status.code(), Some(1));
    assert!(
        error.contains("wide.jpg") && error.contains("40 x 12"),
        "{error}"
    );
    assert!(
        error.contains("8 x 6") && !room.path("t.json").exists(),
        "{error}"
    );

    fs::create_dir(room.path("bad")).unwrap();
    let whole = fs::read(model("photo0.png")).unwrap();
    fs::write(room.path("bad/half.png"), &whole[..whole.len() / 2]).unwrap();
    let bad = ["calibrate", &package, "--samples", "bad", "-o", "t.json"];
    room.refuses(&bad, &["half.png", "damaged image"]);
}
