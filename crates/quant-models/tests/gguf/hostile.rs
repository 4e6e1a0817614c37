//! Damaged files end with one line and no output: what ggml's reader refuses (`gguf_init_from_file` and
//! llama.cpp's check that tensors lie in the file), and nothing that it loads.

use std::fs;
use std::path::Path;

use quant_core::GgmlType;
use quant_models::{
    DequantizeOptions, Encoding, Grouping, QuantizeOptions, convert, dequantize, diff, inspect,
    quantize,
};

use crate::{JOB, options, run};

/// A file under construction.
#[derive(Clone)]
struct File {
    version: u32,
    keys: Vec<(Vec<u8>, u32, Vec<u8>)>,
    tensors: Vec<Tensor>,
    counts: Option<(u64, u64)>,
    alignment: usize,
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
            alignment: 32,
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
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
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

    fn with_name(name: &str) -> Vec<u8> {
        Self::with(|file| file.tensors[1].name = name.into())
    }

    /// Its last tensor is followed by one that begins where it ends.
    fn with_alignment(alignment: u32) -> Vec<u8> {
        Self::with(|file| {
            let key = b"general.alignment".to_vec();
            file.keys.push((key, 4, alignment.to_le_bytes().to_vec()));
            file.alignment = alignment as usize;
            file.data = file.data.next_multiple_of(file.alignment);
            let next = tensor("c.weight", &[3], 0, file.data as u64);
            file.tensors.push(next);
            file.data += 12;
        })
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

/// What is said of a file that is read, written and restored by every command, with the same tensors.
fn warned(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let [model, output, floats] =
        ["m.gguf", "o.gguf", "f.gguf"].map(|name| folder.path().join(name));
    fs::write(&model, bytes).unwrap();
    let tensors = |path: &Path| {
        let found = inspect(path, true).unwrap().tensors.into_iter();
        found.map(|it| (it.name, it.shape)).collect::<Vec<_>>()
    };
    let report = run(&model, &output, &options(GgmlType::Q8_0)).unwrap();
    assert_eq!(tensors(&model), tensors(&output));
    assert!(diff(&model, &model).unwrap().equal);
    dequantize(&output, &floats, &DequantizeOptions::default(), &JOB).unwrap();
    assert_eq!(tensors(&model), tensors(&floats));
    let told: Vec<_> = report.warnings.iter().map(ToString::to_string).collect();
    told.join("; ")
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
fn any_power_of_two_aligns_as_ggml_loads_it() {
    for alignment in [1, 2, 4, 8, 32, 1 << 12] {
        assert_eq!(warned(&File::with_alignment(alignment)), "", "{alignment}");
    }
}

#[test]
fn names_of_no_bytes_and_of_63_are_read_as_ggml_loads_them() {
    for name in ["", &"n".repeat(63)] {
        assert_eq!(warned(&File::with_name(name)), "");
    }
}

#[test]
fn tensors_of_no_axes_and_of_no_elements_are_read_as_ggml_loads_them() {
    for dims in [&[][..], &[0], &[0, 5], &[32, 0], &[32, 0, 1 << 50]] {
        let kind = if dims.first() == Some(&32) { 8 } else { 0 };
        let bytes = File::with(|file| {
            file.data = 12_448;
            file.tensors.push(tensor("c.weight", dims, kind, 12_448));
            // One behind it, where it ends.
            let end = if dims.is_empty() { 12_480 } else { 12_448 };
            file.tensors.push(tensor("d.weight", &[2], 0, end));
            file.data = end as usize + 8;
        });
        assert_eq!(warned(&bytes), "", "{dims:?}");
    }
}

#[test]
fn a_bool_of_7_is_read_as_ggml_loads_it() {
    assert_eq!(warned(&File::with_key(b"y", 7, &[7])), "");
    assert_eq!(
        warned(&File::with_key(b"y", 9, &array(7, 2, &[7, 255]))),
        ""
    );
}

#[test]
fn data_may_end_before_or_behind_its_filling_as_llama_cpp_loads_it() {
    for more in [0, 1, 23, 24, 25, 4096] {
        assert_eq!(warned(&File::with(|file| file.data += more)), "", "{more}");
    }
}

#[test]
fn names_of_127_bytes_and_five_axes_are_read_as_comfyui_gguf_loads_them() {
    let long = warned(&File::with_name(&"n".repeat(127)));
    assert!(
        long.contains("has a name of 127 bytes; ggml reads up to 63"),
        "{long}"
    );
    let axes = File::with(|file| file.tensors[1].dims = vec![32, 2, 1, 1, 2]);
    let said = warned(&axes);
    assert_eq!(said, "`b.weight` has 5 axes; ggml reads up to 4");
    // Loaders of such a family were built for it.
    let video = File::with(|file| {
        file.tensors[1].dims = vec![32, 2, 1, 1, 2];
        file.keys[0].2 = text(b"wan");
    });
    assert_eq!(warned(&video), "");
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
    let nested = array(9, 1, &array(0, 0, &[]));
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
            File::with_key(b"y", 9, &array(8, 1 << 20, &[])),
            "too short",
        ),
        (
            File::with_key(b"y", 9, &nested),
            "`y` is an array of arrays, which ggml",
        ),
        (
            File::with_key(b"", 4, &[0; 4]),
            "a key of its metadata is empty",
        ),
        (
            File::with_key(b"y", 8, &[255; 8]),
            "a text of 18446744073709551615 bytes",
        ),
        (
            File::with_key(b"y", 8, &[9, 9, 9, 9, 0, 0, 0, 0]),
            "truncated",
        ),
        (File::with_key(&[0xff, 0xfe], 4, &[0; 4]), "is not text"),
        (File::with_key(&[b'k'; 70_000], 4, &[0; 4]), "70000 bytes"),
        (
            File::with_key(b"general.alignment", 4, &bytes_of(0)),
            "is 0, no power of two",
        ),
        (
            File::with_key(b"general.alignment", 4, &bytes_of(24)),
            "is 24, no power",
        ),
        (
            File::with_key(b"general.alignment", 4, &bytes_of(1 << 21)),
            "is 2097152, no power",
        ),
        (
            File::with_key(b"general.alignment", 8, &text(b"x")),
            "`general.alignment` is of type string, and must be u32",
        ),
        (
            File::with_key(b"general.alignment", 10, &32_u64.to_le_bytes()),
            "`general.alignment` is of type u64, and must be u32",
        ),
        (
            File::with_key(b"general.alignment", 0, &[32]),
            "of type u8,",
        ),
        (
            File::with_key(b"general.alignment", 5, &bytes_of(32)),
            "of type i32,",
        ),
        (
            File::with(|file| file.tensors[1].name = b"a.weight".to_vec()),
            "appears twice",
        ),
        (
            File::with_name(&"n".repeat(128)),
            "its name has 128 bytes, more than the 127",
        ),
        (
            File::with_tensor(&[1; 6], 0, 12_448),
            "tensor `c.weight`: has 6 axes, more than the 5",
        ),
        (File::with_tensor(&[0, u64::MAX], 0, 12_448), "overflows"),
        (File::with_tensor(&[1 << 40, 1 << 40], 0, 0), "overflows"),
        (File::with_tensor(&[u64::MAX, u64::MAX], 0, 0), "overflows"),
        (File::with_tensor(&[1 << 61], 0, 0), "overflows"),
        (File::with_tensor(&[33, 4], 8, 12_448), "rows of 33 values"),
        (File::with_tensor(&[32], 77, 0), "type 77"),
        (File::with_tensor(&[32], 4, 0), "type 4"),
        (
            File::with_tensor(&[32], 0, 12_290),
            "begins at byte 12290 in place of 12448, so it overlaps",
        ),
        (
            File::with_tensor(&[32], 0, 32),
            "overlaps the tensor before",
        ),
        (
            File::with_tensor(&[32], 0, 12_480),
            "begins at byte 12480 in place of 12448, so it leaves a hole behind",
        ),
        (File::with_tensor(&[32], 0, u64::MAX - 31), "leaves a hole"),
        (
            File::with(|file| file.tensors.remove(0).offset = 0),
            "begins at byte 12288 in place of 0",
        ),
        (File::with(|file| file.tensors.swap(0, 1)), "in place of 0"),
        (
            File::with_tensor(&[1 << 20], 0, 12_448),
            "its 4194304 bytes of data begin at byte 12448 of 12424; the file is truncated",
        ),
    ] {
        let said = refused(&bytes);
        assert!(said.contains(words), "no `{words}` in `{said}`");
    }
}

/// A matrix that is quantized, and a tensor of 64 values that is not.
fn write_f16(path: &Path, name: &str, shape: &str) {
    let entry = |name: &str, shape: &str, start: usize, end: usize| {
        format!(r#""{name}":{{"dtype":"F16","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    };
    let matrix = entry("w", "[48,64]", 0, 6144);
    let header = format!("{{{matrix},{}}}", entry(name, shape, 6144, 6272));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend([0x12, 0x34, 0x56, 0x38].repeat(6272 / 4));
    fs::write(path, file).unwrap();
}

/// Names and axes that the reader refuses are not written, from any format.
#[test]
fn what_could_not_be_read_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let [float, native, output] =
        ["m.safetensors", "n.safetensors", "o.gguf"].map(|name| folder.path().join(name));
    let in_blocks = QuantizeOptions::default().with_granularity(Grouping::PerBlock {
        axis: None,
        block_axis: None,
        block_size: 32,
    });
    for (name, shape, words) in [
        ("n".repeat(128), "[64]", "its name has 128 bytes"),
        (
            "n".to_string(),
            "[1,1,1,1,64]",
            "has 5 axes, more than the 4",
        ),
        ("n".repeat(127), "[1,1,64]", ""),
    ] {
        write_f16(&float, &name, shape);
        quantize(&float, &native, &in_blocks, &JOB).unwrap();
        let results = [
            run(&float, &output, &options(GgmlType::Q8_0)).map(|it| format!("{:?}", it.warnings)),
            convert(
                &native,
                &output,
                Encoding::Gguf,
                &DequantizeOptions::default(),
                &JOB,
            )
            .map(|it| format!("{:?}", it.warnings)),
        ];
        for result in results {
            match result {
                Ok(warnings) => assert!(words.is_empty() && warnings.contains("127 bytes")),
                Err(error) => {
                    let said = error.to_string();
                    assert!(!words.is_empty() && said.contains(words), "{said}");
                    assert!(said.contains("safetensors") && !output.exists(), "{said}");
                }
            }
        }
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
