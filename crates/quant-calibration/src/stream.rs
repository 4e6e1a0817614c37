//! A stream of npy arrays, read on a thread of its own, as windows of pieces.

use std::io::{self, BufReader, Read};
use std::mem;
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use quant_model::{Error, Job};

use super::npy::{Header, NpyError};
use super::observing::{Piece, PieceSource};
use super::values::Encoding;

/// Bytes of values that end a window.
const WINDOW: usize = 8 << 20;
/// Values of a piece.
const PIECE: u64 = 262_144;
/// Pieces of a window: small arrays may come by the million.
const PIECES: usize = 4096;
/// Bytes that are read ahead: as many as a pipe holds.
const AHEAD: usize = 65_536;
/// What stands for the file in messages.
pub const STREAM: &str = "standard input";

/// Consecutive pieces of the stream, of one activation.
#[derive(Default)]
pub struct Window {
    /// Memory for the values. It only grows.
    bytes: Vec<u64>,
    used: usize,
    pieces: Vec<StreamPiece>,
}

struct StreamPiece {
    ends_sample: bool,
    encoding: Encoding,
    elements: u64,
    bytes: Range<usize>,
}

impl Window {
    fn is_full(&self) -> bool {
        self.used >= WINDOW || self.pieces.len() >= PIECES
    }

    /// Aligned room for so many bytes, taken by the piece that comes next.
    fn room(&mut self, len: usize) -> (Range<usize>, &mut [u8]) {
        let words = self.used.div_ceil(8) + len.div_ceil(8);
        if self.bytes.len() < words {
            self.bytes.resize(words, 0);
        }
        let start = self.used.next_multiple_of(8);
        self.used = start + len;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.bytes);
        (start..self.used, &mut bytes[start..self.used])
    }

    fn clear(&mut self) {
        self.used = 0;
        self.pieces.clear();
    }

    /// Its pieces, none at the end of the stream; their activation is the observers' first.
    pub fn pieces(&self) -> Vec<Piece<'_>> {
        let bytes: &[u8] = bytemuck::cast_slice(&self.bytes);
        let piece = |piece: &StreamPiece| Piece {
            activation: 0,
            ends_sample: piece.ends_sample,
            encoding: piece.encoding,
            elements: piece.elements,
            source: PieceSource::Memory(&bytes[piece.bytes.clone()]),
        };
        self.pieces.iter().map(piece).collect()
    }
}

pub struct Stream {
    windows: Receiver<Result<Window, Error>>,
    done: Sender<Window>,
    reader: Option<JoinHandle<()>>,
}

impl Stream {
    /// Begins to read. The thread ends with the stream, or once nobody waits for windows.
    pub fn new(stream: impl Read + Send + 'static, activation: &str) -> Result<Self, Error> {
        let (send, windows) = sync_channel(1);
        let (done, empty) = channel();
        let activation = activation.to_owned();
        let read = move || {
            let mut reader = Reader {
                stream: BufReader::with_capacity(AHEAD, stream),
                activation,
                send,
                empty,
                window: Window::default(),
            };
            if let Err(Some(error)) = reader.run() {
                // Where nobody waits, nobody needs to know.
                let _ = reader.send.send(Err(error));
            }
        };
        let reader = std::thread::Builder::new()
            .spawn(read)
            .map_err(Error::io(Path::new(STREAM), "start a thread for it"))?;
        Ok(Self {
            windows,
            done,
            reader: Some(reader),
        })
    }

    /// The next window, for which an old one is given back; an empty one at the end.
    pub fn next(&mut self, old: Window, job: &Job<'_>) -> Result<Window, Error> {
        // At the end of the stream nobody takes it.
        let _ = self.done.send(old);
        loop {
            match self.windows.recv_timeout(Duration::from_millis(100)) {
                Ok(window) => return window,
                Err(RecvTimeoutError::Timeout) => job.check()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return match self.reader.take().map(JoinHandle::join) {
                        Some(Err(_)) => {
                            let problem = "what reads it panicked";
                            Err(Error::file(Path::new(STREAM), problem))
                        }
                        _ => Ok(Window::default()),
                    };
                }
            }
        }
    }
}

struct Reader<R> {
    stream: BufReader<R>,
    activation: String,
    send: SyncSender<Result<Window, Error>>,
    empty: Receiver<Window>,
    window: Window,
}

impl<R: Read> Reader<R> {
    /// Without an error where nobody waits any more.
    fn run(&mut self) -> Result<(), Option<Error>> {
        let mut arrays = 0_u64;
        while let Some(header) = self.header(arrays)? {
            arrays += 1;
            let encoding = header.encoding().map_err(|dtype| {
                let problem = format!("type {dtype}; give f16, f32 or f64");
                Some(bad(&self.activation, arrays - 1, &problem))
            })?;
            let mut left = header.elements;
            loop {
                let elements = left.min(PIECE);
                left -= elements;
                let (range, bytes) = self.window.room(elements as usize * encoding.size());
                self.stream.read_exact(bytes).map_err(|error| {
                    Some(match error.kind() {
                        io::ErrorKind::UnexpectedEof => bad(
                            &self.activation,
                            arrays - 1,
                            "ends inside its values; the stream is truncated",
                        ),
                        _ => Error::io(Path::new(STREAM), "read it")(error),
                    })
                })?;
                encoding.to_native(bytes);
                self.window.pieces.push(StreamPiece {
                    ends_sample: left == 0,
                    encoding,
                    elements,
                    bytes: range,
                });
                if self.window.is_full() {
                    self.send_window()?;
                }
                if left == 0 {
                    break;
                }
            }
        }
        match self.window.pieces.is_empty() {
            true => Ok(()),
            false => self.send_window(),
        }
    }

    fn header(&mut self, array: u64) -> Result<Option<Header>, Option<Error>> {
        Header::read(&mut self.stream).map_err(|problem| {
            Some(match problem {
                NpyError::Io(error) => Error::io(Path::new(STREAM), "read it")(error),
                NpyError::Array(problem) => bad(&self.activation, array, &problem),
            })
        })
    }

    fn send_window(&mut self) -> Result<(), Option<Error>> {
        let mut next = self.empty.try_recv().unwrap_or_default();
        next.clear();
        let window = mem::replace(&mut self.window, next);
        self.send.send(Ok(window)).map_err(|_| None)
    }
}

fn bad(activation: &str, array: u64, problem: &str) -> Error {
    let problem = format!("array {array} of the stream: {problem}");
    Error::tensor(Path::new(STREAM), activation, problem)
}
