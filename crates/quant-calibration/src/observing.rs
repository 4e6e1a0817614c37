//! Observers of all activations, and how pieces of recordings come to them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use quant_core::observer::{MinMax, Observer, ObserverConfig};
use quant_model::{Error, Job};
use quant_simd::Backend;
use rayon::prelude::*;

use super::memory::Memory;
use super::recording::RecordedFile;
use super::values::{Encoding, Values};

/// Values that are read and observed at a time.
const CHUNK: usize = 65_536;
/// Values of a piece: what is cut from a larger tensor.
pub const PIECE: u64 = 1 << 20;
/// Bytes that are worth a task of their own.
const TASK: u64 = 4 << 20;
/// Bytes of histograms that a window may make.
const HISTOGRAMS: usize = 32 << 20;

/// Consecutive values of a sample.
pub struct Piece<'a> {
    pub activation: usize,
    pub ends_sample: bool,
    pub encoding: Encoding,
    pub elements: u64,
    pub source: PieceSource<'a>,
}

pub enum PieceSource<'a> {
    /// From a place on.
    File(Arc<RecordedFile>, u64),
    /// Values of this machine, aligned.
    Memory(&'a [u8]),
    /// So many bytes of such.
    Owned(Vec<u64>, usize),
}

/// Buffer for the values at hand.
#[derive(Default)]
struct Scratch {
    bytes: Vec<u64>,
    rounded: Vec<f32>,
}

impl Piece<'_> {
    /// In the recording.
    pub fn bytes(&self) -> u64 {
        self.elements * self.encoding.size() as u64
    }

    fn chunks(&self, scratch: &mut Scratch, mut take: impl FnMut(Values<'_>)) -> Result<(), Error> {
        let most = CHUNK * self.encoding.size();
        let memory = match &self.source {
            PieceSource::Memory(bytes) => Some(*bytes),
            PieceSource::Owned(words, len) => {
                let bytes: &[u8] = bytemuck::cast_slice(words);
                Some(&bytes[..*len])
            }
            PieceSource::File(..) => None,
        };
        for bytes in memory.unwrap_or_default().chunks(most) {
            take(self.encoding.values(bytes, &mut scratch.rounded));
        }
        match &self.source {
            PieceSource::Memory(_) | PieceSource::Owned(..) => {}
            PieceSource::File(file, start) => {
                let (mut offset, end) = (*start, start + self.bytes());
                while offset < end {
                    let len = Ord::min(most as u64, end - offset) as usize;
                    if scratch.bytes.len() < len.div_ceil(8) {
                        scratch.bytes.resize(len.div_ceil(8), 0);
                    }
                    let bytes = &mut bytemuck::cast_slice_mut(&mut scratch.bytes)[..len];
                    file.read(bytes, offset)?;
                    self.encoding.to_native(bytes);
                    take(self.encoding.values(bytes, &mut scratch.rounded));
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
    memory: Memory,
}

impl Observers {
    pub fn new(config: ObserverConfig, backend: Backend) -> Self {
        Self {
            config,
            backend,
            indices: HashMap::new(),
            observers: Vec::new(),
            memory: Memory::new(config),
        }
    }

    /// Goes on with some that were stored.
    pub fn restore(&mut self, stored: Vec<(String, Observer)>) -> Result<(), Error> {
        for (name, observer) in stored {
            self.memory.add(&name).map_err(Error::Memory)?;
            self.indices.insert(name, self.observers.len());
            self.observers.push(observer);
        }
        Ok(())
    }

    /// The number of an activation.
    pub fn index(&mut self, name: &str) -> Result<usize, Error> {
        if let Some(&index) = self.indices.get(name) {
            return Ok(index);
        }
        self.memory.add(name).map_err(Error::Memory)?;
        let observer = Observer::new(self.config);
        let observer = observer.map_err(|error| Error::Option(error.to_string()))?;
        self.indices.insert(name.into(), self.observers.len());
        self.observers.push(observer);
        Ok(self.observers.len() - 1)
    }

    /// One of them, by its number.
    pub fn get(&mut self, index: usize) -> &mut Observer {
        &mut self.observers[index]
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
    pub fn observe(&mut self, window: &[Piece<'_>], job: &Job<'_>) -> Result<(), Error> {
        let mut by_activation: BTreeMap<usize, Vec<&Piece<'_>>> = BTreeMap::new();
        for piece in window {
            by_activation
                .entry(piece.activation)
                .or_default()
                .push(piece);
        }
        let mut tasks: Vec<(usize, Vec<&Piece<'_>>)> = Vec::new();
        for (activation, pieces) in by_activation {
            let mut bytes = TASK;
            for piece in pieces {
                if bytes >= TASK {
                    tasks.push((activation, Vec::new()));
                    bytes = 0;
                }
                bytes += piece.bytes();
                if let Some((_, task)) = tasks.last_mut() {
                    task.push(piece);
                }
            }
        }
        let found: Vec<Result<Found, Error>> = tasks
            .par_iter()
            .map_init(Scratch::default, |scratch, (_, pieces)| {
                self.find(pieces, scratch, job)
            })
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

    fn find(
        &self,
        pieces: &[&Piece<'_>],
        scratch: &mut Scratch,
        job: &Job<'_>,
    ) -> Result<Found, Error> {
        job.check()?;
        let backend = self.backend;
        let done = |piece: &Piece<'_>| (job.progress)(piece.bytes());
        if self.config.bins().is_none() {
            let mut ranges = Vec::with_capacity(pieces.len());
            for piece in pieces {
                let mut range = MinMax::EMPTY;
                piece.chunks(scratch, |values| range.merge(&values.min_max(backend)))?;
                ranges.push((range, piece.ends_sample));
                done(piece);
            }
            return Ok(Found::Ranges(ranges));
        }
        let mut part =
            Observer::new(self.config).map_err(|error| Error::Option(error.to_string()))?;
        for piece in pieces {
            piece.chunks(scratch, |values| values.observe_part(backend, &mut part))?;
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
