//! Threads for a call.

use std::thread::available_parallelism;

use quant_simd::on_this_thread;
use rayon::{ThreadBuilder, ThreadPoolBuilder};

use crate::QuantStatus;

/// How many threads a number stands for, where there is work for `useful` of them.
pub fn count(threads: usize, useful: usize) -> usize {
    let wanted = match threads {
        0 => available_parallelism().map_or(1, Into::into),
        threads => threads,
    };
    wanted.min(useful).max(1)
}

/// Runs `work`, whose parallel iterators use so many threads, which end before it returns. One
/// thread is the caller's.
pub fn run<R, W>(threads: usize, work: W) -> Result<R, QuantStatus>
where
    R: Send,
    W: FnOnce() -> R + Send,
{
    // Inside of a pool already: that is what the caller wants to be used.
    if rayon::current_thread_index().is_some() {
        return Ok(work());
    }
    match threads {
        1 => Ok(on_this_thread(work)),
        threads => ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_scoped(ThreadBuilder::run, |pool| pool.install(work))
            .map_err(|_| QuantStatus::NoThreads),
    }
}
