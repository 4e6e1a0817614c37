//! From blocks back to floats.

use std::path::Path;

use crate::file::GgufFile;
use crate::types::TensorType;
use crate::write::{self, Content, Metadata, Plan, Planned};
use quant_core::FloatType;

use quant_model::restored::nothing_to_restore;
use quant_model::{Error, Inputs, Job, Restored};

/// Restores what is in blocks that quant knows as f32, as ggml does.
pub(crate) fn dequantize(file: &GgufFile, output: &Path, job: &Job<'_>) -> Result<Restored, Error> {
    let (mut tensors, mut restored, mut others) = (Vec::new(), 0, Vec::new());
    for (index, tensor) in file.tensors.iter().enumerate() {
        let (dtype, content) = match tensor.dtype.blocks() {
            Some(blocks) => {
                restored += 1;
                let dtype = TensorType::of_floats(FloatType::F32);
                (dtype, Content::Restore(blocks))
            }
            None => {
                if tensor.dtype.values > 1 {
                    others.push(tensor);
                }
                (tensor.dtype, Content::Copy)
            }
        };
        tensors.push(Planned::new(file, index, dtype, content));
    }
    let more = others.first().map(|first| {
        format!(
            "{} tensors are of types that quant does not restore, such as `{}` of {}",
            others.len(),
            quant_model::error::shortened(&first.name),
            first.dtype.name
        )
    });
    if restored == 0 {
        return Err(nothing_to_restore(file.path(), more.as_deref()));
    }
    let most = TensorType::of_floats(FloatType::F32);
    let plan = Plan {
        version: file.version,
        alignment: file.alignment,
        // Those that stay are what most of it is.
        metadata: Metadata::with_type(file, more.is_none().then_some(most)),
        tensors,
        like: file.path().to_owned(),
    };
    let inputs = Inputs::of_model(file.path());
    let (bytes, mut warnings) = write::write(&plan, output, &inputs, false, job, &mut |_, _| {})?;
    warnings.extend(more.map(|more| format!("{more}; they stay as they are")));
    Ok(Restored::new(bytes, warnings))
}
