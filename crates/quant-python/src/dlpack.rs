//! bfloat16 from other libraries: NumPy takes no such array by DLPack, but the same bits as uint16.

#![expect(unsafe_code, reason = "the content of a capsule is C")]

use std::ffi::c_void;

use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use crate::errors::Raised;

/// The beginning of `DLManagedTensor`, as far as the type.
#[repr(C)]
struct Head {
    data: *mut c_void,
    device: [i32; 2],
    rank: i32,
    code: u8,
    bits: u8,
    lanes: u16,
}

const UNSIGNED: u8 = 1;
const BFLOAT: u8 = 4;

/// Makes a capsule of bfloat16, as `__dlpack__()` returns it, one of uint16, and says whether it was
/// one. Other capsules stay as they are.
///
/// # Errors
/// What is no such capsule, or one that somebody has taken.
#[pyfunction]
pub fn retype_bfloat16(capsule: &Bound<'_, PyCapsule>) -> PyResult<bool> {
    let Ok(head) = capsule.pointer_checked(Some(c"dltensor")) else {
        return Err(Raised::new("ArrayError", "its __dlpack__ gives no tensor").into());
    };
    let head: *mut Head = head.as_ptr().cast();
    // SAFETY: a capsule of this name holds a pointer to a DLManagedTensor, which begins like a `Head`
    // and lives as long as the capsule. Whoever holds the capsule owns what is in it; this is us, and
    // the interpreter gives it to nobody else meanwhile.
    unsafe {
        let is_bfloat = (*head).code == BFLOAT && (*head).bits == 16 && (*head).lanes == 1;
        if is_bfloat {
            (*head).code = UNSIGNED;
        }
        Ok(is_bfloat)
    }
}
