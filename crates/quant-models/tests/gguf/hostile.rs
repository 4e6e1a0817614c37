//! Damaged files end with one line and no output.

use std::fs;
use std::path::Path;

use quant_core::GgmlType;
use quant_models::{DequantizeOptions, dequantize, diff, inspect};

use crate::{JOB, options, run};

/// A file under construction.
#[derive(Clone)]
struct File {
    version: u32,
    keys: Vec<(Vec<u8>, u32, Vec<u8>)>,
    tensors: Vec<Tensor>,
    counts: Option<(u64, u64)>,
    data: usize,
}

#[derive(Clone)]
struct Tensor {
    name: Vec<u8>,
    dims: Vec<u64>,
    kind: u32,
    offset: u64,
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat()
}

fn tensor(name: &str, dims: &[u64], kind: u32, offset: u64) -> Tensor {
    Tensor {
        name: name.into(),
        dims: dims.to_vec(),
        kind,
        offset,
    }
}

impl File {
    /// Two tensors, the first of f32 and the second in blocks.
    fn good() -> Self {
        Self {
            version: 3,
            keys: vec![
                (b"general.architecture".to_vec(), 8, text(b"llama")),
                (b"x".to_vec(), 9, array(5, 2, &[0; 8])),
            ],
            tensors: vec![
                tensor("a.weight", &[64, 48], 0, 0),
                tensor("b.weight", &[32, 4], 8, 64 * 48 * 4),
            ],
            counts: None,
            data: 64 * 48 * 4 + 4 * 34,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        let counts = (self.tensors.len() as u64, self.keys.len() as u64);
        let (tensors, keys) = self.counts.unwrap_or(counts);
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(keys.to_le_bytes());
        for (name, kind, value) in &self.keys {
            bytes.extend(text(name));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(value);
        }
        for tensor in &self.tensors {
            bytes.extend(text(&tensor.name));
            bytes.extend((tensor.dims.len() as u32).to_le_bytes());
            bytes.extend(tensor.dims.iter().flat_map(|dim| dim.to_le_bytes()));
            bytes.extend(tensor.kind.to_le_bytes());
            bytes.extend(tensor.offset.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.resize(bytes.len() + self.data, 0);
        bytes
    }

    fn with(edit: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut file = Self::good();
        edit(&mut file);
        file.bytes()
    }

    fn with_key(name: &[u8], kind: u32, value: &[u8]) -> Vec<u8> {
        Self::with(|file| file.keys.push((name.to_vec(), kind, value.to_vec())))
    }

    fn with_tensor(dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
        Self::with(|file| file.tensors.push(tensor("c.weight", dims, kind, offset)))
    }
}

fn array(kind: u32, count: u64, values: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), values].concat()
}

/// What is said of a file, by every command.
fn refused(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (folder.path().join("m.gguf"), folder.path().join("o.gguf"));
    fs::write(&model, bytes).unwrap();
    let said = inspect(&model, false).unwrap_err().to_string();
    let others = [
        run(&model, &output, &options(GgmlType::Q8_0)).map(drop),
        dequantize(&model, &output, &DequantizeOptions::default(), &JOB).map(drop),
        diff(&model, &model).map(drop),
    ];
    for other in others {
        assert_eq!(other.unwrap_err().to_string(), said);
    }
    assert!(said.contains("m.gguf") && !said.contains('\n'), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{said}");
    said
}

#[test]
fn the_good_file_is_good() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("m.gguf");
    for version in [2, 3] {
        fs::write(&model, File::with(|file| file.version = version)).unwrap();
        let output = folder.path().join("o.gguf");
        run(&model, &output, &options(GgmlType::Q8_0)).unwrap();
        assert_eq!(fs::read(&output).unwrap()[4], version as u8);
    }
    // An empty one, too.
    fs::write(&model, File::with(|file| file.tensors.clear())).unwrap();
    assert_eq!(inspect(&model, true).unwrap().tensors.len(), 0);
}

#[test]
fn files_cut_anywhere_are_refused() {
    let whole = File::good().bytes();
    for end in
        (0..whole.len()).filter(|end| *end < 50 || *end < 300 && end % 7 == 0 || end % 2999 == 0)
    {
        let said = refused(&whole[..end]);
        assert!(
            said.contains("truncated") || said.contains("empty"),
            "{end}: {said}"
        );
    }
}

#[test]
fn damaged_headers_are_refused() {
    let deep = (0..20).fold(array(0, 0, &[]), |inner, _| array(9, 1, &inner));
    let bytes_of = |value: u32| value.to_le_bytes();
    for (bytes, words) in [
        (b"GARBAGE, not a model".repeat(9), "begins with `GARBAGE"),
        (
            b"PK\x03\x04 and the rest of an archive".to_vec(),
            "zip archive",
        ),
        (
            File::with(|file| file.version = 1),
            "GGUF version 1; quant reads",
        ),
        (File::with(|file| file.version = 4), "GGUF version 4"),
        (File::with(|file| file.version = 3 << 24), "big-endian"),
        (
            File::with(|file| file.counts = Some((u64::MAX, 2))),
            "tensors, for which the file is too short",
        ),
        (
            File::with(|file| file.counts = Some((2, 1 << 40))),
            "keys of metadata, for which",
        ),
        (
            File::with_key(b"general.architecture", 8, &text(b"x")),
            "appears twice in its metadata",
        ),
        (
            File::with_key(b"y", 99, &[0; 8]),
            "the value of `y` has the unknown type 99",
        ),
        (
            File::with_key(b"y", 9, &array(13, 1, &[0; 8])),
            "unknown type 13",
        ),
        (File::with_key(b"y", 9, &array(4, u64::MAX, &[])), "values"),
        (
            File::with_key(b"y", 9, &array(8, 1 << 50, &[])),
            "too short",
        ),
        (File::with_key(b"y", 9, &deep), "arrays in each other"),
        (File::with_key(b"y", 8, &[255; 8]), "truncated"),
        (File::with_key(&[0xff, 0xfe], 4, &[0; 4]), "is not text"),
        (File::with_key(&[b'k'; 70_000], 4, &[0; 4]), "70000 bytes"),
        (
            File::with_key(b"general.alignment", 4, &bytes_of(0)),
            "no power of two",
        ),
        (
            File::with_key(b"general.alignment", 4, &bytes_of(24)),
            "is 24, no power",
        ),
        (
            File::with_key(b"general.alignment", 8, &text(b"x")),
            "no number",
        ),
        (
            File::with(|file| file.tensors[1].name = b"a.weight".to_vec()),
            "appears twice",
        ),
        (File::with_tensor(&[1; 9], 0, 0), "9 axes"),
        (File::with_tensor(&[1 << 40, 1 << 40], 0, 0), "overflows"),
        (File::with_tensor(&[u64::MAX, u64::MAX], 0, 0), "overflows"),
        (File::with_tensor(&[1 << 61], 0, 0), "overflows"),
        (File::with_tensor(&[33, 4], 8, 12_448), "rows of 33 values"),
        (File::with_tensor(&[32], 77, 0), "type 77"),
        (File::with_tensor(&[32], 4, 0), "type 4"),
        (File::with_tensor(&[32], 0, 12_290), "no multiple of 32"),
        (File::with_tensor(&[32], 0, 32), "overlaps `a.weight`"),
        (
            File::with_tensor(&[32], 0, u64::MAX - 31),
            "truncated or damaged",
        ),
        (File::with_tensor(&[32], 0, 1 << 40), "truncated or damaged"),
    ] {
        let said = refused(&bytes);
        assert!(said.contains(words), "no `{words}` in `{said}`");
    }
}

#[test]
fn what_has_no_place_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (model, output) = (
        folder.path().join("m.safetensors"),
        folder.path().join("o.gguf"),
    );
    let with = |dtype: &str, shape: &str, bytes: usize| {
        let header =
            format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{bytes}]}}}}"#);
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.bytes());
        file.resize(file.len() + bytes, 0x7f);
        fs::write(&model, file).unwrap();
        let said = run(&model, &output, &options(GgmlType::Q8_0)).unwrap_err();
        assert!(!Path::new(&output).exists());
        said.to_string()
    };
    let said = with("F8_E4M3", "[64,64]", 4096);
    assert!(
        said.contains("type F8_E4M3, for which GGUF has no place"),
        "{said}"
    );
    let said = with("F32", "[2,2,2,2,64]", 4096);
    assert!(said.contains("5 axes"), "{said}");
    let said = with("BF16", "[64,64]", 8192);
    assert!(said.contains("scale is too large for f16"), "{said}");
    let nan = with("F16", "[64,64]", 8192);
    assert!(
        nan.contains("4096 of 4096 values are NaN or Inf, the first at [0, 0]"),
        "{nan}"
    );
}
