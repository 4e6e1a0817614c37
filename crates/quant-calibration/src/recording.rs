//! A file of recordings that is open, and where the tensors in it are.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use quant_model::Error;

use super::values::Encoding;

/// An open file, and where its tensors are.
pub struct Recording {
    pub file: Arc<RecordedFile>,
    pub tensors: Vec<RecordedTensor>,
    /// Of the file.
    pub bytes: u64,
}

pub struct RecordedFile {
    pub path: PathBuf,
    pub file: File,
}

/// A sample of an activation.
pub struct RecordedTensor {
    pub activation: String,
    pub content: Content,
    pub elements: u64,
}

/// Where its values are.
pub enum Content {
    /// One after the other, from a place on, in bytes.
    At { encoding: Encoding, start: u64 },
    /// In a member of an archive.
    Deflated {
        encoding: Encoding,
        member: Deflated,
    },
    /// Nowhere: they are integers or truth values, of a type of this name.
    PassedOver(&'static str),
}

impl Recording {
    /// Bytes that are no values.
    pub fn bytes_around(&self) -> u64 {
        let values = self.tensors.iter().map(RecordedTensor::bytes);
        self.bytes.saturating_sub(values.sum())
    }
}

impl RecordedTensor {
    /// Bytes of the values that are observed.
    pub fn bytes(&self) -> u64 {
        match self.content {
            Content::At { encoding, .. } | Content::Deflated { encoding, .. } => {
                self.elements * encoding.size() as u64
            }
            Content::PassedOver(_) => 0,
        }
    }
}

impl RecordedFile {
    /// Fills the buffer from a place on.
    pub fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        let read = self.file.read_exact_at(buffer, offset);
        read.map_err(Error::io(&self.path, "read it"))
    }
}

/// A deflated member of an archive.
#[derive(Clone, Copy, Debug)]
pub struct Deflated {
    /// Where its bytes are in the archive, and how many.
    pub start: u64,
    pub compressed: u64,
    /// Of the member.
    pub crc: u32,
    /// Bytes of the array's header.
    pub header: u64,
    /// Bytes of its values.
    pub values: u64,
}
