//! Threads for a call.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;

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
    R: Send + 'static,
    W: FnOnce() -> R + Send + 'static,
{
    // Inside of a pool already: that is what the caller wants to be used.
    if rayon::current_thread_index().is_some() {
        return Ok(work());
    }
    match threads {
        1 => run_here(work),
        threads => ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_scoped(ThreadBuilder::run, |pool| pool.install(work))
            .map_err(|_| QuantStatus::NoThreads),
    }
}

/// A pool whose only thread is the caller's: rayon would start one, and keep it.
fn run_here<R, W>(work: W) -> Result<R, QuantStatus>
where
    R: Send + 'static,
    W: FnOnce() -> R + Send + 'static,
{
    let mut thread = None;
    let builder = ThreadPoolBuilder::new().num_threads(1);
    // A panic leaves no result, and is seen by that.
    let builder = builder.panic_handler(|_| {});
    let pool = builder.spawn_handler(|it| -> io::Result<()> {
        thread = Some(it);
        Ok(())
    });
    let pool = pool.build().map_err(|_| QuantStatus::NoThreads)?;
    let result = Arc::new(Mutex::new(None));
    let place = Arc::clone(&result);
    pool.spawn(move || {
        let made = work();
        if let Ok(mut place) = place.lock() {
            *place = Some(made);
        }
    });
    // The thread runs until the pool is gone and its work is done.
    drop(pool);
    thread.ok_or(QuantStatus::Internal)?.run();
    let made = result.lock().map_or(None, |mut place| place.take());
    made.ok_or(QuantStatus::Internal)
}
