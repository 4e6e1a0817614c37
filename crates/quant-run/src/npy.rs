//! NumPy's npy arrays.
//!
//! Read here and not by a crate: a header comes from anywhere, and may nest or claim what it likes.

use std::io::{Read, Write};

use half::f16;

use crate::Tensor;
use crate::index::permute;
use crate::tensor::{Values, count, map_values};

pub(crate) const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// Reads an array.
///
/// # Errors
/// What is wrong with it, in words: no npy array, truncated, or of a type that is no number.
///
/// ```
/// use quant_run::{Tensor, read_npy, write_npy};
///
/// let tensor = Tensor::from_floats(&[1, 2], vec![1.0, -0.5])?;
/// let again = read_npy(&write_npy(&tensor)?).unwrap();
/// assert_eq!(again.floats(), tensor.floats());
/// # Ok::<(), quant_run::Error>(())
/// ```
pub fn read_npy(bytes: &[u8]) -> Result<Tensor, String> {
    let start = bytes.strip_prefix(MAGIC);
    let start = start.ok_or("not an npy array: it does not begin with \\x93NUMPY")?;
    let truncated = "ends inside the header of an array; it is truncated";
    let (len, rest) = match *start {
        [1, _, a, b, ref rest @ ..] => (u32::from(u16::from_le_bytes([a, b])), rest),
        [2 | 3, _, a, b, c, d, ref rest @ ..] => (u32::from_le_bytes([a, b, c, d]), rest),
        [1..=3, ..] => return Err(truncated.into()),
        [version, ..] => {
            return Err(format!("version {version} of npy, where 1 to 3 are known"));
        }
        [] => return Err(truncated.into()),
    };
    let (header, data) = rest.split_at_checked(len as usize).ok_or(truncated)?;
    let header = std::str::from_utf8(header).map_err(|_| "a header that is no text")?;
    let kind = quoted(header, "descr").ok_or("a header without a type of elements")?;
    let fortran = value_of(header, "fortran_order").is_some_and(|text| text.starts_with("True"));
    let shape = shape_of(header).ok_or("a header without a shape")?;
    let elements = count(&shape).ok_or("a shape that overflows")?;
    let values = decode(kind, data, elements)?;
    let tensor = match fortran && shape.len() > 1 {
        false => Tensor::new(shape, values),
        true => {
            let turned: Vec<usize> = shape.iter().rev().copied().collect();
            let order: Vec<usize> = (0..shape.len()).rev().collect();
            Tensor::new(
                shape,
                map_values!(&values, v => permute(v, &turned, &order))?,
            )
        }
    };
    Ok(tensor)
}

/// The bytes of one array from a stream, which may go on after it.
pub(crate) fn read_one(input: &mut dyn Read, most: u64) -> Result<Vec<u8>, String> {
    let ended = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the stream ends inside an array".into(),
        _ => error.to_string(),
    };
    let mut bytes = vec![0; 8];
    input.read_exact(&mut bytes).map_err(ended)?;
    if !bytes.starts_with(MAGIC) {
        return Err("not an npy array: it does not begin with \\x93NUMPY".into());
    }
    let width = if bytes[6] == 1 { 2 } else { 4 };
    bytes.resize(8 + width, 0);
    input.read_exact(&mut bytes[8..]).map_err(ended)?;
    let mut len = [0; 4];
    len[..width].copy_from_slice(&bytes[8..]);
    let len = u64::from(u32::from_le_bytes(len));
    let too_many = || "more bytes than a sample may have".to_string();
    if len > most {
        return Err(too_many());
    }
    append(input, &mut bytes, len).map_err(ended)?;
    let header =
        std::str::from_utf8(&bytes[8 + width..]).map_err(|_| "a header that is no text")?;
    let kind = quoted(header, "descr").ok_or("a header without a type of elements")?;
    let size: Option<u64> = kind.get(2..).and_then(|size| size.parse().ok());
    let shape = shape_of(header).ok_or("a header without a shape")?;
    let elements = count(&shape).ok_or("a shape that overflows")? as u64;
    let size = size.ok_or_else(|| format!("elements of type `{kind}`"))?;
    let data = elements.checked_mul(size).filter(|&data| data <= most);
    append(input, &mut bytes, data.ok_or_else(too_many)?).map_err(ended)?;
    Ok(bytes)
}

/// Reads exactly so many bytes more; what a header claims takes memory only as far as it comes.
fn append(input: &mut dyn Read, bytes: &mut Vec<u8>, more: u64) -> std::io::Result<()> {
    match input.take(more).read_to_end(bytes)? as u64 == more {
        true => Ok(()),
        false => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

/// What follows a key of the header's dictionary.
fn value_of<'h>(header: &'h str, key: &str) -> Option<&'h str> {
    let at = [format!("'{key}'"), format!("\"{key}\"")];
    let rest = at.iter().find_map(|key| header.split_once(key.as_str()))?.1;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

fn quoted<'h>(header: &'h str, key: &str) -> Option<&'h str> {
    let value = value_of(header, key)?;
    let quote = value
        .chars()
        .next()
        .filter(|&quote| quote == '\'' || quote == '"')?;
    value[1..].split_once(quote).map(|(text, _)| text)
}

