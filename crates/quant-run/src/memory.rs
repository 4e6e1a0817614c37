//! How much memory a run may take.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::tensor::Tensor;

/// Counts the bytes of values that are alive; values that share their elements count once.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    live: Cell<usize>,
    shared: RefCell<HashMap<usize, (usize, usize)>>,
}

impl Budget {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            live: Cell::new(0),
            shared: RefCell::default(),
        }
    }

    /// Bytes of what is alive.
    pub fn live(&self) -> usize {
        self.live.get()
    }

    /// Whether there is room for so many bytes more.
    pub fn check(&self, bytes: usize) -> Result<(), String> {
        let live = self.live.get();
        match live.checked_add(bytes).filter(|&all| all <= self.limit) {
            Some(_) => Ok(()),
            None => Err(format!(
                "its result takes {}, and {} of the {} that a run may take are in use; allow more memory",
                shown(bytes),
                shown(live),
                shown(self.limit)
            )),
        }
    }

    /// Bytes that no value accounts for, such as weights, are taken.
    pub fn take(&self, bytes: usize) {
        self.live.set(self.live.get().saturating_add(bytes));
    }

    /// The same are given back.
    pub fn give_back(&self, bytes: usize) {
        self.live.set(self.live.get().saturating_sub(bytes));
    }

    /// A value has been made.
    pub fn add(&self, tensor: &Tensor) {
        let (bytes, at) = tensor.values.extent();
        let mut shared = self.shared.borrow_mut();
        let (_, count) = shared.entry(at).or_insert((bytes, 0));
        *count += 1;
        if *count == 1 {
            self.live.set(self.live.get().saturating_add(bytes));
        }
    }

    /// A value is given up.
    pub fn remove(&self, tensor: &Tensor) {
        let (_, at) = tensor.values.extent();
        let mut shared = self.shared.borrow_mut();
        let Some((bytes, count)) = shared.get_mut(&at) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.live.set(self.live.get().saturating_sub(*bytes));
            shared.remove(&at);
        }
    }
}

/// Decoded and packed weights that stay in memory between runs.
#[derive(Debug)]
pub(crate) struct Kept {
    most: usize,
    bytes: AtomicUsize,
}

impl Kept {
    pub fn new(most: usize) -> Self {
        Self {
            most,
            bytes: AtomicUsize::new(0),
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether so many bytes more may stay; then they count.
    pub fn take(&self, bytes: usize) -> bool {
        let more = |now: usize| now.checked_add(bytes).filter(|&all| all <= self.most);
        let taken = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.is_ok()
    }
}

/// A number of bytes for people.
pub(crate) fn shown(bytes: usize) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
