//! Recordings as windows of pieces, in order, from any position on.

use std::collections::{BTreeMap, VecDeque};

use quant_model::Error;
use rayon::prelude::*;

use super::checkpoint::Position;
use super::data::Recordings;
use super::memory;
use super::npz::Inflating;
use super::observing::{Observers, PIECE, Piece, PieceSource};
use super::recording::{Content, Recording};
use super::values::Encoding;

/// Bytes of a window.
const WINDOW: u64 = 64 << 20;
/// Files of a window, and files that are opened ahead: on macOS a process may have 256 open.
const FILES: usize = 96;
/// Bytes of a window that come out of archives: they stay in memory until they are observed.
const INFLATED: usize = 16 << 20;

pub struct Windows<'a> {
    recordings: &'a Recordings,
    /// What the next window begins with.
    pub position: Position,
    /// From the position's file on.
    open: VecDeque<Recording>,
    /// What the position's tensor comes from, if it is deflated and has been begun.
    inflating: Option<Inflating>,
    /// Activations of integers or truth values, and their types.
    pub passed_over: BTreeMap<String, String>,
}

impl<'a> Windows<'a> {
    pub fn new(recordings: &'a Recordings, position: Position) -> Self {
        Self {
            recordings,
            position,
            open: VecDeque::new(),
            inflating: None,
            passed_over: BTreeMap::new(),
        }
    }

    /// The next pieces; none where all files are done. `passed` is told of bytes that are no values.
    // Long: one loop over files, tensors and pieces, which share the bounds of a window.
    pub fn next(
        &mut self,
        observers: &mut Observers,
        passed: &dyn Fn(u64),
    ) -> Result<Vec<Piece<'static>>, Error> {
        let most = observers.most_pieces();
        let (mut pieces, mut bytes, mut files) = (Vec::new(), 0, 0);
        let mut inflated = 0;
        // Files may hold nothing, and that is not the end.
        while bytes < WINDOW
            && inflated < INFLATED
            && (files < FILES || pieces.is_empty())
            && pieces.len() < most
        {
            if self.open.is_empty() && !self.open_more()? {
                break;
            }
            let recording = &self.open[0];
            let Some(tensor) = recording.tensors.get(self.position.tensor) else {
                passed(recording.bytes_around());
                self.open.pop_front();
                self.position = Position {
                    file: self.position.file + 1,
                    ..Position::default()
                };
                files += 1;
                continue;
            };
            let left = tensor.elements.saturating_sub(self.position.element);
            let elements = left.min(PIECE);
            let ends_sample = elements == left;
            let (encoding, source) = match tensor.content {
                Content::PassedOver(dtype) => {
                    memory::note(&mut self.passed_over, &tensor.activation, dtype);
                    self.position.pass(0, true);
                    continue;
                }
                Content::At { encoding, start } => {
                    let from = start + self.position.element * encoding.size() as u64;
                    (encoding, PieceSource::File(recording.file.clone(), from))
                }
                Content::Deflated { encoding, member } => {
                    let len = elements as usize * encoding.size();
                    let from = self.position.element * encoding.size() as u64;
                    let stream = match self.inflating.take() {
                        Some(stream) if self.position.element > 0 => stream,
                        _ => Inflating::new(&recording.file, &tensor.activation, member, from)?,
                    };
                    inflated += len;
                    let stream = self.inflating.insert(stream);
                    (encoding, inflate(stream, encoding, len)?)
                }
            };
            if ends_sample {
                self.inflating = None;
            }
            pieces.push(Piece {
                activation: observers.index(&tensor.activation)?,
                ends_sample,
                encoding,
                elements,
                source,
            });
            bytes += elements * encoding.size() as u64;
            self.position.pass(elements, ends_sample);
        }
        Ok(pieces)
    }

    fn open_more(&mut self) -> Result<bool, Error> {
        let first = self.position.file;
        let end = Ord::min(first + FILES, self.recordings.file_count());
        let opened: Vec<Result<Recording, Error>> = (first..end)
            .into_par_iter()
            .map(|index| self.recordings.open(index))
            .collect();
        // The first error in the order of files, not in that of threads.
        self.open = opened.into_iter().collect::<Result<_, _>>()?;
        Ok(!self.open.is_empty())
    }
}

/// The next bytes of a stream, aligned, as values of this machine.
fn inflate(
    stream: &mut Inflating,
    encoding: Encoding,
    len: usize,
) -> Result<PieceSource<'static>, Error> {
    let mut words = vec![0_u64; len.div_ceil(8)];
    let bytes = &mut bytemuck::cast_slice_mut(&mut words)[..len];
    stream.read(bytes)?;
    encoding.to_native(bytes);
    Ok(PieceSource::Owned(words, len))
}
