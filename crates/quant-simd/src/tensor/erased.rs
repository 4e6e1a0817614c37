//! Every sink looks the same to the driver, which is compiled once: here, and not by everyone who
//! has a sink. A call costs nothing beside the tile that is handed over.

use std::sync::{Mutex, PoisonError};

use super::{ProcessError, Sink, Source};

/// The sink has refused a part, or the source could not give one; the number of the error among
/// those that are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused(pub(super) usize);

/// Errors until the driver is done.
struct Errors<E>(Mutex<Vec<E>>);

impl<E> Errors<E> {
    fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn keep(&self, outcome: Result<(), E>) -> Result<(), Refused> {
        outcome.map_err(|error| {
            let errors = self.0.lock();
            let mut errors = errors.unwrap_or_else(PoisonError::into_inner);
            errors.push(error);
            Refused(errors.len() - 1)
        })
    }

    fn take(self, Refused(number): Refused) -> E {
        let errors = self.0.into_inner();
        let mut errors = errors.unwrap_or_else(PoisonError::into_inner);
        errors.swap_remove(number)
    }
}

/// A sink whose errors are kept.
struct Kept<'a, S: Sink> {
    sink: &'a S,
    errors: &'a Errors<S::Error>,
}

impl<S: Sink> Kept<'_, S> {
    fn keep(&self, outcome: Result<(), S::Error>) -> Result<(), Refused> {
        self.errors.keep(outcome)
    }
}

/// A source whose errors are kept.
struct KeptSource<'a, E> {
    source: &'a dyn Source<Error = E>,
    errors: &'a Errors<E>,
}

impl<E: Send> Source for KeptSource<'_, E> {
    type Error = Refused;

    fn read(&self, offset: usize, buffer: &mut [u8]) -> Result<(), Refused> {
        self.errors.keep(self.source.read(offset, buffer))
    }
}

/// [`Sink`] without its type of errors.
trait Parts: Sync {
    fn codes(&self, offset: usize, bytes: &[u8]) -> Result<(), Refused>;
    fn scales(&self, offset: usize, bytes: &[u8]) -> Result<(), Refused>;
    fn zero_points(&self, offset: usize, bytes: &[u8]) -> Result<(), Refused>;
}

impl<S: Sink> Parts for Kept<'_, S> {
    fn codes(&self, offset: usize, bytes: &[u8]) -> Result<(), Refused> {
        self.keep(self.sink.codes(offset, bytes))
    }

    fn scales(&self, offset: usize, bytes: &[u8]) -> Result<(), Refused> {
        self.keep(self.sink.scales(offset, bytes))
    }

    fn zero_points(&self, offset: usize, bytes: &[u8]) -> Result<(), Refused> {
        self.keep(self.sink.zero_points(offset, bytes))
    }
}

/// Any sink.
pub(super) struct Erased<'a>(&'a dyn Parts);

impl Sink for Erased<'_> {
    type Error = Refused;

    fn codes(&self, offset: usize, bytes: &[u8]) -> Result<(), Refused> {
        self.0.codes(offset, bytes)
    }

    fn scales(&self, offset: usize, bytes: &[u8]) -> Result<(), Refused> {
        self.0.scales(offset, bytes)
    }

    fn zero_points(&self, offset: usize, bytes: &[u8]) -> Result<(), Refused> {
        self.0.zero_points(offset, bytes)
    }
}

/// Lets the driver work for a sink, and puts the sink's own error back.
pub(super) fn erased<S: Sink, T>(
    sink: &S,
    work: impl FnOnce(&Erased<'_>) -> Result<T, ProcessError<Refused>>,
) -> Result<T, ProcessError<S::Error>> {
    let errors = Errors::new();
    let outcome = work(&Erased(&Kept {
        sink,
        errors: &errors,
    }));
    restored(outcome, errors)
}

/// The same with a source.
pub(super) fn erased_from<S: Sink, T>(
    source: &dyn Source<Error = S::Error>,
    sink: &S,
    work: impl FnOnce(&dyn Source<Error = Refused>, &Erased<'_>) -> Result<T, ProcessError<Refused>>,
) -> Result<T, ProcessError<S::Error>> {
    let errors = Errors::new();
    let outcome = {
        let errors = &errors;
        work(
            &KeptSource { source, errors },
            &Erased(&Kept { sink, errors }),
        )
    };
    restored(outcome, errors)
}

/// The same without a sink.
pub(super) fn kept<E: Send, T>(
    source: &dyn Source<Error = E>,
    work: impl FnOnce(&dyn Source<Error = Refused>) -> Result<T, Refused>,
) -> Result<T, E> {
    let errors = Errors::new();
    let outcome = work(&KeptSource {
        source,
        errors: &errors,
    });
    outcome.map_err(|refused| errors.take(refused))
}

fn restored<T, E>(
    outcome: Result<T, ProcessError<Refused>>,
    errors: Errors<E>,
) -> Result<T, ProcessError<E>> {
    outcome.map_err(|failure| match failure {
        ProcessError::Argument(error) => ProcessError::Argument(error),
        ProcessError::NonFinite { first, count } => ProcessError::NonFinite { first, count },
        ProcessError::Params { block, source } => ProcessError::Params { block, source },
        ProcessError::NoMemory => ProcessError::NoMemory,
        ProcessError::Sink(refused) => ProcessError::Sink(errors.take(refused)),
    })
}
