//! The threads that all functions on arrays share.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::errors::Raised;

/// A child process has none of its parent's threads, and a lock that one of these held stays locked:
/// each generation of processes has a place of its own.
static POOLS: [Mutex<Option<Arc<ThreadPool>>>; 64] = [const { Mutex::new(None) }; 64];
static GENERATION: AtomicUsize = AtomicUsize::new(0);
/// 0: as many as there are cores.
static THREADS: AtomicUsize = AtomicUsize::new(0);

fn place() -> &'static Mutex<Option<Arc<ThreadPool>>> {
    &POOLS[GENERATION.load(Ordering::Relaxed) % POOLS.len()]
}

/// Called in a child process, before it has threads.
#[pyfunction]
pub fn forked() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// How many threads work on an array.
#[pyfunction]
pub fn get_num_threads() -> usize {
    match THREADS.load(Ordering::Relaxed) {
        0 => available_parallelism().map_or(1, NonZero::get),
        threads => threads,
    }
}

/// Work that has begun keeps its threads.
#[pyfunction]
pub fn set_num_threads(threads: usize) {
    THREADS.store(threads, Ordering::Relaxed);
    *place().lock().unwrap_or_else(PoisonError::into_inner) = None;
}

fn pool() -> Result<Arc<ThreadPool>, Raised> {
    let mut place = place().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pool) = &*place {
        return Ok(Arc::clone(pool));
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(get_num_threads())
        .thread_name(|index| format!("linquant-{index}"))
        .build()
        .map_err(|error| Raised::new("Error", format!("cannot start threads: {error}")))?;
    Ok(Arc::clone(place.insert(Arc::new(pool))))
}

/// Runs `work` on the pool, while other Python threads go on.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> Result<T, Raised> {
    py.detach(|| Ok(pool()?.install(work)))
}
