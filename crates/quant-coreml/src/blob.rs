//! Weight files: records of a header of 64 bytes and the data, all at multiples of 64.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use quant_model::io::{self, Data, InputFile, PreallocatedFile};
use quant_model::{Error, Job, sniff};
use quant_simd::Source as _;

const MAGIC: u32 = 0xDEAD_BEEF;
const VERSION: u32 = 2;
pub(crate) const ALIGN: u64 = 64;
/// Bytes that are copied or compared at a time.
const STEP: usize = 1 << 20;

/// A weight file.
#[derive(Debug)]
pub(crate) struct WeightFile(InputFile);

/// What a record says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The number of the element type.
    pub kind: u32,
    pub data: Range<usize>,
    pub padding_bits: u64,
}

impl WeightFile {
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = InputFile::open(path, "it should hold weights")?;
        let head = file.data(0, sniff::HEAD.min(file.len() as usize));
        let head = head.whole()?;
        let version = head.get(4..8).map(|bytes| u32_at(bytes, 0));
        let problem = match version {
            Some(VERSION) if file.len() >= ALIGN => {
                drop(head);
                return Ok(Self(file));
            }
            _ if sniff::is_safetensors(&head) => {
                "this is a safetensors file; the package is damaged, fetch it again".into()
            }
            _ if file.len() < ALIGN => sniff::explain(&head, || {
                format!(
                    "{} bytes are too few for a weight file; it is truncated, fetch it again",
                    file.len()
                )
            }),
            other => sniff::explain(&head, || {
                format!(
                    "version {} of weight files, where {VERSION} is known; it is damaged, or too new for this quant",
                    other.unwrap_or(0)
                )
            }),
        };
        Err(Error::file(path, problem))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn len(&self) -> u64 {
        self.0.len()
    }

    pub fn data(&self, record: &Record) -> Data<'_> {
        self.0.data(record.data.start as u64, record.data.len())
    }

    /// The record whose header stands at `offset`.
    pub fn record(&self, offset: u64) -> Result<Record, Error> {
        let mut header = [0; ALIGN as usize];
        let end = offset.checked_add(ALIGN);
        if end.is_none_or(|end| end > self.len()) {
            let len = self.len();
            let problem = format!(
                "the record at byte {offset} is outside the weight file, which has {len} bytes; it is truncated or damaged"
            );
            return Err(Error::file(self.path(), problem));
        }
        self.0.read(offset, &mut header)?;
        self.parsed(offset, &header)
            .map_err(|problem| Error::file(self.path(), problem))
    }

    fn parsed(&self, offset: u64, header: &[u8]) -> Result<Record, String> {
        let at = format!("the record at byte {offset}");
        if !offset.is_multiple_of(ALIGN) || offset == 0 || u32_at(header, 0) != MAGIC {
            return Err(format!(
                "there is no record at byte {offset} of the weight file; it is damaged"
            ));
        }
        let (size, from) = (u64_at(header, 8), u64_at(header, 16));
        let end = from.checked_add(size).filter(|&end| end <= self.len());
        let (Some(end), true) = (end, from >= offset + ALIGN) else {
            return Err(format!(
                "{at} has {size} bytes from byte {from} on, outside the weight file, which has {} bytes; it is truncated or damaged",
                self.len()
            ));
        };
        Ok(Record {
            kind: u32_at(header, 4),
            data: from as usize..end as usize,
            padding_bits: u64_at(header, 24),
        })
    }
}

