//! Recordings as windows of pieces, in order, from any position on.

use std::collections::VecDeque;

use rayon::prelude::*;

use super::checkpoint::Position;
use super::data::{Recording, Recordings};
use super::observing::{Observers, PIECE, Piece, Source};
use crate::Error;

/// Bytes of a window.
const WINDOW: u64 = 64 << 20;
/// Files of a window, and files that are opened ahead: on macOS a process may have 256 open.
const FILES: usize = 96;

pub struct Windows<'a> {
    recordings: &'a Recordings,
    /// What the next window begins with.
    pub position: Position,
    /// From the position's file on.
    open: VecDeque<Recording>,
}

impl<'a> Windows<'a> {
    pub fn new(recordings: &'a Recordings, position: Position) -> Self {
        Self {
            recordings,
            position,
            open: VecDeque::new(),
        }
    }

    /// The next pieces; none where all files are done. `passed` is told of bytes that are no values.
    pub fn next(
        &mut self,
        observers: &mut Observers,
        passed: &dyn Fn(u64),
    ) -> Result<Vec<Piece<'static>>, Error> {
        let most = observers.most_pieces();
        let (mut pieces, mut bytes, mut files) = (Vec::new(), 0, 0);
        // Files may hold nothing, and that is not the end.
        while bytes < WINDOW && (files < FILES || pieces.is_empty()) && pieces.len() < most {
            if self.open.is_empty() && !self.open_more()? {
                break;
            }
            let recording = &self.open[0];
            let Some(tensor) = recording.tensors.get(self.position.tensor) else {
                let values = recording.tensors.iter();
                let values = values.map(|tensor| tensor.elements * tensor.encoding.size() as u64);
                passed(recording.bytes - values.sum::<u64>());
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
            let size = tensor.encoding.size() as u64;
            pieces.push(Piece {
                activation: observers.index(&tensor.activation)?,
                ends_sample,
                encoding: tensor.encoding,
                elements,
                source: Source::File(
                    recording.file.clone(),
                    tensor.start + self.position.element * size,
                ),
            });
            bytes += elements * size;
            match ends_sample {
                true => {
                    self.position.tensor += 1;
                    self.position.element = 0;
                }
                false => self.position.element += elements,
            }
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
