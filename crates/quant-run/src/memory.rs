//! How much memory a run may take.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

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

    /// Whether there is room for so many bytes more.
    pub fn check(&self, bytes: usize) -> Result<(), String> {
        let live = self.live.get();
        match live.checked_add(bytes).filter(|&all| all <= self.limit) {
            Some(_) => Ok(()),
            None => Err(format!(
                "its result takes {}, and {} of the {} that a run may take are in use; allow more",
                megabytes(bytes),
                megabytes(live),
                megabytes(self.limit)
            )),
        }
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

fn megabytes(bytes: usize) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
