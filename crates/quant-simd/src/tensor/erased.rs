//! Every sink looks the same to the driver, which is compiled once: here, and not by everyone who
//! has a sink. A call costs nothing beside the tile that is handed over.

use std::sync::{Mutex, PoisonError};

use super::{Failure, Sink};

/// The sink has refused a part; the number of its error among those that are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused(usize);

/// A sink whose errors are kept until the driver is done.
struct Kept<'a, S: Sink> {
    sink: &'a S,
    errors: Mutex<Vec<S::Error>>,
}

impl<S: Sink> Kept<'_, S> {
    fn keep(&self, outcome: Result<(), S::Error>) -> Result<(), Refused> {
        outcome.map_err(|error| {
            let errors = self.errors.lock();
            let mut errors = errors.unwrap_or_else(PoisonError::into_inner);
            errors.push(error);
            Refused(errors.len() - 1)
        })
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
    work: impl FnOnce(&Erased<'_>) -> Result<T, Failure<Refused>>,
) -> Result<T, Failure<S::Error>> {
    let kept = Kept {
        sink,
        errors: Mutex::default(),
    };
    let outcome = work(&Erased(&kept));
    outcome.map_err(|failure| match failure {
        Failure::NonFinite { first, count } => Failure::NonFinite { first, count },
        Failure::Params { block, source } => Failure::Params { block, source },
        Failure::Sink(Refused(number)) => {
            let errors = kept.errors.into_inner();
            let mut errors = errors.unwrap_or_else(PoisonError::into_inner);
            Failure::Sink(errors.swap_remove(number))
        }
    })
}
