//! llama.cpp's importance matrices, in their newer form: GGUF files.

use std::collections::BTreeMap;
use std::path::Path;

use quant_model::{Error, Job};

use crate::file::GgufFile;

/// The mean squares of the inputs of weights, by the weights' names: of `NAME.in_sum2` and
/// `NAME.counts`. Those of several experts are added up.
///
/// # Errors
/// A file that cannot be read, or is no importance matrix.
pub fn imatrix(path: &Path) -> Result<BTreeMap<String, Vec<f64>>, Error> {
    let file = GgufFile::open(path, &Job::UNWATCHED)?;
    let mut sums = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for tensor in &file.tensors {
        let (of, to) = match tensor.name.strip_suffix(".in_sum2") {
            Some(name) => (name, &mut sums),
            None => match tensor.name.strip_suffix(".counts") {
                Some(name) => (name, &mut counts),
                None => continue,
            },
        };
        if tensor.dtype.name != "F32" {
            let problem = format!(
                "is {}, where an importance matrix has F32",
                tensor.dtype.name
            );
            return Err(Error::tensor(path, &tensor.name, problem));
        }
        let bytes = file.data(tensor);
        let bytes = bytes.whole()?;
        let floats = bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|&it| f32::from_le_bytes(it));
        let floats: Vec<f64> = floats.map(f64::from).collect();
        let row = tensor.shape.last().copied().unwrap_or(1);
        // Else a row may be of any length.
        if floats.is_empty() {
            return Err(Error::tensor(path, &tensor.name, "has no numbers"));
        }
        to.insert(of.to_owned(), (row, floats));
    }
    if sums.is_empty() {
        let problem = "a GGUF file without NAME.in_sum2 and NAME.counts: no importance matrix";
        return Err(Error::file(path, problem));
    }
    let means = sums.into_iter().map(|(name, (row, sums))| {
        let counts = counts.get(&name).map_or(&[][..], |(_, counts)| counts);
        let count: f64 = counts.iter().sum();
        let is_count = |count: &f64| *count >= 0.0;
        if !(counts.iter().all(is_count) && count.is_finite() && count > 0.0) {
            let problem = format!("`{name}.counts` is missing, 0 or no count");
            return Err(Error::file(path, problem));
        }
        let mut means = vec![0.0; row];
        for matrix in sums.chunks(row) {
            for (mean, sum) in means.iter_mut().zip(matrix) {
                *mean += sum / count;
            }
        }
        Ok((name, means))
    });
    means.collect()
}
