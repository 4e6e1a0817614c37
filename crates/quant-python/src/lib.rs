//! The native half of the Python package `linquant`: thin classes and functions over the Rust
//! libraries. What users call, and all documentation, is in `python/linquant`.
//!
//! Arrays cross the border as flat buffers of bytes with a type's name beside them: Python makes
//! views of what it has, and allocates what comes out.

mod command;
mod dlpack;
mod errors;
mod floats;
mod observers;
mod pool;
mod tensor;

use pyo3::prelude::*;

/// What the package is made of. Nothing in it waits for the interpreter's lock.
#[pymodule(gil_used = false)]
mod _native {
    use super::*;
    #[pymodule_export]
    use crate::command::{call, run};
    #[pymodule_export]
    use crate::dlpack::retype_bfloat16;
    #[pymodule_export]
    use crate::errors::functions_of_hints;
    #[pymodule_export]
    use crate::observers::{ChannelState, ObserverState, activation_params};
    #[pymodule_export]
    use crate::pool::{forked, get_num_threads, set_num_threads};
    #[pymodule_export]
    use crate::tensor::{Quantizer, backends, quantize_given};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
