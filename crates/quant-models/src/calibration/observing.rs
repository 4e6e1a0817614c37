//! Observers of all activations, and how pieces of recordings come to them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use quant_core::observer::{MinMax, Observer, ObserverConfig};
use quant_simd::Backend;
use rayon::prelude::*;

use super::data::RecordedFile;
use super::values::Encoding;
use crate::{Error, Job};

/// Values that are decoded and observed at a time.
const CHUNK: usize = 65_536;
/// Values of a piece: what is cut from a larger tensor.
pub const PIECE: u64 = 1 << 20;
/// Bytes that are worth a task of their own.
const TASK: u64 = 4 << 20;
/// Bytes of histograms that a window may make.
const HISTOGRAMS: usize = 32 << 20;

/// Consecutive values of a sample.
pub struct Piece {
    pub activation: usize,
    pub ends_sample: bool,
    pub source: Source,
}

pub enum Source {
    File {
        file: Arc<RecordedFile>,
        encoding: Encoding,
        start: u64,
        elements: u64,
    },
    Memory(Vec<f32>),
}

impl Source {
    /// In the recording.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::File {
                encoding, elements, ..
            } => elements * encoding.size() as u64,
            Self::Memory(values) => 4 * values.len() as u64,
        }
    }

    fn chunks(&self, mut take: impl FnMut(&[f32])) -> Result<(), Error> {
        match self {
            Self::Memory(values) => values.chunks(CHUNK).for_each(take),
            Self::File {
                file,
                encoding,
                start,
                elements,
            } => {
                let size = encoding.size();
                let mut bytes = vec![0; Ord::min(CHUNK, *elements as usize) * size];
                let (mut offset, end) = (*start, start + elements * size as u64);
                while offset < end {
                    let len = Ord::min(bytes.len() as u64, end - offset) as usize;
                    file.read(&mut bytes[..len], offset)?;
                    take(&encoding.decode(&mut bytes[..len]));
                    offset += len as u64;
                }
            }
        }
        Ok(())
    }
}

/// What one task has found of one activation.
enum Found {
    /// Per piece, and whether it ends a sample.
    Ranges(Vec<(MinMax, bool)>),
    Histogram(Observer),
}

/// The observers, in the order in which their activations came.
pub struct Observers {
    config: ObserverConfig,
    backend: Backend,
    indices: HashMap<String, usize>,
    observers: Vec<Observer>,
}

impl Observers {
    pub fn new(config: ObserverConfig, backend: Backend) -> Self {
        Self {
            config,
            backend,
            indices: HashMap::new(),
            observers: Vec::new(),
        }
    }

    /// Goes on with some that were stored.
    pub fn restore(&mut self, stored: Vec<(String, Observer)>) {
        for (name, observer) in stored {
            self.indices.insert(name, self.observers.len());
            self.observers.push(observer);
        }
    }

    /// The number of an activation.
    pub fn index(&mut self, name: &str) -> Result<usize, Error> {
        if let Some(&index) = self.indices.get(name) {
            return Ok(index);
        }
        let observer = Observer::new(self.config);
        let observer = observer.map_err(|error| Error::Option(error.to_string()))?;
        self.indices.insert(name.into(), self.observers.len());
        self.observers.push(observer);
        Ok(self.observers.len() - 1)
    }

    /// Pieces that should be observed together at most, so that what comes of them is small.
    pub fn most_pieces(&self) -> usize {
        match self.config.bins() {
            Some(bins) => HISTOGRAMS / (8 * bins),
            None => 4096,
        }
    }

    /// Observes pieces on all threads; the result is that of one after the other. After an error
    /// nothing was observed.
    pub fn observe(&mut self, window: &[Piece], job: &Job<'_>) -> Result<(), Error> {
        let mut by_activation: BTreeMap<usize, Vec<&Piece>> = BTreeMap::new();
        for piece in window {
            by_activation
                .entry(piece.activation)
                .or_default()
                .push(piece);
        }
        let mut tasks: Vec<(usize, Vec<&Piece>)> = Vec::new();
        for (activation, pieces) in by_activation {
            let mut bytes = TASK;
            for piece in pieces {
                if bytes >= TASK {
                    tasks.push((activation, Vec::new()));
                    bytes = 0;
                }
                bytes += piece.source.bytes();
                if let Some((_, task)) = tasks.last_mut() {
                    task.push(piece);
                }
            }
        }
        let found: Vec<Result<Found, Error>> = tasks
            .par_iter()
            .map(|(_, pieces)| self.find(pieces, job))
            .collect();
        // The first error in order, not in that of threads; and then nothing was observed.
        let found: Vec<Found> = found.into_iter().collect::<Result<_, _>>()?;
        for ((activation, _), found) in tasks.iter().zip(found) {
            let observer = &mut self.observers[*activation];
            match found {
                Found::Ranges(ranges) => {
                    for (range, ends_sample) in ranges {
                        observer.observe_part_with(&range, |_, _| {});
                        if ends_sample {
                            observer.end_sample();
                        }
                    }
                }
                Found::Histogram(part) => observer
                    .merge(&part)
                    .map_err(|error| Error::Option(error.to_string()))?,
            }
        }
        Ok(())
    }

    fn find(&self, pieces: &[&Piece], job: &Job<'_>) -> Result<Found, Error> {
        job.check()?;
        let backend = self.backend;
        let done = |piece: &Piece| (job.progress)(piece.source.bytes());
        if self.config.bins().is_none() {
            let mut ranges = Vec::with_capacity(pieces.len());
            for piece in pieces {
                let mut range = MinMax::EMPTY;
                piece
                    .source
                    .chunks(|values| range.merge(&backend.min_max(values)))?;
                ranges.push((range, piece.ends_sample));
                done(piece);
            }
            return Ok(Found::Ranges(ranges));
        }
        let mut part =
            Observer::new(self.config).map_err(|error| Error::Option(error.to_string()))?;
        for piece in pieces {
            piece
                .source
                .chunks(|values| backend.observe_part(values, &mut part))?;
            if piece.ends_sample {
                part.end_sample();
            }
            done(piece);
        }
        Ok(Found::Histogram(part))
    }

    /// Their states.
    pub fn stored(&self) -> Vec<(String, Observer)> {
        let mut names: Vec<(&String, &usize)> = self.indices.iter().collect();
        names.sort_by_key(|(_, index)| **index);
        names
            .into_iter()
            .map(|(name, &index)| (name.clone(), self.observers[index].clone()))
            .collect()
    }
}
