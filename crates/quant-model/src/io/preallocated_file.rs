//! A file whose size is known before it is written, in any order and from any thread.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes after which the operating system is asked to begin with the disk.
const STEP: u64 = 8 << 20;

/// Buffer for the whole file is reserved at the start: a full disk shows before any work is done, and
/// the writes need not look for room one by one. Large files go to the disk while the rest is
/// still being made, so that there is little left to wait for in [`finish`](Self::finish).
pub struct PreallocatedFile {
    file: File,
    sync: bool,
    written: AtomicU64,
    write_back: Option<WriteBack>,
}

struct WriteBack {
    begin: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl PreallocatedFile {
    /// Gives an empty file its size. With `sync`, [`finish`](Self::finish) waits for the disk.
    pub fn new(file: File, len: u64, sync: bool) -> io::Result<Self> {
        reserve(&file, len)?;
        let write_back = match sync && len > STEP {
            true => Some(WriteBack::new(file.try_clone()?)?),
            false => None,
        };
        Ok(Self {
            file,
            sync,
            written: AtomicU64::new(0),
            write_back,
        })
    }

    /// Writes some bytes at their place.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        let len = bytes.len() as u64;
        let before = self.written.fetch_add(len, Ordering::Relaxed);
        if let Some(write_back) = &self.write_back
            && before / STEP != (before + len) / STEP
        {
            // It may be busy with the step before; then the next one will do.
            let _ = write_back.begin.try_send(());
        }
        Ok(())
    }

    /// Waits until all of it is on the disk, where that is wanted.
    pub fn finish(self) -> io::Result<()> {
        if let Some(WriteBack { begin, thread }) = self.write_back {
            drop(begin);
            // The operating system tells of a failure once, and may have told it there.
            thread
                .join()
                .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
        }
        match self.sync {
            true => self.file.sync_all(),
            false => Ok(()),
        }
    }
}

impl WriteBack {
    fn new(file: File) -> io::Result<Self> {
        let (begin, steps) = sync_channel(1);
        let write_back = move || {
            for () in steps {
                file.sync_data()?;
            }
            Ok(())
        };
        let thread = std::thread::Builder::new().spawn(write_back)?;
        Ok(Self { begin, thread })
    }
}

fn reserve(file: &File, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match len {
        0 => return Ok(()),
        _ => match fallocate(file, FallocateFlags::empty(), 0, len) {
            Err(full @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => return Err(full.into()),
            // Not every file system can.
            Err(_) => {}
            Ok(()) => return Ok(()),
        },
    }
    file.set_len(len)
}
