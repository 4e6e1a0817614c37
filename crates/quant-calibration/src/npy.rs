//! Headers of npy arrays, from a file or a stream.
//!
//! Read here and not by a crate: a header comes from anywhere, may claim any length, and nests as
//! deep as it likes in what a parser of Python literals takes.

use std::io::{self, Read};

use super::values::{Encoding, Float};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Buffer for 32 axes, which is as many as NumPy knew, many times over.
const LONGEST_HEADER: usize = 65_536;

/// Why there is no header.
#[derive(Debug)]
pub enum NpyError {
    /// The operating system's.
    Io(io::Error),
    /// The array's, in words.
    Array(String),
}

impl From<&str> for NpyError {
    fn from(problem: &str) -> Self {
        Self::Array(problem.into())
    }
}

/// The type of an array's values.
#[derive(Clone, Debug, PartialEq)]
enum Type {
    Float(Encoding),
    /// Integers or truth values: the type's name, as safetensors has it, and bytes of each.
    Other(&'static str, u64),
}

impl Type {
    fn size(&self) -> u64 {
        match self {
            Self::Float(encoding) => encoding.size() as u64,
            Self::Other(_, size) => *size,
        }
    }
}

/// What an array holds. In which order of its axes does not matter to an observer of all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    dtype: Type,
    pub elements: u64,
    /// Of the header itself.
    pub bytes: u64,
}

impl Header {
    /// Reads up to the first value. `None` where the stream is at its end.
    pub fn read(stream: &mut impl Read) -> Result<Option<Self>, NpyError> {
        let mut start = [0; 8];
        match fill(stream, &mut start)? {
            0 => return Ok(None),
            got if start[..got.min(6)] != MAGIC[..got.min(6)] => {
                return Err(other_kind(&start[..got]));
            }
            8 => {}
            _ => return Err("ends inside the header of an array; it is truncated".into()),
        }
        let width = match start[6] {
            1 => 2,
            2 | 3 => 4,
            version => {
                let problem = format!("version {version} of npy, where 1 to 3 are known");
                return Err(NpyError::Array(problem));
            }
        };
        let mut length = [0; 4];
        exact(stream, &mut length[..width])?;
        let length = u32::from_le_bytes(length) as usize;
        if length > LONGEST_HEADER {
            let problem = format!("a header of {length} bytes; the array is damaged");
            return Err(NpyError::Array(problem));
        }
        let mut text = vec![0; length];
        exact(stream, &mut text)?;
        let text = str::from_utf8(&text).map_err(|_| "a header that is not text")?;
        let (dtype, elements) = parse(text).map_err(NpyError::Array)?;
        Ok(Some(Self {
            dtype,
            elements,
            bytes: (8 + width + length) as u64,
        }))
    }

    /// Bytes of all values.
    pub fn data_bytes(&self) -> u64 {
        self.elements * self.dtype.size()
    }

    /// How its floats are stored, or the name of the type that it has instead.
    pub fn encoding(&self) -> Result<Encoding, &'static str> {
        match self.dtype {
            Type::Float(encoding) => Ok(encoding),
            Type::Other(name, _) => Err(name),
        }
    }
}

/// What begins like this instead.
fn other_kind(start: &[u8]) -> NpyError {
    NpyError::Array(match start.starts_with(b"PK") {
        true => "not an npy array: it begins like an npz archive; give that as a file whose name ends in .npz".into(),
        false => "not an npy array: it does not begin with \\x93NUMPY".into(),
    })
}

fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> Result<usize, NpyError> {
    let mut got = 0;
    while got < buffer.len() {
        match stream.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(NpyError::Io(error)),
        }
    }
    Ok(got)
}

fn exact(stream: &mut impl Read, buffer: &mut [u8]) -> Result<(), NpyError> {
    match fill(stream, buffer)? == buffer.len() {
        true => Ok(()),
        false => Err("ends inside the header of an array; it is truncated".into()),
    }
}

/// A dictionary of three entries, as Python writes it.
fn parse(text: &str) -> Result<(Type, u64), String> {
    let damaged = || "a header that is not that of an npy array".to_string();
    let mut rest = text.trim().strip_prefix('{').ok_or_else(damaged)?;
    let (mut dtype, mut order, mut elements) = (None, None, None);
    loop {
        rest = rest.trim_start();
        if let Some(end) = rest.strip_prefix('}') {
            if !end.trim().is_empty() {
                return Err(damaged());
            }
            break;
        }
        let (key, after) = quoted(rest).ok_or_else(damaged)?;
        rest = after.trim_start().strip_prefix(':').ok_or_else(damaged)?;
        rest = rest.trim_start();
        match key {
            "descr" if rest.starts_with('[') => {
                return Err("records of fields are no tensor; give f16, f32 or f64".into());
            }
            "descr" => {
                let (descr, after) = quoted(rest).ok_or_else(damaged)?;
                dtype = Some(type_of(descr)?);
                rest = after;
            }
            "fortran_order" => {
                let after = rest.strip_prefix("True");
                rest = after
                    .or_else(|| rest.strip_prefix("False"))
                    .ok_or_else(damaged)?;
                order = Some(());
            }
            "shape" => {
                let (inside, after) = rest
                    .strip_prefix('(')
                    .and_then(|rest| rest.split_once(')'))
                    .ok_or_else(damaged)?;
                elements = Some(product(inside)?);
                rest = after;
            }
            _ => return Err(damaged()),
        }
        rest = rest.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(after) => after,
            None if rest.starts_with('}') => rest,
            None => return Err(damaged()),
        };
    }
    let (Some(dtype), Some(()), Some(elements)) = (dtype, order, elements) else {
        return Err("a header without descr, fortran_order or shape".into());
    };
    // More than any file or stream holds; below, sums of bytes do not overflow.
    match elements.checked_mul(dtype.size()) {
        Some(bytes) if bytes <= i64::MAX as u64 => Ok((dtype, elements)),
        _ => Err(format!(
            "a shape of {elements} elements; the array is damaged"
        )),
    }
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|&c| c == '\'' || c == '"')?;
    text[1..].split_once(quote)
}

