//! npz archives: zip files of npy arrays, stored or deflated.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use flate2::read::DeflateDecoder;
use quant_model::error::shortened;
use quant_model::{Error, sniff};
use zip::{CompressionMethod, ZipArchive};

use super::npy::{Header, NpyError};
use super::recording::{Content, Deflated, RecordedFile, RecordedTensor};

/// What NumPy calls the first array of an archive that was given without a name.
const NAMELESS: &str = "arr_0";
/// Bytes of an archive that are read at a time.
const AHEAD: usize = 65_536;

/// The arrays of an archive. The only one, if it has no name of its own, is called `alone`.
pub fn arrays(
    path: &Path,
    file: &File,
    alone: impl Fn() -> Result<String, Error>,
) -> Result<Vec<RecordedTensor>, Error> {
    let bad = |problem: String| Error::file(path, problem);
    let archive = ZipArchive::new(BufReader::new(file));
    let mut archive = archive.map_err(|error| {
        let problem = format!("not an npz archive, or a damaged one: {error}");
        bad(sniff::instead_at(path, b"PK", problem))
    })?;
    let mut arrays = Vec::with_capacity(archive.len().min(1024));
    for index in 0..archive.len() {
        let (name, member) = {
            let member = archive.by_index_raw(index);
            let member = member.map_err(|error| bad(format!("a damaged npz archive: {error}")))?;
            let name = member.name().map(std::borrow::Cow::into_owned);
            let name = name.map_err(|error| bad(format!("a damaged npz archive: {error}")))?;
            let start = member.data_start();
            let bad = |problem: String| Error::tensor(path, &shortened(&name), problem);
            if member.encrypted() {
                return Err(bad(
                    "it is encrypted; write the archive without a password".into()
                ));
            }
            let start = start.ok_or_else(|| bad("a damaged member of the archive".into()))?;
            let member = Member {
                start,
                compressed: member.compressed_size(),
                size: member.size(),
                crc: member.crc32(),
                method: member.compression(),
            };
            (name, member)
        };
        let Some(activation) = name.strip_suffix(".npy") else {
            let problem = "not an npy array, as all members of an npz archive must be";
            return Err(Error::tensor(path, &shortened(&name), problem));
        };
        let activation = match archive.len() {
            1 if activation == NAMELESS => alone()?,
            _ => activation.to_owned(),
        };
        arrays.push(member.array(path, file, activation)?);
    }
    Ok(arrays)
}

struct Member {
    start: u64,
    compressed: u64,
    size: u64,
    crc: u32,
    method: CompressionMethod,
}

impl Member {
    /// The header of the array, whose values the member holds whole.
    fn header(&self, file: &File) -> Result<Header, String> {
        let section = Section {
            file,
            offset: self.start,
            left: self.compressed,
        };
        let section = BufReader::with_capacity(512, section);
        let header = match self.method {
            CompressionMethod::Stored => Header::read(&mut { section }),
            CompressionMethod::Deflated => Header::read(&mut DeflateDecoder::new(section)),
            other => {
                return Err(format!(
                    "compressed as {other}; numpy.savez and savez_compressed store and deflate"
                ));
            }
        };
        let header = header.map_err(|problem| match problem {
            NpyError::Io(error) => format!("cannot read it from the archive: {error}"),
            NpyError::Array(problem) => problem,
        })?;
        let header = header.ok_or("an empty member of the archive")?;
        let (expected, values) = (header.data_bytes(), self.size.saturating_sub(header.bytes));
        if expected != values
            || self.method == CompressionMethod::Stored && self.compressed != self.size
        {
            return Err(format!(
                "{values} bytes of values where the header says {expected}; the archive is damaged"
            ));
        }
        Ok(header)
    }

    fn array(self, path: &Path, file: &File, activation: String) -> Result<RecordedTensor, Error> {
        let bad = |problem: String| Error::tensor(path, &activation, problem);
        let header = self.header(file).map_err(bad)?;
        let values = header.data_bytes();
        let content = match (header.encoding(), self.method) {
            (Err(dtype), _) => Content::PassedOver(dtype),
            (Ok(encoding), CompressionMethod::Stored) => {
                let start = self.start + header.bytes;
                let whole = file
                    .metadata()
                    .is_ok_and(|file| start + values <= file.len());
                if !whole {
                    return Err(bad(
                        "lies beyond the end of the archive; it is truncated".into()
                    ));
                }
                Content::At { encoding, start }
            }
            (Ok(encoding), _) => Content::Deflated {
                encoding,
                member: Deflated {
                    start: self.start,
                    compressed: self.compressed,
                    crc: self.crc,
                    header: header.bytes,
                    values,
                },
            },
        };
        Ok(RecordedTensor {
            activation,
            content,
            elements: header.elements,
        })
    }
}

/// A part of a file, from its beginning to its end.
struct Section<F> {
    file: F,
    offset: u64,
    left: u64,
}

/// What can be read from any place.
trait At {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl At for &File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(*self, buffer, offset)
    }
}

impl At for Arc<RecordedFile> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.file, buffer, offset)
    }
}

impl<F: At> Read for Section<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

/// The values of a deflated member, from the first to the last.
pub struct Inflating {
    file: Arc<RecordedFile>,
    activation: String,
    stream: DeflateDecoder<BufReader<Section<Arc<RecordedFile>>>>,
    crc: crc32fast::Hasher,
    expected: u32,
    left: u64,
}

impl Inflating {
    /// Begins with the value that begins at byte `from`.
    pub fn new(
        file: &Arc<RecordedFile>,
        activation: &str,
        member: Deflated,
        from: u64,
    ) -> Result<Self, Error> {
        let section = Section {
            file: file.clone(),
            offset: member.start,
            left: member.compressed,
        };
        let mut inflating = Self {
            file: file.clone(),
            activation: activation.to_owned(),
            stream: DeflateDecoder::new(BufReader::with_capacity(AHEAD, section)),
            crc: crc32fast::Hasher::new(),
            expected: member.crc,
            left: member.header + member.values,
        };
        let (mut skip, mut buffer) = (member.header + from, vec![0; AHEAD]);
        while skip > 0 {
            let len = buffer
                .len()
                .min(usize::try_from(skip).unwrap_or(usize::MAX));
            inflating.read(&mut buffer[..len])?;
            skip -= len as u64;
        }
        Ok(inflating)
    }

    /// Fills the buffer with the bytes that follow.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        let bad = |problem: String| Error::tensor(&self.file.path, &self.activation, problem);
        self.stream.read_exact(buffer).map_err(|error| {
            bad(format!(
                "cannot be inflated ({error}); the archive is damaged"
            ))
        })?;
        self.crc.update(buffer);
        self.left -= buffer.len() as u64;
        if self.left == 0 && self.crc.clone().finalize() != self.expected {
            return Err(bad(
                "its checksum is another one; the archive is damaged".into()
            ));
        }
        Ok(())
    }
}
