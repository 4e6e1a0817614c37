//! What killed runs leave.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::folder::Folder;

/// A killed run's temporary files are removed by the next one, and those of a run at work are not.
#[test]
fn a_killed_run_is_cleaned_up_after() {
    let folder = Folder::new();
    folder.sharded("model", 300);
    folder.package("linear_18_f16", "m.mlpackage");
    let begin = || {
        // Until there is something to see.
        let mut arguments = folder.command(&["quantize", "model", "-o", "out", "--quiet"]);
        arguments.stderr(Stdio::null()).spawn().unwrap()
    };
    let temporary = || {
        let mut names = folder.names("");
        names.retain(|name| name.starts_with(".quant-"));
        names
    };
    let mut killed = 0;
    let begun = Instant::now();
    while killed < 2 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no run was hit");
        let mut child = begin();
        while temporary().len() <= killed && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        if ended.success() {
            std::fs::remove_dir_all(folder.path("out")).unwrap();
        }
        // The second one has cleaned up after the first.
        killed = match temporary().len() {
            0 => 0,
            _ => killed + 1,
        };
        if killed > 0 {
            break;
        }
    }
    let left = temporary();
    assert_eq!(left.len(), 1, "{left:?}");
    let (_, said) = folder.succeeds(&["quantize", "m.mlpackage", "-o", "o.mlpackage"]);
    assert!(
        said.contains(&left[0]) && said.contains("removed"),
        "{said}"
    );
    assert!(temporary().is_empty());
    let (_, said) = folder.succeeds(&["quantize", "m.mlpackage", "-o", "p.mlpackage"]);
    assert!(!said.contains(".quant-"), "{said}");
}

/// What a run left that was ended between two steps of a replacement may be all that there is.
#[test]
fn a_whole_model_is_never_cleaned_up() {
    let folder = Folder::new();
    folder.sharded("model", 1);
    folder.file("gone", "");
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let owner = child.id();
    child.wait().unwrap();
    let name = format!(".quant-whole-{owner}-0000000000000001-0");
    folder.file(&format!("{name}/model.safetensors"), "the only one");
    let (_, said) = folder.succeeds(&["quantize", "model"]);
    assert!(
        said.contains(&name) && said.contains("keep it or remove it"),
        "{said}"
    );
    assert!(folder.path(&name).join("model.safetensors").is_file());
}