fn type_of(descr: &str) -> Result<Type, String> {
    let other = |name, size| Ok(Type::Other(name, size));
    let float = match descr.get(1..) {
        Some("f2") => Float::F16,
        Some("f4") => Float::F32,
        Some("f8") => Float::F64,
        Some("b1") => return other("BOOL", 1),
        Some("i1") => return other("I8", 1),
        Some("i2") => return other("I16", 2),
        Some("i4") => return other("I32", 4),
        Some("i8") => return other("I64", 8),
        Some("u1") => return other("U8", 1),
        Some("u2") => return other("U16", 2),
        Some("u4") => return other("U32", 4),
        Some("u8") => return other("U64", 8),
        Some("O") => return Err("Python objects are no tensor; give f16, f32 or f64".into()),
        _ => return Err(format!("type `{descr}`; give f16, f32 or f64")),
    };
    match descr.as_bytes()[0] {
        b'<' => Ok(Type::Float(Encoding::little(float))),
        b'>' => Ok(Type::Float(Encoding {
            float,
            big_endian: true,
        })),
        _ => Err(format!("type `{descr}`; give f16, f32 or f64")),
    }
}

fn product(shape: &str) -> Result<u64, String> {
    let mut product = Some(1_u64);
    let mut axes = shape.split(',').map(str::trim).peekable();
    while let Some(axis) = axes.next() {
        if axis.is_empty() && axes.peek().is_none() {
            break;
        }
        // Python 2 wrote long integers so.
        let digits = axis.strip_suffix('L').unwrap_or(axis);
        let len: u64 = digits
            .parse()
            .map_err(|_| format!("a shape of ({shape}); the array is damaged"))?;
        product = match (product, len) {
            (_, 0) => Some(0),
            (Some(0), _) => Some(0),
            (product, len) => product.and_then(|product| product.checked_mul(len)),
        };
    }
    product.ok_or_else(|| format!("a shape of ({shape}), which overflows; the array is damaged"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(version: u8, header: &str) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend((header.len() as u16).to_le_bytes()),
            _ => bytes.extend((header.len() as u32).to_le_bytes()),
        }
        bytes.extend(header.as_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Option<Header>, String> {
        Header::read(&mut &*bytes).map_err(|problem| match problem {
            NpyError::Io(error) => error.to_string(),
            NpyError::Array(problem) => problem,
        })
    }

    #[test]
    fn headers_as_numpy_writes_them() {
        for (version, header, descr, elements) in [
            (
                1,
                "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n",
                "<f4",
                6,
            ),
            (
                1,
                "{'descr': '<f8', 'fortran_order': True, 'shape': (7,), }\n",
                "<f8",
                7,
            ),
            (
                2,
                "{'descr': '>f2', 'fortran_order': False, 'shape': (), }\n",
                ">f2",
                1,
            ),
            (
                3,
                "{\"shape\": (0, 9L), \"descr\": \"<f4\", \"fortran_order\": False}",
                "<f4",
                0,
            ),
            (
                1,
                "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 0, 4294967296, 4294967296), }",
                "<f4",
                0,
            ),
        ] {
            let found = read(&array(version, header)).unwrap().unwrap();
            assert_eq!(found.dtype, type_of(descr).unwrap());
            assert_eq!(found.elements, elements, "{header}");
        }
        let found = read(&array(
            1,
            "{'descr': '<u4', 'fortran_order': False, 'shape': (3,)}",
        ));
        let found = found.unwrap().unwrap();
        assert_eq!((found.encoding(), found.data_bytes()), (Err("U32"), 12));
        assert_eq!(read(b""), Ok(None));
    }

    #[test]
    fn what_is_no_array_of_floats_is_refused() {
        let whole = array(
            1,
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
        );
        for cut in 1..whole.len() {
            assert!(
                read(&whole[..cut]).unwrap_err().contains("truncated"),
                "{cut}"
            );
        }
        let one = |descr: &str, shape: &str| {
            format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}")
        };
        for (header, words) in [
            (one("'<c8'", "(2,)"), "type `<c8`"),
            (one("'|O'", "(2,)"), "Python objects"),
            (one("'|V1'", "(2,)"), "type `|V1`"),
            (one("'é'", "(2,)"), "type `é`"),
            (one("''", "(2,)"), "type ``"),
            (one("[('a', '<f4')]", "(2,)"), "records of fields"),
            (one("'<f4'", "(-1,)"), "a shape of (-1,)"),
            (one("'<f4'", "(,)"), "shape"),
            (one("'<f4'", "(4294967296, 4294967296)"), "overflows"),
            (one("'<f8'", "(2305843009213693951,)"), "damaged"),
            (one("'<f4'", "2"), "not that of"),
            ("{'descr': '<f4', 'shape': (2,)}".into(), "without"),
            ("{'descr': '<f4'".into(), "not that of"),
            ("{".repeat(60_000), "not that of"),
            (String::new(), "not that of"),
        ] {
            let problem = read(&array(2, &header)).unwrap_err();
            assert!(problem.contains(words), "{words}: {problem}");
        }
        assert!(read(b"PK\x03\x04").unwrap_err().contains("not an npy"));
        assert!(read(b"\x93NUMPY\x09\0").unwrap_err().contains("version 9"));
        assert!(
            read(b"\x93NUMPY\x02\0\xff\xff\xff\xff")
                .unwrap_err()
                .contains("4294967295")
        );
    }
}
