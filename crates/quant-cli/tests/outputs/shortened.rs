//! Inputs that another process shortens at any moment.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::folder::Folder;

#[test]
fn no_command_ends_with_a_signal() {
    let folder = Folder::new();
    let values: Vec<u8> = (0..64 << 20).map(|i: u32| (i % 59) as u8).collect();
    let view = safetensors::tensor::TensorView::new(
        safetensors::tensor::Dtype::F32,
        vec![4096, 4096],
        &values,
    );
    let whole = safetensors::serialize([("w", view.unwrap())], None).unwrap();
    fs::write(folder.path("m.safetensors"), &whole).unwrap();
    let mut failed = 0;
    for moment in 0..12 {
        for command in [
            &["quantize", "m.safetensors", "-o", "out", "--quiet"][..],
            &["inspect", "m.safetensors", "--values", "--json"],
            &["diff", "m.safetensors", "other.safetensors", "--json"],
        ] {
            fs::write(folder.path("m.safetensors"), &whole).unwrap();
            fs::write(folder.path("other.safetensors"), &whole).unwrap();
            let mut child = folder.command(command);
            let child = child.stdout(Stdio::null()).stderr(Stdio::piped());
            let child = child.spawn().unwrap();
            std::thread::sleep(Duration::from_millis(5 * moment));
            let file = fs::File::options()
                .write(true)
                .open(folder.path("m.safetensors"));
            file.unwrap().set_len(1 << 20).unwrap();
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            match output.status.code() {
                Some(0) => drop(fs::remove_file(folder.path("out"))),
                Some(1) => {
                    failed += 1;
                    assert_eq!(said.lines().count(), 1, "{said}");
                }
                // What diff says of models that cannot be read.
                Some(2) if command[0] == "diff" => failed += 1,
                code => panic!("{command:?} ended with {code:?}: {said}"),
            }
            assert_eq!(folder.names(""), ["m.safetensors", "other.safetensors"]);
        }
    }
    assert!(failed > 0, "no command was hit");
}
