//! Who does the work on a tensor, and what can end it.

use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError};

use quant_core::ParamsError;
use rayon::prelude::*;

use super::ProcessError;
use crate::memory::{self, NoMemory};

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, in which this thread quantizes and dequantizes tensors alone: rayon is not asked, so
/// that no pool is started. Where there is not enough memory for something, the functions of
/// [`TensorQuantizer`](crate::TensorQuantizer) that can return [`ProcessError::NoMemory`] do so.
///
/// ```
/// let here = std::thread::current().id();
/// assert_eq!(quant_simd::on_this_thread(|| std::thread::current().id()), here);
/// ```
pub fn on_this_thread<R>(work: impl FnOnce() -> R) -> R {
    struct Before(bool);

    impl Drop for Before {
        fn drop(&mut self) {
            ALONE.set(self.0);
        }
    }

    let _before = Before(ALONE.replace(true));
    work()
}

/// Whether this thread does that many things alone: one is not worth waking another thread.
fn is_alone(count: usize) -> bool {
    count < 2 || ALONE.get()
}

/// How many threads there are.
pub(super) fn threads() -> usize {
    match ALONE.get() {
        true => 1,
        false => rayon::current_num_threads(),
    }
}

/// Work that ended with an error, which is kept elsewhere.
struct Ended;

/// Does the work for each number below `count`, on all threads. The one place that asks rayon: what is
/// generic here is compiled for every kind of work.
fn on_all_threads(
    count: usize,
    work: &(dyn Fn(usize) -> Result<(), Ended> + Sync),
) -> Result<(), Ended> {
    (0..count).into_par_iter().try_for_each(work)
}

/// The first error of some thread, until all have ended.
struct FirstError<E>(Mutex<Option<E>>);

impl<E> FirstError<E> {
    fn new() -> Self {
        Self(Mutex::new(None))
    }

    fn keep(&self, error: E) -> Ended {
        locked(&self.0).get_or_insert(error);
        Ended
    }

    fn into_result(self) -> Result<(), E> {
        let kept = self.0.into_inner();
        kept.unwrap_or_else(PoisonError::into_inner)
            .map_or(Ok(()), Err)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `work` makes of each number below `count`, in order, or the first error of all.
pub(super) fn each<T: Send, E: Send + From<NoMemory>>(
    count: usize,
    work: impl Fn(usize) -> Result<T, E> + Sync + Send,
) -> Result<Vec<T>, E> {
    let mut all = memory::room(count)?;
    if is_alone(count) {
        for i in 0..count {
            all.push(work(i)?);
        }
        return Ok(all);
    }
    let mut places: Vec<Mutex<Option<Result<T, E>>>> = memory::room(count)?;
    places.resize_with(count, Mutex::default);
    let _ = on_all_threads(count, &|i| {
        *locked(&places[i]) = Some(work(i));
        Ok(())
    });
    for place in places {
        let made = place.into_inner().unwrap_or_else(PoisonError::into_inner);
        all.extend(made.transpose()?);
    }
    Ok(all)
}

/// Does the work for each number below `count`, and ends with the first error that any of them meets.
pub(super) fn for_each<E: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<(), E> + Sync + Send,
) -> Result<(), E> {
    if is_alone(count) {
        return (0..count).try_for_each(work);
    }
    let first = FirstError::new();
    let _ = on_all_threads(count, &|i| work(i).map_err(|error| first.keep(error)));
    first.into_result()
}

/// What becomes of a new `T` by all numbers below `count`: by some of them, and `merge` joins what became
/// of it by some and by others. The order must not matter.
pub(super) fn fold<T: Send, E: Send>(
    count: usize,
    new: impl Fn() -> Result<T, E> + Sync + Send,
    step: impl Fn(T, usize) -> Result<T, E> + Sync + Send,
    merge: impl Fn(T, T) -> T + Sync + Send,
) -> Result<T, E> {
    if is_alone(count) {
        return (0..count).try_fold(new()?, step);
    }
    let (first, so_far) = (FirstError::new(), Mutex::new(Vec::new()));
    let _ = on_all_threads(count, &|i| {
        let before = locked(&so_far).pop();
        let next = before.map_or_else(&new, Ok).and_then(|it| step(it, i));
        let next = next.map_err(|error| first.keep(error))?;
        locked(&so_far).push(next);
        Ok(())
    });
    first.into_result()?;
    let so_far = so_far.into_inner().unwrap_or_else(PoisonError::into_inner);
    so_far.into_iter().reduce(merge).map_or_else(new, Ok)
}

/// What is wrong with a tensor, or with the machine.
#[derive(Debug)]
pub(super) enum Flaw {
    /// A block without usable parameters.
    Block(usize, ParamsError),
    NoMemory(NoMemory),
}

impl From<(usize, ParamsError)> for Flaw {
    fn from((block, source): (usize, ParamsError)) -> Self {
        Self::Block(block, source)
    }
}

impl From<NoMemory> for Flaw {
    fn from(lack: NoMemory) -> Self {
        Self::NoMemory(lack)
    }
}

impl<E> From<Flaw> for ProcessError<E> {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Block(block, source) => Self::Params { block, source },
            Flaw::NoMemory(_) => Self::NoMemory,
        }
    }
}

/// That, or the error of the sink or the source.
pub(super) enum PassError<E> {
    Flaw(Flaw),
    Sink(E),
}

impl<E, F: Into<Flaw>> From<F> for PassError<E> {
    fn from(flaw: F) -> Self {
        Self::Flaw(flaw.into())
    }
}

impl<E> From<PassError<E>> for ProcessError<E> {
    fn from(error: PassError<E>) -> Self {
        match error {
            PassError::Flaw(flaw) => flaw.into(),
            PassError::Sink(error) => Self::Sink(error),
        }
    }
}
