//! Passes an npz file through a model whenever it reads a line, and answers with a line:
//! `time_passes MODEL INPUTS.npz`. `benches/inference.py` times it beside other runtimes.
//!
//! A line `profile` is answered by the nanoseconds that each kind of operation took.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use quant_run::{Model, Quiet, RunOptions, Tensor, Watch, read_arrays};

/// Adds up what each kind of operation takes.
struct Profile {
    since: Instant,
    kinds: BTreeMap<String, u128>,
}

impl Watch for Profile {
    fn value(&mut self, kind: &str, _: &str, _: &str, _: &Tensor) -> Result<(), quant_run::Error> {
        *self.kinds.entry(kind.to_owned()).or_default() += self.since.elapsed().as_nanos();
        self.since = Instant::now();
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, inputs] = arguments.as_slice() else {
        return Err("time_passes MODEL INPUTS.npz".into());
    };
    let model = Model::open(Path::new(model), RunOptions::default())?;
    let arrays = read_arrays(Path::new(inputs))?;
    let given: Vec<(&str, Tensor)> = arrays
        .iter()
        .map(|(name, tensor)| (name.as_deref().unwrap_or_default(), tensor.clone()))
        .collect();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let mut states = model.states()?;
        if line? == "profile" {
            let (since, kinds) = (Instant::now(), BTreeMap::new());
            let mut profile = Profile { since, kinds };
            model.run(&given, &mut states, &mut profile)?;
            writeln!(out, "{:?}", profile.kinds)?;
        } else {
            model.run(&given, &mut states, &mut Quiet)?;
            writeln!(out, "done")?;
        }
        out.flush()?;
    }
    Ok(())
}
