//! A folder of models, and the command at work there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::tensor::{Dtype, TensorView};
use tempfile::TempDir;

#[path = "../kept/mod.rs"]
mod kept;

pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub fn link(&self, to: &str, name: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(to, path).unwrap();
    }

    /// A file of one tensor of 64 x 96.
    pub fn model(&self, name: &str, tensor: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let values = (0..64 * 96).map(|i| ((i * 7919) % 1009) as f32 / 500.0 - 1.0);
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        let view = TensorView::new(Dtype::F32, vec![64, 96], &bytes).unwrap();
        fs::write(
            path,
            safetensors::serialize([(tensor, view)], None).unwrap(),
        )
        .unwrap();
    }

    /// A folder of an index, shards and a configuration.
    pub fn sharded(&self, name: &str, shards: usize) {
        let mut map = BTreeMap::new();
        for i in 0..shards {
            let (file, tensor) = (format!("{i:03}.safetensors"), format!("w{i}"));
            self.model(&format!("{name}/{file}"), &tensor);
            map.insert(tensor, file);
        }
        let index = serde_json::json!({"metadata": {"total_size": 0}, "weight_map": map});
        self.file(
            &format!("{name}/model.safetensors.index.json"),
            &index.to_string(),
        );
        self.file(&format!("{name}/config.json"), "{}");
    }

    /// A package with weights, and one with activations that need ranges.
    pub fn package(&self, fixture: &str, name: &str) {
        let from = fixtures().join(format!("{fixture}.mlpackage"));
        copy(&from, &self.path(name));
    }

    /// A Core AI model.
    pub fn core_ai(&self, name: &str) {
        let from = fixtures().join("../../coreai/models/uint4/float.aimodel");
        copy(&from, &self.path(name));
    }

    /// A GGUF file of floats.
    pub fn gguf(&self, name: &str) {
        fs::copy(
            fixtures().join("../../gguf/models/llm.gguf"),
            self.path(name),
        )
        .unwrap();
    }

    /// `ranges.json` of a fixture.
    pub fn ranges(&self, fixture: &str) {
        let expected = fixtures().join("../expected_activations.json");
        let expected: serde_json::Value =
            serde_json::from_slice(&fs::read(expected).unwrap()).unwrap();
        self.file("ranges.json", &expected["ranges"][fixture].to_string());
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quant"));
        command.args(arguments).current_dir(self.0.path());
        command
    }

    pub fn quant(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        if output.status.success() {
            kept::keep(self.0.path(), arguments);
        }
        output
    }

    pub fn succeeds(&self, arguments: &[&str]) -> (String, String) {
        let output = self.quant(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        (String::from_utf8(output.stdout).unwrap(), stderr)
    }

    /// One line, and every byte of the folder as it was.
    pub fn refuses(&self, arguments: &[&str], words: &[&str]) {
        self.refused(arguments, words);
    }

    /// The same; what it said.
    pub fn refused(&self, arguments: &[&str], words: &[&str]) -> String {
        let before = self.tree();
        let output = self.quant(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        for word in words {
            assert!(
                stderr.contains(word),
                "{arguments:?}: no `{word}` in {stderr}"
            );
        }
        assert!(self.tree() == before, "{arguments:?} has changed something");
        stderr
    }

    /// Everything in the folder: what each file holds and where each link leads.
    pub fn tree(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        walk(self.0.path(), &mut found);
        found
    }

    pub fn names(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../quant-models/tests/coreml/packages")
}

fn walk(path: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let (kind, path) = (entry.file_type().unwrap(), entry.path());
        if kind.is_symlink() {
            let to = fs::read_link(&path).unwrap();
            found.insert(path, to.into_os_string().into_encoded_bytes());
        } else if kind.is_dir() {
            walk(&path, found);
            found.insert(path, Vec::new());
        } else {
            let content = fs::read(&path).unwrap();
            found.insert(path, content);
        }
    }
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => {
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }
}
