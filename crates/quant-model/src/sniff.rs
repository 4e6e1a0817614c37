//! What a file is that is not what it should be, by its first bytes.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use crate::error::{one_line, shortened};

/// Bytes that are looked at.
pub const HEAD: usize = 1024;

/// A file of another kind: what it is, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// With its article, such as `a zip archive`.
    pub what: String,
    /// A sentence in the imperative.
    pub advice: &'static str,
}

impl Kind {
    /// Whether it stands for the file that was to be there.
    fn is_unfetched(&self) -> bool {
        let is_text = self.what.starts_with("a text file");
        !is_text && [LFS, XET, ANNEX, AGAIN].contains(&self.advice)
    }

    /// Whether its reader knows better what is wrong with it.
    fn is_only_text(&self) -> bool {
        self.what.starts_with("a text file") || self.what == JSON
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "this is {}; {}", self.what, self.advice)
    }
}

const EXPORT: &str = "give the model as .safetensors or as an .mlpackage";
const UNPACK: &str = "unpack it, and give the model inside";
const AGAIN: &str = "the download went wrong, fetch the file again";
const TORCH: &str =
    "save its tensors with safetensors.torch.save_file, and give the .safetensors file";

/// Beginnings that tell all, in the order in which they are tried.
const MAGIC: &[(&[u8], &str, &str)] = &[
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the file itself",
        LFS,
    ),
    (
        b"version http://git-media",
        "a Git LFS pointer, not the file itself",
        LFS,
    ),
    (
        b"version https://hawser",
        "a Git LFS pointer, not the file itself",
        LFS,
    ),
    (b"# xet version", "a Xet pointer, not the file itself", XET),
    (
        b"/annex/objects/",
        "a git-annex pointer, not the file itself",
        ANNEX,
    ),
    (b"GGUF", "a GGUF file", GGUF),
    (b"FUGG", "a big-endian GGUF file", BIG_ENDIAN),
    (b"lmgg", "a GGML file", GGML),
    (b"fmgg", "a GGML file", GGML),
    (b"tjgg", "a GGML file", GGML),
    (
        b"\x93NUMPY",
        "a NumPy array (.npy)",
        "save it with safetensors.numpy.save_file, and give the .safetensors file",
    ),
    (
        b"\x89HDF\r\n\x1a\n",
        "an HDF5 file, such as Keras writes",
        EXPORT,
    ),
    (b"\x1f\x8b", "a gzip archive", UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", UNPACK),
    (b"\xfd7zXZ\0", "an xz archive", UNPACK),
    (b"BZh", "a bzip2 archive", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (b"\x04\x22\x4d\x18", "an LZ4 archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (b"%PDF", "a PDF document", EXPORT),
    (b"bplist00", "an Apple property list", EXPORT),
    (b"\x89PNG", "a PNG picture", EXPORT),
    (b"\xff\xd8\xff", "a JPEG picture", EXPORT),
    (b"\x7fELF", "a program", EXPORT),
    (b"MZ\x90\0", "a program", EXPORT),
    (b"\xcf\xfa\xed\xfe", "a program", EXPORT),
];
const LFS: &str = "fetch the file itself with `git lfs pull`";
const XET: &str = "download the file itself, such as with `hf download`";
const ANNEX: &str = "fetch the file with `git annex get`";
const JSON: &str = "a JSON file";
const GGUF: &str = "it is a model of its own, give it alone";
const BIG_ENDIAN: &str = "give one made for little-endian machines";
const GGML: &str = "GGML is not read; start from the model as .safetensors";

/// What a file is, told by its beginning; `None` where it is a safetensors file, a part of a Core ML
/// package's model, or anything else that is not known.
pub fn kind(head: &[u8]) -> Option<Kind> {
    let head = &head[..head.len().min(HEAD)];
    let told = |what: &str, advice| {
        Some(Kind {
            what: what.into(),
            advice,
        })
    };
    if is_safetensors(head) {
        return None;
    }
    if let Some((_, what, advice)) = MAGIC.iter().find(|(magic, ..)| head.starts_with(magic)) {
        return told(what, advice);
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Some(archive(head));
    }
    if head.get(257..262) == Some(b"ustar") {
        return told("a tar archive", UNPACK);
    }
    if head.get(4..8) == Some(b"TFL3") {
        return told("a TensorFlow Lite model", EXPORT);
    }
    if head.get(4..8) == Some(b"\x02\0\0\0") && head.get(64..68) == Some(b"\xef\xbe\xad\xde") {
        return told(
            "a weight file of a Core ML package",
            "give the .mlpackage folder that holds it",
        );
    }
    if let Some(kind) = pickle(head).or_else(|| protobuf(head)) {
        return Some(kind);
    }
    if head.len() >= 64 && head.iter().all(|byte| *byte == 0) {
        return told("a file that begins with nothing but zeros", AGAIN);
    }
    text(head)
}

/// The text for an error: what the file is, or what is wrong with it.
pub fn explain(head: &[u8], otherwise: impl FnOnce() -> String) -> String {
    kind(head).map_or_else(otherwise, |kind| kind.to_string())
}

/// The problem of a document, or what the file is instead, if it is no JSON at all.
pub fn or(head: &[u8], problem: String) -> String {
    match head.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => "the file is empty; fetch it again".into(),
        Some(b'{' | b'[') => problem,
        Some(_) => match kind(head) {
            Some(kind) if !kind.is_only_text() => kind.to_string(),
            _ => problem,
        },
    }
}

/// The problem of a file that is no model, and what it is instead. Where it only was not fetched, that is
/// all there is to say.
pub fn instead(head: &[u8], problem: String) -> String {
    let head = &head[..head.len().min(HEAD)];
    if head.iter().all(u8::is_ascii_whitespace) {
        return "the file is empty; fetch it again".into();
    }
    match kind(head) {
        Some(kind) if kind.is_only_text() => problem,
        Some(kind) if kind.is_unfetched() => kind.to_string(),
        Some(kind) => format!("{problem}; this is {}", kind.what),
        None => problem,
    }
}

/// The same of a file that somebody else has read; one that begins with `magic` is what it should be.
pub fn instead_at(path: &Path, magic: &[u8], problem: String) -> String {
    let mut head = Vec::new();
    let is_file = fs::metadata(path).is_ok_and(|found| found.is_file());
    let file = is_file.then(|| fs::File::open(path).ok()).flatten();
    let read = file.map(|file| file.take(HEAD as u64).read_to_end(&mut head));
    match read {
        Some(Ok(0)) => format!("{problem}; the file is empty"),
        Some(Ok(_)) if magic.is_empty() || !head.starts_with(magic) => instead(&head, problem),
        _ => problem,
    }
}

/// A length that a header may have, and an object.
pub fn is_safetensors(head: &[u8]) -> bool {
    let length = head.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    length.is_some_and(|length| (2..1 << 32).contains(&length)) && head.get(8) == Some(&b'{')
}

/// A zip archive, by the name of its first member.
fn archive(head: &[u8]) -> Kind {
    let length = head
        .get(26..28)
        .map_or(0, |n| u16::from_le_bytes([n[0], n[1]]));
    let name = head
        .get(30..)
        .map_or(&[][..], |rest| &rest[..rest.len().min(length.into())]);
    let holds = |text: &[u8]| name.windows(text.len()).any(|part| part == text);
    let (what, advice) = if name.ends_with(b".pkl") || name.ends_with(b"/version") {
        ("a PyTorch checkpoint (a zip archive of a pickle)", TORCH)
    } else if name.ends_with(b".npy") {
        (
            "a NumPy archive (.npz)",
            "save its arrays with safetensors.numpy.save_file, and give the .safetensors file",
        )
    } else if holds(b".mlpackage") || name.starts_with(b"Manifest.json") {
        (
            "a zip archive of a Core ML package",
            "unpack it, and give the .mlpackage",
        )
    } else {
        ("a zip archive", UNPACK)
    };
    Kind {
        what: what.into(),
        advice,
    }
}

/// A pickle of protocol 2 or later; PyTorch's older checkpoints begin with a magic number.
fn pickle(head: &[u8]) -> Option<Kind> {
    let [0x80, 2..=5, opcode, ..] = head else {
        return None;
    };
    // A memo, a number, a string, a mark, a container, a global or a frame.
    let known = b"\x8a\x8c\x95}](cXK)Uq\x8f";
    let torch = *opcode == 0x8a;
    known.contains(opcode).then(|| Kind {
        what: match torch {
            true => "a PyTorch checkpoint (a pickle)".into(),
            false => "a Python pickle".into(),
        },
        advice: TORCH,
    })
}

/// ONNX and Core ML models begin alike, with a version and a second field: the name of the program
/// that wrote it, or the description of inputs and outputs.
fn protobuf(head: &[u8]) -> Option<Kind> {
    let [0x08, 1..=40, field, rest @ ..] = head else {
        return None;
    };
    let onnx = Kind {
        what: "an ONNX model".into(),
        advice: "ONNX is not read; start from the model as .safetensors, or convert it with coremltools",
    };
    let (length, rest) = match rest {
        [low @ 0..128, rest @ ..] => (usize::from(*low), rest),
        [low, high @ 0..128, rest @ ..] => (usize::from(low & 127) | usize::from(*high) << 7, rest),
        [_, _, _, rest @ ..] => (usize::MAX, rest),
        _ => return None,
    };
    match field {
        // A graph, or the opset.
        0x3a | 0x42 => Some(onnx),
        0x12 => {
            let value = &rest[..rest.len().min(length)];
            let is_name = value.len() == length
                && (2..128).contains(&length)
                && value.iter().all(|byte| (b' '..127).contains(byte));
            let is_description = matches!(value, [0x0a | 0x52 | 0x5a | 0xa2 | 0xaa, ..]);
            if is_name && !(value[0] == 0x52 && value.get(1) == Some(&((length - 2) as u8))) {
                return Some(onnx);
            }
            is_description.then(|| Kind {
                what: "a Core ML model (.mlmodel)".into(),
                advice: "give an .mlpackage; coremltools writes one with convert_to=\"mlprogram\"",
            })
        }
        _ => None,
    }
}

/// A page, JSON or any other text.
fn text(head: &[u8]) -> Option<Kind> {
    if let Some(text) = utf16(head) {
        return self::text(text.as_bytes());
    }
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let text = match str::from_utf8(head) {
        Ok(text) => text,
        // The last character may be cut.
        Err(error) if error.valid_up_to() + 3 >= HEAD.min(head.len()) && head.len() > 64 => {
            str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let is_text = |char: char| !char.is_control() || "\t\r\n\x0c".contains(char);
    let start = text.trim_start();
    if start.len() < 2 || !text.chars().all(is_text) {
        return None;
    }
    let lower = start
        .chars()
        .take(64)
        .collect::<String>()
        .to_ascii_lowercase();
    let begins = |words: &[&str]| words.iter().any(|word| lower.starts_with(word));
    let (what, advice) = if begins(&["<!doctype html", "<html", "<head", "<body", "<!--"]) {
        ("an HTML page".into(), AGAIN)
    } else if begins(&["<?xml", "<error"]) {
        ("an XML document".into(), AGAIN)
    } else if begins(&["{", "["]) {
        (JSON.into(), EXPORT)
    } else {
        let line = one_line(shortened(
            start.lines().next().unwrap_or_default().trim_end(),
        ));
        (format!("a text file that begins with `{line}`"), AGAIN)
    };
    Some(Kind { what, advice })
}

/// Text in UTF-16, as Windows writes it.
fn utf16(head: &[u8]) -> Option<String> {
    let unit: fn([u8; 2]) -> u16 = match head {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return None,
    };
    let units = head[2..]
        .chunks_exact(2)
        .map(|pair| unit([pair[0], pair[1]]));
    let text: Result<String, _> = char::decode_utf16(units).collect();
    text.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(head: &[u8]) -> String {
        kind(head).map_or_else(String::new, |kind| kind.to_string())
    }

    fn zip(name: &str) -> Vec<u8> {
        let mut bytes = b"PK\x03\x04\x14\0\0\0\0\0".to_vec();
        bytes.resize(26, 0);
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(name.as_bytes());
        bytes
    }

    #[test]
    fn files_are_told_by_their_beginning() {
        let mut tar = vec![0; 512];
        tar[..5].copy_from_slice(b"a.txt");
        tar[257..262].copy_from_slice(b"ustar");
        let mut blob = vec![0; 128];
        (blob[0], blob[4]) = (3, 2);
        blob[64..68].copy_from_slice(b"\xef\xbe\xad\xde");
        for (head, words) in [
            (
                &b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n"[..],
                "git lfs pull",
            ),
            (b"GGUF\x03\0\0\0", "GGUF"),
            (&zip("archive/data.pkl"), "PyTorch checkpoint"),
            (&zip("weight.npy"), ".npz"),
            (
                &zip("M.mlpackage/Manifest.json"),
                "unpack it, and give the .mlpackage",
            ),
            (&zip("notes.txt"), "this is a zip archive"),
            (b"PK\x05\x06\0\0\0\0", "zip archive"),
            (b"\n<!DOCTYPE html>\n<html>", "HTML page"),
            (b"\xef\xbb\xbf<html lang=en>", "HTML page"),
            (b"\xff\xfe<\0h\0t\0m\0l\0>\0", "HTML page"),
            (
                b"\xfe\xff\0n\0o\0t\0 \0f\0o\0u\0n\0d",
                "begins with `not found`",
            ),
            (b"<?xml version=\"1.0\"?><Error>", "XML"),
            (b"\x08\x08\x12\x07pytorch\x1a\x052.0.1:\x80\x10", "ONNX"),
            (b"\x08\x07\x3a\xff\x01\x0a\x04", "ONNX"),
            (b"\x08\x09\x12\x40\x0a\x10\x0a\x01x", ".mlpackage"),
            (b"\x08\x01\x12\x80\x02\x0a\x10\x0a\x01x", ".mlpackage"),
            (
                b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
                "PyTorch checkpoint",
            ),
            (b"\x80\x04\x95\x10\0\0\0\0\0\0\0}", "Python pickle"),
            (b"\x93NUMPY\x01\0v\0{'descr'", "NumPy array"),
            (&tar, "tar archive"),
            (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "gzip"),
            (b"{\"weight_map\": {}}", "JSON"),
            (b"[1, 2]", "JSON"),
            (b"\x89HDF\r\n\x1a\n\0", "HDF5"),
            (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
            (&blob, "weight file of a Core ML package"),
            (&[0; 100], "zeros"),
            (b"Entry not found", "begins with `Entry not found`"),
        ] {
            let told = what(head);
            assert!(told.contains(words), "no `{words}` in `{told}`");
            assert!(told.starts_with("this is "), "{told}");
        }
    }

    #[test]
    fn what_is_no_other_kind_is_not_named() {
        let mut safetensors = 40_u64.to_le_bytes().to_vec();
        safetensors.extend(b"{\"w\":{\"dtype\":\"F32\"");
        assert_eq!(what(&safetensors), "");
        for head in [
            &b""[..],
            b"\0",
            b"x",
            b"\xff\xfe\xfd",
            &[7; 50],
            &u64::MAX.to_le_bytes(),
        ] {
            assert_eq!(what(head), "", "{head:?}");
        }
    }

    /// A header of any length may begin like another format.
    #[test]
    fn safetensors_files_of_any_length_are_safetensors_files() {
        for length in (2..1 << 16).chain((2..100_000_000).step_by(997)) {
            let mut head = u64::to_le_bytes(length).to_vec();
            head.extend(b"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}");
            assert_eq!(kind(&head), None, "{length}");
        }
    }

    #[test]
    fn no_beginning_is_too_much() {
        let mut state = 1_u64;
        for round in 0..20_000 {
            let mut head = [0_u8; 24];
            for byte in &mut head {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                *byte = (state >> 33) as u8;
            }
            head[0] = [0x08, 0x80, b'P', b'{'][round % 4];
            head[1] %= 12;
            if round % 3 == 0 {
                head[2] = 0x12;
            }
            for end in 0..head.len() {
                let _ = what(&head[..end]);
            }
        }
    }
}
