//! What takes long to free.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::Job;

/// A value of many parts. Once its job is cancelled, another thread frees it: for a million tensors
/// that takes half a second, and whoever pressed Ctrl-C waits.
///
/// ```
/// use quant_model::{Job, Large};
///
/// let names = Large::new(vec!["layer.0.weight".to_owned()], &Job::UNWATCHED);
/// assert_eq!(names.len(), 1);
/// ```
pub struct Large<'a, T: Send + 'static> {
    value: Option<T>,
    cancelled: &'a AtomicBool,
}

impl<'a, T: Send + 'static> Large<'a, T> {
    /// Holds `value` for `job`.
    pub fn new(value: T, job: &Job<'a>) -> Self {
        Self {
            value: Some(value),
            cancelled: job.cancelled,
        }
    }

    /// The value itself.
    pub fn into_inner(mut self) -> T {
        self.value.take().expect("only the end takes it")
    }
}

impl<T: Send + 'static> Deref for Large<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("only the end takes it")
    }
}

impl<T: Send + 'static> DerefMut for Large<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("only the end takes it")
    }
}

impl<T: Send + 'static> Drop for Large<'_, T> {
    fn drop(&mut self) {
        let Some(value) = self.value.take() else {
            return;
        };
        if self.cancelled.load(Ordering::Relaxed) {
            // Without a thread, the closure is freed here, and the value with it.
            let _ = thread::Builder::new().spawn(move || drop(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;
    use std::thread;

    use super::Large;
    use crate::Job;

    struct Sends(mpsc::Sender<thread::ThreadId>);

    impl Drop for Sends {
        fn drop(&mut self) {
            self.0.send(thread::current().id()).unwrap();
        }
    }

    #[test]
    fn another_thread_frees_what_a_cancelled_job_held() {
        for is_cancelled in [false, true] {
            let cancelled = AtomicBool::new(is_cancelled);
            let job = Job::new().with_cancel(&cancelled);
            let (sender, receiver) = mpsc::channel();
            drop(Large::new(Sends(sender.clone()), &job));
            let other = receiver.recv().unwrap() != thread::current().id();
            assert_eq!(other, is_cancelled);
            drop(Large::new(Sends(sender), &job).into_inner());
            assert_eq!(receiver.recv().unwrap(), thread::current().id());
        }
    }
}
