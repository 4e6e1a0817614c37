//! Npz archives one after the other in a stream, as `numpy.savez` writes them to a pipe.
//!
//! A zip archive is read from its end; a stream has none, so entries are taken as they come. Writers
//! that cannot go back say an entry's size after it: then the array itself says where it ends.

use std::io::{BufRead, Read};

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use crate::Tensor;
use crate::npy::{read_npy, read_one};

/// An array and its name.
pub(crate) type Entry = (Option<String>, Tensor);

const ENTRY: u32 = 0x0403_4b50;
const AFTER_ENTRY: u32 = 0x0807_4b50;
const DIRECTORY: u32 = 0x0201_4b50;
const WIDE_END: u32 = 0x0606_4b50;
const WIDE_PLACE: u32 = 0x0706_4b50;
const END: u32 = 0x0605_4b50;
/// Bit 3 of an entry's flags: its size follows it.
const SIZE_FOLLOWS: u16 = 8;

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut found = [0; N];
    found.copy_from_slice(&bytes[at..at + N]);
    found
}

fn short(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(number(bytes, at))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(number(bytes, at))
}

fn read<const N: usize>(input: &mut dyn BufRead) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes).map_err(ended)?;
    Ok(bytes)
}

fn ended(error: std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the stream ends inside an npz archive".into(),
        _ => error.to_string(),
    }
}

fn skip(input: &mut dyn BufRead, bytes: u64) -> Result<(), String> {
    let skipped = std::io::copy(&mut input.take(bytes), &mut std::io::sink());
    match skipped.map_err(ended)? == bytes {
        true => Ok(()),
        false => Err("the stream ends inside an npz archive".into()),
    }
}

/// Reads the next archive of a stream, of at most so many bytes; `None` at its end.
pub(crate) fn read_archive(
    input: &mut dyn BufRead,
    most: u64,
) -> Result<Option<Vec<Entry>>, String> {
    let mut found = Vec::new();
    if input.fill_buf().map_err(ended)?.is_empty() {
        return Ok(None);
    }
    let mut left = most;
    loop {
        match u32::from_le_bytes(read(input)?) {
            ENTRY => found.push(entry(input, &mut left)?),
            DIRECTORY => {
                let head: [u8; 42] = read(input)?;
                let rest = [24, 26, 28].map(|at| u64::from(short(&head, at)));
                skip(input, rest.iter().sum())?;
            }
            WIDE_END => {
                let rest = u64::from_le_bytes(read(input)?);
                skip(input, rest)?;
            }
            WIDE_PLACE => skip(input, 16)?,
            END => {
                let tail: [u8; 18] = read(input)?;
                skip(input, short(&tail, 16).into())?;
                return Ok(Some(found));
            }
            _ => return Err("neither an npz archive nor the end of the stream".into()),
        }
    }
}

/// Counts the bytes that go through it, and finds their checksum.
struct Summed<'a> {
    input: &'a mut dyn BufRead,
    crc: Crc,
}

impl Read for Summed<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(to)?;
        self.crc.update(&to[..count]);
        Ok(count)
    }
}

fn entry(input: &mut dyn BufRead, left: &mut u64) -> Result<Entry, String> {
    let head: [u8; 26] = read(input)?;
    let (flags, method) = (short(&head, 2), short(&head, 4));
    let mut name = vec![0; short(&head, 22).into()];
    input.read_exact(&mut name).map_err(ended)?;
    let name = String::from_utf8(name).map_err(|_| "an array whose name is no UTF-8")?;
    let mut extra = vec![0; short(&head, 24).into()];
    input.read_exact(&mut extra).map_err(ended)?;
    let at = |problem: String| format!("`{name}`: {problem}");
    if flags & 1 != 0 {
        return Err(at("it is encrypted".into()));
    }
    let wide = wide_sizes(&extra);
    let stored = match (word(&head, 14), wide) {
        (u32::MAX, Some([_, stored])) => stored,
        (stored, _) => stored.into(),
    };
    let (bytes, crc) = if flags & SIZE_FOLLOWS == 0 {
        if stored > *left {
            return Err(at("more bytes than a sample may have".into()));
        }
        let mut part = input.take(stored);
        let read = content(&mut part, method, *left, true).map_err(at)?;
        let rest = part.limit();
        skip(input, rest)?;
        (read.0, (read.1, word(&head, 10)))
    } else {
        let read = content(input, method, *left, false).map_err(at)?;
        let expected = match u32::from_le_bytes(self::read(input)?) {
            AFTER_ENTRY => u32::from_le_bytes(self::read(input)?),
            // The signature may be left out.
            crc => crc,
        };
        skip(input, if wide.is_some() { 16 } else { 8 })?;
        (read.0, (read.1, expected))
    };
    if crc.0 != crc.1 {
        return Err(at("its checksum is another one; it is damaged".into()));
    }
    *left = left.saturating_sub(bytes.len() as u64);
    let array = read_npy(&bytes).map_err(at)?;
    match name.strip_suffix(".npy") {
        Some(name) => Ok((Some(name.to_owned()), array)),
        None => Err(at("it is no npy array".into())),
    }
}

/// The sizes that 32 bits cannot hold: of the content, and of what stands for it.
fn wide_sizes(mut extra: &[u8]) -> Option<[u64; 2]> {
    while extra.len() >= 4 {
        let (kind, len) = (short(extra, 0), usize::from(short(extra, 2)));
        let inside = extra.get(4..4 + len)?;
        if kind == 1 {
            let at = |at| (inside.len() >= at + 8).then(|| u64::from_le_bytes(number(inside, at)));
            return Some([at(0).unwrap_or(0), at(8).unwrap_or(0)]);
        }
        extra = &extra[4 + len..];
    }
    None
}

/// An entry's bytes and their checksum.
fn content(
    input: &mut dyn BufRead,
    method: u16,
    most: u64,
    bounded: bool,
) -> Result<(Vec<u8>, u32), String> {
    let mut bytes = Vec::new();
    let crc = match (method, bounded) {
        (0, false) => {
            let crc = Crc::new();
            let mut summed = Summed { input, crc };
            bytes = read_one(&mut summed, most)?;
            summed.crc.sum()
        }
        (0, true) | (8, _) => {
            let read = match method {
                0 => input.take(most.saturating_add(1)).read_to_end(&mut bytes),
                _ => DeflateDecoder::new(input)
                    .take(most.saturating_add(1))
                    .read_to_end(&mut bytes),
            };
            read.map_err(ended)?;
            let mut crc = Crc::new();
            crc.update(&bytes);
            crc.sum()
        }
        (other, _) => return Err(format!("compression of kind {other}; savez uses 0 and 8")),
    };
    match bytes.len() as u64 > most {
        true => Err("more bytes than a sample may have".into()),
        false => Ok((bytes, crc)),
    }
}
