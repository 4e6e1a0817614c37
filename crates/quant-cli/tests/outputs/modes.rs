//! Who may read an output: whom the umask and the input let.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::folder::Folder;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// All files and folders below, with the folder itself.
fn below(path: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![path.to_owned()];
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            found.extend(below(&entry.unwrap().path()));
        }
    }
    found
}

#[test]
fn outputs_are_as_open_as_umask_and_input_say() {
    let quant = env!("CARGO_BIN_EXE_quant");
    for umask in [0o000, 0o022, 0o027, 0o077] {
        // As its owner made the input: open to all, to read, to nobody.
        for (file, dir) in [
            (0o666, 0o777),
            (0o644, 0o755),
            (0o600, 0o700),
            (0o444, 0o555),
        ] {
            let folder = Folder::new();
            folder.model("m.safetensors", "w");
            folder.sharded("model", 2);
            folder.package("linear_18_f16", "m.mlpackage");
            folder.gguf("m.gguf");
            folder.core_ai("m.aimodel");
            for input in [
                "m.safetensors",
                "model",
                "m.mlpackage",
                "m.gguf",
                "m.aimodel",
            ] {
                let all = below(&folder.path(input));
                for path in all.iter().rev() {
                    set(path, if path.is_dir() { dir } else { file });
                }
            }
            let script = format!(
                "umask {umask:03o}; '{quant}' quantize m.safetensors -o one --quiet --report r.json && \
                 '{quant}' quantize model -o many --quiet && \
                 '{quant}' dequantize many -o back --quiet && \
                 '{quant}' quantize m.mlpackage -o o.mlpackage --quiet && \
                 '{quant}' quantize m.gguf -o o.gguf --quiet && \
                 '{quant}' quantize m.aimodel -o o.aimodel --dialect coreai-torch --quiet"
            );
            let status = Command::new("sh")
                .args(["-c", &script])
                .current_dir(folder.path(""))
                .status()
                .unwrap();
            assert!(status.success());
            for output in ["one", "many", "back", "o.mlpackage", "o.gguf", "o.aimodel"] {
                for path in below(&folder.path(output)) {
                    let (own, others) = match path.is_dir() {
                        true => (0o700, dir & 0o077),
                        false => (0o600, file & 0o066),
                    };
                    let wanted = own | (others & !umask);
                    let found = mode(&path);
                    assert_eq!(found, wanted, "{path:?}: {found:o}, umask {umask:o}");
                }
            }
            assert_eq!(mode(&folder.path("r.json")), 0o666 & !umask);
            for path in below(&folder.path("")) {
                if path.is_dir() {
                    set(&path, 0o700);
                }
            }
        }
    }
}
