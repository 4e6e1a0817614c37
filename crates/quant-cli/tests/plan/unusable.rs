//! Candidates that tensors cannot be: for their values, or for their shapes.

use half::f16;

use super::entry;
use super::folder::{Folder, wave};
use super::read;

/// A weight like others, and one of which a row is too small for a scale of f16.
fn with_tiny_row() -> Folder {
    let folder = Folder::new();
    let bytes = |value: &dyn Fn(usize) -> f32| -> Vec<u8> {
        let values = (0..64 * 64).map(|i| f16::from_f32(value(i)));
        values.flat_map(f16::to_le_bytes).collect()
    };
    let fine = bytes(&wave);
    let tiny = bytes(&|i| if i / 64 == 5 { 1e-7 } else { wave(i) });
    let shape = &[64, 64][..];
    folder.model(
        "t.safetensors",
        &[("fine", "F16", shape, &fine), ("tiny", "F16", shape, &tiny)],
    );
    folder
}

/// What is said on stderr, and whether the command succeeded.
fn told(folder: &Folder, line: &[&[&str]]) -> (bool, String) {
    let done = folder.quant(&line.concat());
    let told = String::from_utf8(done.stderr).unwrap();
    (done.status.success(), told)
}

#[test]
fn values_without_a_scale_are_left_in_float_and_told() {
    let folder = with_tiny_row();
    let line = ["plan", "t.safetensors", "--target-bits", "12", "-o", "p"];
    let (done, said) = told(&folder, &[&line, &["--candidates", "int8,float"]]);
    assert!(done, "{said}");
    let wanted = "`tiny` is left in float: no candidate can quantize it; int8: block [5, 0]: the values are so small that the scale underflows to 0 (F16)";
    assert!(said.contains(wanted), "{said}");
    let mut plan = read(&folder, "p");
    assert!(entry(&mut plan, "tiny")["quantize"].is_null());
    let reason = entry(&mut plan, "tiny")["reason"].to_string();
    assert!(reason.contains("underflows"), "{reason}");
    assert!(entry(&mut plan, "fine")["quantize"].is_object());

    let (done, said) = told(
        &folder,
        &[&["quantize", "t.safetensors", "--auto", "-o", "a"]],
    );
    assert!(done, "{said}");
    assert!(said.contains("`tiny`"), "{said}");

    // A scale for all of the tensor has the size of the largest row.
    let line = ["plan", "t.safetensors", "--target-bits", "8.5", "-o", "q"];
    let (done, said) = told(&folder, &[&line, &["--candidates", "int8,int8:tensor"]]);
    assert!(done, "{said}");
    let wanted = "some candidates cannot quantize `tiny`; int8: block [5, 0]:";
    assert!(said.contains(wanted), "{said}");
    assert!(entry(&mut read(&folder, "q"), "tiny")["quantize"].is_object());
}

#[test]
fn without_float_they_are_an_error_that_says_what_to_do() {
    let folder = with_tiny_row();
    let reason = "t.safetensors: tensor `tiny`: no candidate can quantize it; int8: block [5, 0]: the values are so small that the scale underflows to 0 (F16); ";
    let plan = ["plan", "t.safetensors", "--target-bits", "12", "-o", "p"];
    let add = "add float to --candidates, or leave it in float with --exclude '^tiny$'";
    let words = [reason, add];
    folder.refuses(&[&plan[..], &["--candidates", "int8"]].concat(), 1, &words);

    let words = [reason, "; leave it in float with --exclude '^tiny$'"];
    let alone = ["--candidates", "int8,float", "--include", "tiny"];
    folder.refuses(&[&plan[..], &alone].concat(), 1, &words);
    let strict = ["quantize", "t.safetensors", "--auto", "--strict", "-o", "a"];
    let words = ["no candidate can quantize `tiny`: block [5, 0]: the values are so small"];
    folder.refuses(&strict, 3, &words);
}

#[test]
fn a_candidate_that_fits_no_tensor_is_told() {
    let folder = with_tiny_row();
    let line = ["plan", "t.safetensors", "--exclude", "tiny", "-o", "p"];
    let candidates = ["--candidates", "int4:block100,int8,float"];
    let (done, said) = told(&folder, &[&line, &candidates, &["--target-bits", "9"]]);
    assert!(done, "{said}");
    let wanted = "the candidate int4:block100 fits no tensor, such as `fine`: block size 100";
    assert!(said.contains(wanted), "{said}");

    let words = ["the smallest that the candidates allow (int4:block100 fits no tensor) is 8."];
    let line = [&line[..4], &candidates, &["--target-bits", "4.5"]].concat();
    folder.refuses(&line, 2, &words);
}
