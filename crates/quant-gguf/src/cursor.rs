//! A header, read front to back: it may be longer than what should be held of it.

use quant_model::Error;
use quant_model::io::InputFile;

const BUFFER: usize = 1 << 16;

pub(crate) struct Cursor<'f> {
    file: &'f InputFile,
    buffer: Vec<u8>,
    /// Where the buffer begins in the file.
    start: u64,
    /// What of it has been read.
    read: usize,
}

impl<'f> Cursor<'f> {
    pub fn new(file: &'f InputFile) -> Self {
        Self {
            file,
            buffer: Vec::new(),
            start: 0,
            read: 0,
        }
    }

    pub fn position(&self) -> u64 {
        self.start + self.read as u64
    }

    /// Bytes of the file behind it.
    pub fn left(&self) -> u64 {
        self.file.len() - self.position()
    }

    fn ends(&self) -> Error {
        let problem = "the file ends inside its header; it is truncated, fetch it again";
        Error::file(self.file.path(), problem)
    }

    /// The next bytes; few of them.
    pub fn take(&mut self, count: usize) -> Result<&[u8], Error> {
        if self.left() < count as u64 {
            return Err(self.ends());
        }
        if self.buffer.len() - self.read < count {
            self.start = self.position();
            self.read = 0;
            let len = self.left().min(BUFFER.max(count) as u64);
            self.buffer.resize(len as usize, 0);
            self.file.read(self.start, &mut self.buffer)?;
        }
        self.read += count;
        Ok(&self.buffer[self.read - count..self.read])
    }

    /// Passes over bytes.
    pub fn skip(&mut self, count: u64) -> Result<(), Error> {
        if self.left() < count {
            return Err(self.ends());
        }
        let position = self.position() + count;
        match usize::try_from(position - self.start) {
            Ok(read) if read <= self.buffer.len() => self.read = read,
            _ => {
                self.buffer.clear();
                (self.start, self.read) = (position, 0);
            }
        }
        Ok(())
    }

    pub fn u32(&mut self) -> Result<u32, Error> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes(std::array::from_fn(|i| bytes[i])))
    }

    pub fn u64(&mut self) -> Result<u64, Error> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(std::array::from_fn(|i| bytes[i])))
    }

    /// A name, no longer than any that a tool writes.
    pub fn name(&mut self, what: &str) -> Result<String, Error> {
        let path = self.file.path();
        let len = self.u64()?;
        if len > 65_535 {
            let problem = format!("{what} of {len} bytes; the file is damaged");
            return Err(Error::file(path, problem));
        }
        let name = self.take(len as usize)?.to_vec();
        String::from_utf8(name).map_err(|_| {
            let problem = format!("{what} is not text; the file is damaged");
            Error::file(path, problem)
        })
    }
}
