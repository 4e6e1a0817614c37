//! Runs a package once and writes every float that it computes: `record_values MODEL INPUTS.npz
//! OUT.safetensors`. `tests/architectures.py` compares them with torch's.

use std::error::Error;
use std::path::Path;

use quant_run::{Model, RunOptions, Tensor, Watch, read_arrays, write_safetensors};

/// Keeps what is computed; of a loop, what it computes first.
#[derive(Default)]
struct Values(Vec<(String, Tensor)>);

impl Watch for Values {
    fn value(
        &mut self,
        _: &str,
        _: &str,
        name: &str,
        value: &Tensor,
    ) -> Result<(), quant_run::Error> {
        let is_new = self.0.iter().all(|(other, _)| other != name);
        if value.floats().is_some() && is_new {
            self.0.push((name.to_owned(), value.clone()));
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, inputs, out] = arguments.as_slice() else {
        return Err("record_values MODEL INPUTS.npz OUT.safetensors".into());
    };
    let model = Model::open(Path::new(model), RunOptions::default())?;
    let arrays = read_arrays(Path::new(inputs))?;
    let given: Vec<(&str, Tensor)> = arrays
        .iter()
        .map(|(name, tensor)| (name.as_deref().unwrap_or_default(), tensor.clone()))
        .collect();
    let mut values = Values::default();
    model.run(&given, &mut model.states()?, &mut values)?;
    Ok(std::fs::write(out, write_safetensors(&values.0)?)?)
}