fn shape_of(header: &str) -> Option<Vec<usize>> {
    let (inside, _) = value_of(header, "shape")?
        .strip_prefix('(')?
        .split_once(')')?;
    let dims = inside
        .split(',')
        .map(str::trim)
        .filter(|dim| !dim.is_empty());
    let dims: Result<Vec<usize>, _> = dims.map(str::parse).collect();
    dims.ok().filter(|dims| dims.len() <= 32)
}

fn decode(kind: &str, data: &[u8], elements: usize) -> Result<Values, String> {
    let unknown =
        || format!("elements of type `{kind}`; floats, integers and truth values are understood");
    if !kind.is_ascii() || kind.len() < 2 {
        return Err(unknown());
    }
    let (order, kind) = kind.split_at(1);
    let big = order == ">";
    let size: usize = kind[1..].parse().map_err(|_| unknown())?;
    if !(1..=8).contains(&size) {
        return Err(unknown());
    }
    let needed = elements.checked_mul(size).ok_or("a shape that overflows")?;
    let data = data.get(..needed).ok_or_else(|| {
        let have = data.len();
        format!("{have} bytes of values, where its shape takes {needed}; it is truncated")
    })?;
    let words = data.chunks_exact(size).map(|bytes| {
        let mut word = [0_u8; 8];
        word[..size].copy_from_slice(bytes);
        if big {
            word[..size].reverse();
        }
        u64::from_le_bytes(word)
    });
    let shift = 64 - 8 * size;
    let signed = |word: u64| ((word << shift) as i64) >> shift;
    Ok(match &kind[..1] {
        "f" if size == 2 => words
            .map(|w| f16::from_bits(w as u16).to_f32())
            .collect::<Vec<_>>()
            .into(),
        "f" if size == 4 => words
            .map(|w| f32::from_bits(w as u32))
            .collect::<Vec<_>>()
            .into(),
        "f" if size == 8 => words
            .map(|w| f64::from_bits(w) as f32)
            .collect::<Vec<_>>()
            .into(),
        "b" => words.map(|w| w != 0).collect::<Vec<_>>().into(),
        "i" => {
            let values = words.map(|w| i32::try_from(signed(w)));
            let values: Result<Vec<_>, _> = values.collect();
            values
                .map_err(|_| "an integer that int32 cannot hold")?
                .into()
        }
        "u" => {
            let values: Result<Vec<_>, _> = words.map(i32::try_from).collect();
            values
                .map_err(|_| "an integer that int32 cannot hold")?
                .into()
        }
        _ => return Err(unknown()),
    })
}

/// A tensor as an npy array: float32, int32 or truth values.
///
/// # Errors
/// A tensor of texts.
pub fn write_npy(tensor: &Tensor) -> Result<Vec<u8>, crate::Error> {
    let mut out = Vec::new();
    let done = npy_to(tensor, &mut out);
    done.map_err(|error| crate::Error::Value(error.to_string()))?;
    Ok(out)
}

/// The same, to where it is wanted: large tensors are not held twice.
///
/// ```
/// use quant_run::{Tensor, npy_to, write_npy};
///
/// let tensor = Tensor::from_floats(&[2], vec![0.5, 1.0])?;
/// let mut out = Vec::new();
/// npy_to(&tensor, &mut out).expect("memory");
/// assert_eq!(out, write_npy(&tensor)?);
/// # Ok::<(), quant_run::Error>(())
/// ```
///
/// # Errors
/// What `out` says; [`InvalidData`](std::io::ErrorKind::InvalidData) for a tensor of texts.
pub fn npy_to(tensor: &Tensor, out: &mut impl Write) -> std::io::Result<()> {
    let kind = match &tensor.values {
        Values::Float(_) => "<f4",
        Values::Int(_) => "<i4",
        Values::Bool(_) => "|b1",
        Values::Text(_) => {
            let kind = std::io::ErrorKind::InvalidData;
            return Err(std::io::Error::new(kind, "texts cannot be written"));
        }
    };
    let dims: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
    let comma = if dims.len() == 1 { "," } else { "" };
    let dims = dims.join(", ");
    let mut header =
        format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({dims}{comma}), }}");
    // Magic, version, length, header and the end of its line: a multiple of 64.
    let len = (10 + header.len() + 1).next_multiple_of(64) - 10;
    header.extend(std::iter::repeat_n(' ', len - 1 - header.len()));
    header.push('\n');
    out.write_all(MAGIC)?;
    out.write_all(&[1, 0])?;
    out.write_all(&(len as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    match &tensor.values {
        Values::Float(values) => by_pieces(values, |value| value.to_le_bytes(), out),
        Values::Int(values) => by_pieces(values, |value| value.to_le_bytes(), out),
        Values::Bool(values) => by_pieces(values, |value| [u8::from(value)], out),
        Values::Text(_) => Ok(()),
    }
}

fn by_pieces<T: Copy, const BYTES: usize>(
    values: &[T],
    bytes: impl Fn(T) -> [u8; BYTES],
    out: &mut impl Write,
) -> std::io::Result<()> {
    for piece in values.chunks(1 << 14) {
        let piece: Vec<[u8; BYTES]> = piece.iter().map(|&value| bytes(value)).collect();
        out.write_all(piece.as_flattened())?;
    }
    Ok(())
}
