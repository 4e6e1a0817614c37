//! Who does the work on a tensor, and what can end it.

use std::cell::Cell;

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

/// How many threads there are.
pub(super) fn threads() -> usize {
    match ALONE.get() {
        true => 1,
        false => rayon::current_num_threads(),
    }
}

/// What `work` makes of each number below `count`, in order, or the first trouble of all.
pub(super) fn each<T: Send, E: Send + From<NoMemory>>(
    count: usize,
    work: impl Fn(usize) -> Result<T, E> + Sync + Send,
) -> Result<Vec<T>, E> {
    if !ALONE.get() {
        let all: Vec<Result<T, E>> = (0..count).into_par_iter().map(work).collect();
        return all.into_iter().collect();
    }
    let mut all = memory::room(count)?;
    for i in 0..count {
        all.push(work(i)?);
    }
    Ok(all)
}

/// Does the work for each number below `count`, and ends with any trouble.
pub(super) fn for_each<E: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<(), E> + Sync + Send,
) -> Result<(), E> {
    match ALONE.get() {
        true => (0..count).try_for_each(work),
        false => (0..count).into_par_iter().try_for_each(work),
    }
}

/// What becomes of a new `T` by all numbers below `count`: by some of them in order, and `merge` joins
/// what became of it by some and by others.
pub(super) fn fold<T: Send, E: Send>(
    count: usize,
    new: impl Fn() -> Result<T, E> + Sync + Send,
    step: impl Fn(T, usize) -> Result<T, E> + Sync + Send,
    merge: impl Fn(T, T) -> T + Sync + Send,
) -> Result<T, E> {
    if ALONE.get() {
        return (0..count).try_fold(new()?, step);
    }
    let next = |so_far: Option<T>, i| {
        let so_far = so_far.map_or_else(&new, Ok)?;
        step(so_far, i).map(Some)
    };
    let joined = (0..count)
        .into_par_iter()
        .try_fold(|| None, next)
        .try_reduce(
            || None,
            |a, b| {
                Ok(match (a, b) {
                    (Some(a), Some(b)) => Some(merge(a, b)),
                    (a, b) => a.or(b),
                })
            },
        )?;
    joined.map_or_else(new, Ok)
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
    fn from(trouble: PassError<E>) -> Self {
        match trouble {
            PassError::Flaw(flaw) => flaw.into(),
            PassError::Sink(error) => Self::Sink(error),
        }
    }
}
