//! Floats of one type as floats of another, window by window on all threads.

use std::path::Path;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use quant_core::FloatType;
use rayon::prelude::*;

use quant_model::block_quantizer::Write;
use quant_model::io::Data;
use quant_model::{Error, Job};

const WINDOW: usize = 1 << 18;

/// Values in another type. One that is too large for it is an error.
pub(crate) fn convert(
    values: &Data<'_>,
    from: FloatType,
    to: FloatType,
    (file, name): (&Path, &str),
    job: &Job<'_>,
    write: Write<'_>,
) -> Result<(), Error> {
    let count = values.len() / from.size();
    let windows = (0..count.div_ceil(WINDOW)).into_par_iter();
    windows.try_for_each(|window| {
        job.check()?;
        let start = window * WINDOW;
        let len = WINDOW.min(count - start);
        let bytes = values.part(start * from.size(), len * from.size())?;
        let wide = quant_simd::widen(&bytes, from);
        let (converted, overflows) = converted(&wide, to);
        if overflows {
            let problem = format!(
                "holds a value that is too large for {to}, in which tensors of this architecture are kept; give the model in bf16"
            );
            return Err(Error::tensor(file, name, problem));
        }
        write(start * to.size(), &converted)?;
        (job.progress)(bytes.len() as u64);
        Ok(())
    })
}

/// The bytes of values in a type, and whether a finite one is infinite there.
fn converted(wide: &[f32], to: FloatType) -> (Vec<u8>, bool) {
    let overflows = |narrow: &dyn Fn(usize) -> bool| {
        let mut values = wide.iter().enumerate();
        values.any(|(at, value)| value.is_finite() && !narrow(at))
    };
    match to {
        FloatType::F32 => (bytemuck::cast_slice(wide).to_vec(), false),
        FloatType::F16 => {
            let mut narrow = vec![f16::ZERO; wide.len()];
            narrow.convert_from_f32_slice(wide);
            let bytes = bytemuck::cast_slice(&narrow).to_vec();
            (bytes, overflows(&|at| narrow[at].is_finite()))
        }
        FloatType::Bf16 => {
            let mut narrow = vec![bf16::ZERO; wide.len()];
            narrow.convert_from_f32_slice(wide);
            let bytes = bytemuck::cast_slice(&narrow).to_vec();
            (bytes, overflows(&|at| narrow[at].is_finite()))
        }
    }
}