/// Records that are referred to, in order, may not share bytes.
pub(crate) fn check_apart(records: &[(u64, Record)]) -> Result<(), String> {
    for pair in records.windows(2) {
        let [(first, record), (second, _)] = pair else {
            continue;
        };
        if record.data.end as u64 > *second {
            return Err(format!(
                "the records at bytes {first} and {second} of the weight file overlap; it is damaged"
            ));
        }
    }
    Ok(())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// A weight file being written, record after record.
pub(crate) struct WeightWriter {
    /// What messages name.
    path: PathBuf,
    /// For reading back.
    file: File,
    sized: PreallocatedFile,
    records: u32,
    end: u64,
}

impl WeightWriter {
    /// Makes room for `len` bytes, which may turn out to be more than it takes. `others` is what
    /// group and others may do with it at most; `sync` is [`Job::sync`](quant_model::Job::sync).
    pub fn create(
        at: &Path,
        path: &Path,
        len: u64,
        others: u32,
        sync: bool,
    ) -> Result<Self, Error> {
        let file = io::create(at, others).map_err(Error::io(path, "create it"))?;
        let sized = file
            .try_clone()
            .and_then(|file| PreallocatedFile::new(file, len, sync));
        Ok(Self {
            path: path.to_owned(),
            file,
            sized: sized.map_err(Error::io(path, "write it"))?,
            records: 0,
            end: ALIGN,
        })
    }

    /// Where the next record will stand.
    pub fn next(&self) -> u64 {
        self.end.next_multiple_of(ALIGN)
    }

    /// Writes data, at a place that `next` has led to.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let written = self.sized.write_at(bytes, offset);
        written.map_err(Error::io(&self.path, "write it"))
    }

    /// Writes the header of the next record, whose data has been written, and returns its place.
    pub fn seal(&mut self, kind: u32, len: u64, padding_bits: u64) -> Result<u64, Error> {
        let offset = self.next();
        // What stood there may have been moved elsewhere.
        let gap = (offset - self.end) as usize;
        let mut header = vec![0; gap + ALIGN as usize];
        let mut put = |at: usize, bytes: &[u8]| {
            header[gap + at..gap + at + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &MAGIC.to_le_bytes());
        put(4, &kind.to_le_bytes());
        put(8, &len.to_le_bytes());
        put(16, &(offset + ALIGN).to_le_bytes());
        put(24, &padding_bits.to_le_bytes());
        self.write(self.end, &header)?;
        self.end = offset + ALIGN + len;
        self.records += 1;
        Ok(offset)
    }

    /// Copies a whole record.
    pub fn copy(
        &mut self,
        kind: u32,
        data: &Data<'_>,
        padding: u64,
        job: &Job<'_>,
    ) -> Result<u64, Error> {
        let place = self.next() + ALIGN;
        let mut buffer = vec![0; STEP.min(data.len())];
        for start in (0..data.len()).step_by(STEP) {
            job.check()?;
            let piece = &mut buffer[..STEP.min(data.len() - start)];
            data.read(start, piece)?;
            self.write(place + start as u64, piece)?;
            (job.progress)(piece.len() as u64);
        }
        self.seal(kind, data.len() as u64, padding)
    }

    /// Reads back what was written.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let read = self.file.read_exact_at(bytes, offset);
        read.map_err(Error::io(&self.path, "read it back"))
    }

    /// Moves data towards the start.
    pub fn move_down(&self, from: u64, to: u64, len: u64) -> Result<(), Error> {
        let mut buffer = vec![0; STEP.min(len as usize)];
        let mut done = 0;
        while done < len {
            let piece = &mut buffer[..STEP.min((len - done) as usize)];
            self.read(from + done, piece)?;
            self.write(to + done, piece)?;
            done += piece.len() as u64;
        }
        Ok(())
    }

    /// Whether two stretches of data are the same in the eyes of `same`.
    pub fn compare(
        &self,
        [a, b]: [u64; 2],
        len: u64,
        same: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Result<bool, Error> {
        // Most differ soon.
        let (mut done, mut step) = (0, 4096);
        while done < len {
            let count = (len - done).min(step) as usize;
            let (mut left, mut right) = (vec![0; count], vec![0; count]);
            self.read(a + done, &mut left)?;
            self.read(b + done, &mut right)?;
            if !same(&left, &right) {
                return Ok(false);
            }
            done += count as u64;
            step = STEP as u64;
        }
        Ok(true)
    }

    /// Writes the file's own header, waits for the disk where that is wanted, and returns its bytes.
    pub fn finish(self) -> Result<u64, Error> {
        let mut header = [0; ALIGN as usize];
        header[..4].copy_from_slice(&self.records.to_le_bytes());
        header[4..8].copy_from_slice(&VERSION.to_le_bytes());
        self.write(0, &header)?;
        let set = self.file.set_len(self.end);
        set.map_err(Error::io(&self.path, "write it"))?;
        self.sized
            .finish()
            .map_err(Error::io(&self.path, "sync it"))?;
        Ok(self.end)
    }
}
