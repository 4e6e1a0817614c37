//! A stream of npy arrays, read on a thread of its own, as windows of pieces.

use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::npy::{Header, Problem};
use super::observing::{Piece, Source};
use crate::{Error, Job};

/// Bytes of values, decoded, of a window.
const WINDOW: usize = 8 << 20;
/// Values of a piece.
const PIECE: u64 = 262_144;
/// What stands for the file in messages.
const STREAM: &str = "standard input";

type Window = Result<Vec<Piece>, Error>;

/// Windows of one activation, the observers' first.
pub struct Stream {
    windows: Receiver<Window>,
}

impl Stream {
    /// Begins to read. The thread ends with the stream, or once nobody waits for windows.
    pub fn new(
        stream: impl Read + Send + 'static,
        activation: &str,
        most_pieces: usize,
    ) -> Result<Self, Error> {
        let (send, windows) = sync_channel(1);
        let activation = activation.to_owned();
        let read = move || {
            let mut reader = Reader {
                stream,
                activation,
                most_pieces,
                send,
                window: Vec::new(),
                bytes: 0,
            };
            if let Err(Some(error)) = reader.run() {
                // Where nobody waits, nobody needs to know.
                let _ = reader.send.send(Err(error));
            }
        };
        std::thread::Builder::new()
            .spawn(read)
            .map_err(Error::io(Path::new(STREAM), "start a thread for it"))?;
        Ok(Self { windows })
    }

    /// The next pieces; none at the end.
    pub fn next(&self, job: &Job<'_>) -> Window {
        loop {
            match self.windows.recv_timeout(Duration::from_millis(100)) {
                Ok(window) => return window,
                Err(RecvTimeoutError::Timeout) => job.check()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(Vec::new()),
            }
        }
    }
}

struct Reader<R> {
    stream: R,
    activation: String,
    most_pieces: usize,
    send: SyncSender<Window>,
    window: Vec<Piece>,
    bytes: usize,
}

impl<R: Read> Reader<R> {
    /// Without an error where nobody waits any more.
    fn run(&mut self) -> Result<(), Option<Error>> {
        let mut arrays = 0_u64;
        let mut bytes = Vec::new();
        while let Some(header) = self.header(arrays)? {
            arrays += 1;
            let mut left = header.elements;
            loop {
                let elements = left.min(PIECE);
                left -= elements;
                bytes.resize(elements as usize * header.encoding.size(), 0);
                self.stream.read_exact(&mut bytes).map_err(|error| {
                    Some(match error.kind() {
                        io::ErrorKind::UnexpectedEof => self.bad(
                            arrays - 1,
                            "ends inside its values; the stream is truncated",
                        ),
                        _ => Error::io(Path::new(STREAM), "read it")(error),
                    })
                })?;
                let values = header.encoding.decode(&mut bytes);
                self.bytes += 4 * values.len();
                self.window.push(Piece {
                    activation: 0,
                    ends_sample: left == 0,
                    source: Source::Memory(values),
                });
                if self.bytes >= WINDOW || self.window.len() >= self.most_pieces {
                    self.send_window()?;
                }
                if left == 0 {
                    break;
                }
            }
        }
        match self.window.is_empty() {
            true => Ok(()),
            false => self.send_window(),
        }
    }

    fn header(&mut self, array: u64) -> Result<Option<Header>, Option<Error>> {
        Header::read(&mut self.stream).map_err(|problem| {
            Some(match problem {
                Problem::Io(error) => Error::io(Path::new(STREAM), "read it")(error),
                Problem::Array(problem) => self.bad(array, &problem),
            })
        })
    }

    fn bad(&self, array: u64, problem: &str) -> Error {
        let problem = format!("array {array} of the stream: {problem}");
        Error::tensor(Path::new(STREAM), &self.activation, problem)
    }

    fn send_window(&mut self) -> Result<(), Option<Error>> {
        self.bytes = 0;
        let window = std::mem::take(&mut self.window);
        self.send.send(Ok(window)).map_err(|_| None)
    }
}
