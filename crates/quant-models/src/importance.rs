//! Files that say how large the inputs of weights are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use quant_model::error::{command, option};
use quant_model::io::read_bounded;
use quant_model::{Error, HintCommand, InputImportance, sniff};
use quant_safetensors::SafetensorsFile;

/// Bytes of such a file at most.
const MOST: u64 = 1 << 30;
/// Names of tensors are not longer.
const LONGEST: usize = 1 << 16;

/// What writes importance.
fn calibrate() -> String {
    format!(
        "{} with {}",
        command(HintCommand::Calibrate),
        option("importance")
    )
}

fn expected() -> String {
    let calibrate = calibrate();
    format!("give what {calibrate} writes, or an imatrix of llama.cpp")
}

/// Reads the mean squares of the inputs of weights: what `quant calibrate --importance` writes, or one
/// of llama.cpp's importance matrices, of the older kind or a GGUF file.
///
/// ```no_run
/// use quant_models::quant_core::Search;
/// use quant_models::{QuantizeOptions, open_importance};
///
/// let importance = open_importance("imatrix.gguf".as_ref())?;
/// let options = QuantizeOptions::default()
///     .with_search(Search::Mse)
///     .with_importance(importance);
/// # drop(options);
/// # Ok::<(), quant_models::Error>(())
/// ```
///
/// # Errors
/// A file that cannot be read, is damaged, or is of another kind.
pub fn open_importance(path: &Path) -> Result<InputImportance, Error> {
    check_size(path)?;
    let means = match path.extension().and_then(|it| it.to_str()) {
        Some("safetensors") => sums(path)?.means(),
        Some("gguf") => quant_gguf::imatrix(path)?,
        _ => legacy(path)?,
    };
    InputImportance::new(path, means)
}

/// Sums of squares of the inputs of weights, and how many were added up: sample after sample, and of
/// several machines.
///
/// ```
/// use quant_models::ImportanceSums;
/// let mut sums = ImportanceSums::default();
/// // Two rows of two inputs; then two channels of two values each.
/// sums.add("linear", &[1.0, 2.0, 3.0, 4.0], 2, 1)?;
/// sums.add("conv", &[1.0, 1.0, 2.0, 2.0], 2, 2)?;
/// assert_eq!(sums.means()["linear"], [5.0, 10.0]);
/// assert_eq!(sums.means()["conv"], [1.0, 4.0]);
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportanceSums {
    sums: BTreeMap<String, (Vec<f64>, f64)>,
}

impl ImportanceSums {
    /// Adds values of a weight's input, which has so many channels; `inner` values of one channel follow
    /// one another.
    ///
    /// # Errors
    /// Another number of channels than before; values that are no whole number of them.
    pub fn add(
        &mut self,
        name: &str,
        values: &[f32],
        channels: usize,
        inner: usize,
    ) -> Result<(), String> {
        // A batch of nothing says nothing.
        if values.is_empty() {
            return Ok(());
        }
        let row = channels * inner;
        if row == 0 || !values.len().is_multiple_of(row) {
            return Err(format!("{} values in rows of {row}", values.len()));
        }
        let (sums, count) = match self.sums.get_mut(name) {
            Some(known) => known,
            None => {
                let new = (vec![0.0; channels], 0.0);
                self.sums.entry(name.into()).or_insert(new)
            }
        };
        if sums.len() != channels {
            return Err(format!(
                "{channels} inputs, where there were {} before",
                sums.len()
            ));
        }
        for row in values.chunks(row) {
            for (sum, channel) in sums.iter_mut().zip(row.chunks(inner)) {
                let squares = channel
                    .iter()
                    .map(|&value| f64::from(value) * f64::from(value));
                *sum += squares.sum::<f64>();
            }
        }
        *count += (values.len() / channels) as f64;
        Ok(())
    }

    /// Adds those of other samples.
    ///
    /// # Errors
    /// A tensor with another number of inputs.
    pub fn merge(&mut self, other: &Self) -> Result<(), String> {
        for (name, (other, more)) in &other.sums {
            let new = || (vec![0.0; other.len()], 0.0);
            let (sums, count) = self.sums.entry(name.clone()).or_insert_with(new);
            if sums.len() != other.len() {
                let (a, b) = (sums.len(), other.len());
                return Err(format!(
                    "`{name}` has {a} inputs in one file and {b} in another"
                ));
            }
            sums.iter_mut()
                .zip(other)
                .for_each(|(sum, other)| *sum += other);
            *count += more;
        }
        Ok(())
    }

    /// The number of weights.
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// The mean squares.
    pub fn means(&self) -> BTreeMap<String, Vec<f64>> {
        let all = self.sums.iter();
        all.map(|(name, (sums, count))| {
            let means = sums.iter().map(|sum| sum / count.max(1.0));
            (name.clone(), means.collect())
        })
        .collect()
    }

    /// As a safetensors file, from which they can be read and merged again: `NAME.in_sum2` and
    /// `NAME.counts`, in F64.
    pub fn to_safetensors(&self) -> Vec<u8> {
        let mut header = serde_json::Map::new();
        header.insert(
            "__metadata__".into(),
            serde_json::json!({"format": "quant-importance"}),
        );
        let mut data: Vec<u8> = Vec::new();
        for (name, (sums, count)) in &self.sums {
            for (suffix, values) in [("counts", std::slice::from_ref(count)), ("in_sum2", sums)] {
                let start = data.len();
                data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                let entry = serde_json::json!({
                    "dtype": "F64",
                    "shape": [values.len()],
                    "data_offsets": [start, data.len()],
                });
                header.insert(format!("{name}.{suffix}"), entry);
            }
        }
        let mut header = serde_json::Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.append(&mut header);
        file.append(&mut data);
        file
    }

    /// What [`to_safetensors`](Self::to_safetensors) has written.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged, or is of another kind: of an imatrix of llama.cpp too,
    /// which counts otherwise.
    pub fn open(path: &Path) -> Result<Self, Error> {
        check_size(path)?;
        let extension = path.extension().and_then(|it| it.to_str());
        if matches!(extension, Some("gguf" | "dat")) {
            let problem = format!(
                "only files that {} wrote are merged; llama.cpp's own program merges its imatrix files",
                calibrate()
            );
            return Err(Error::file(path, problem));
        }
        sums(path)
    }
}

/// All of it is held in memory.
fn check_size(path: &Path) -> Result<(), Error> {
    let kind = fs::metadata(path).map_err(Error::io(path, "open it"))?;
    if !kind.is_file() || kind.len() > MOST {
        return Err(Error::file(
            path,
            format!("no file of importance: {}", expected()),
        ));
    }
    Ok(())
}

fn sums(path: &Path) -> Result<ImportanceSums, Error> {
    let header = SafetensorsFile::open(path)?;
    let mut found = ImportanceSums::default();
    let mut counts = BTreeMap::new();
    for (name, entry) in header.entries() {
        let bad = |problem: &str| Err(Error::tensor(path, name, problem));
        let data = header.read(entry)?;
        let values = data.as_chunks::<8>().0.iter();
        let values: Vec<f64> = values.map(|&it| f64::from_le_bytes(it)).collect();
        if entry.dtype != "F64" {
            return bad("no sums of squares in F64; the file holds no importance, or is damaged");
        }
        if !values.iter().all(|it| it.is_finite() && *it >= 0.0) {
            return bad("holds NaN, Inf or a number below 0, which no sum of squares is");
        }
        match (name.strip_suffix(".in_sum2"), name.strip_suffix(".counts")) {
            (Some(name), _) => {
                found.sums.insert(name.into(), (values, 0.0));
            }
            (None, Some(name)) => {
                counts.insert(name.to_owned(), values);
            }
            (None, None) => {
                return bad("neither NAME.in_sum2 nor NAME.counts; no file of importance");
            }
        }
    }
    for (name, (_, count)) in &mut found.sums {
        match counts.get(name).map(Vec::as_slice) {
            Some([known]) if *known > 0.0 => *count = *known,
            _ => {
                let problem = "its NAME.counts is missing, or not one number above 0";
                return Err(Error::tensor(path, name, problem));
            }
        }
    }
    match found.is_empty() {
        true => Err(Error::file(path, "holds the importance of no tensor")),
        false => Ok(found),
    }
}

/// llama.cpp's older files: the number of tensors; of each the name's length, the name, how many calls
/// there were, how many values, and these: mean squares times the number of calls.
fn legacy(path: &Path) -> Result<BTreeMap<String, Vec<f64>>, Error> {
    let bytes = read_bounded(path, MOST, &expected())?;
    let read = || {
        let mut rest = &bytes[..];
        let tensors = count(&mut rest, LONGEST)?;
        let mut found = BTreeMap::new();
        for _ in 0..tensors {
            let len = count(&mut rest, LONGEST)?;
            let name = rest.split_off(..len)?;
            let name = std::str::from_utf8(name).ok()?.to_owned();
            let calls = count(&mut rest, usize::MAX)?.max(1) as f64;
            let most = rest.len() / 4;
            let len = count(&mut rest, most)?;
            let values = rest.split_off(..len * 4)?.as_chunks::<4>().0.iter();
            let means = values.map(|&it| f64::from(f32::from_le_bytes(it)) / calls);
            found.insert(name, means.collect());
        }
        Some(found)
    };
    let found: Option<BTreeMap<String, Vec<f64>>> = read();
    found.filter(|found| !found.is_empty()).ok_or_else(|| {
        let problem = format!(
            "neither importance by {} (.safetensors) nor an imatrix of llama.cpp (.gguf or .dat), or damaged",
            calibrate()
        );
        Error::file(path, sniff::instead(&bytes, problem))
    })
}

/// A number that is not below 0, nor more than `most`.
fn count(rest: &mut &[u8], most: usize) -> Option<usize> {
    let bytes = rest.split_off(..4)?.first_chunk::<4>()?;
    let number = usize::try_from(i32::from_le_bytes(*bytes)).ok()?;
    (number <= most).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_written_read_and_merged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let mut a = ImportanceSums::default();
        a.add("w", &[1.0, 2.0, 3.0, 4.0], 2, 1).unwrap();
        fs::write(&path, a.to_safetensors()).unwrap();
        let mut both = ImportanceSums::open(&path).unwrap();
        assert_eq!(both, a);
        both.merge(&a).unwrap();
        assert_eq!(both.means(), a.means());
        assert!(a.add("w", &[1.0; 3], 3, 1).is_err());
        // A batch of nothing leaves no count of 0 behind.
        a.add("empty", &[], 2, 1).unwrap();
        assert_eq!(both.means().len(), a.means().len());
        assert!(open_importance(&path).is_ok());
    }

    #[test]
    fn older_matrices_of_llama_cpp_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imatrix.dat");
        let mut bytes = 1_i32.to_le_bytes().to_vec();
        bytes.extend(19_i32.to_le_bytes());
        bytes.extend(b"blk.0.attn_q.weight");
        bytes.extend([2_i32, 3].iter().flat_map(|it| it.to_le_bytes()));
        bytes.extend([2.0_f32, 0.0, 5.0].iter().flat_map(|it| it.to_le_bytes()));
        bytes.extend(7_i32.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        let means = legacy(&path).unwrap();
        assert_eq!(means["blk.0.attn_q.weight"], [1.0, 0.0, 2.5]);
        for len in 0..bytes.len() - 4 {
            fs::write(&path, &bytes[..len]).unwrap();
            assert!(open_importance(&path).is_err(), "{len}");
        }
    }

    /// Two experts, of three inputs each: their sums and counts are added up.
    #[test]
    fn newer_matrices_of_llama_cpp_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imatrix.gguf");
        let tensors: [(&str, &[u64], &[f32]); 2] = [
            (
                "blk.0.ffn_up_exps.weight.in_sum2",
                &[3, 2],
                &[1.0, 0.0, 3.0, 5.0, 2.0, 1.0],
            ),
            ("blk.0.ffn_up_exps.weight.counts", &[1, 2], &[1.0, 3.0]),
        ];
        fs::write(&path, gguf(&tensors)).unwrap();
        let means = quant_gguf::imatrix(&path).unwrap();
        assert_eq!(means["blk.0.ffn_up_exps.weight"], [1.5, 0.5, 1.0]);
        assert!(open_importance(&path).is_ok());
        // A row of any length, of which there is none; counts that are none.
        let [sums, counts] = tensors;
        for bad in [
            [(sums.0, &[1 << 40, 0][..], &[][..]), counts],
            [(sums.0, &[1 << 61, 0], &[]), counts],
            [sums, (counts.0, counts.1, &[-1.0, 3.0])],
            [sums, (counts.0, counts.1, &[f32::NAN, 3.0])],
        ] {
            fs::write(&path, gguf(&bad)).unwrap();
            assert!(open_importance(&path).is_err(), "{bad:?}");
        }
    }

    /// A file of f32 tensors.
    fn gguf(tensors: &[(&str, &[u64], &[f32])]) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend([2_u64, 0].iter().flat_map(|it| it.to_le_bytes()));
        let mut place = 0_u64;
        for (name, shape, values) in tensors {
            bytes.extend((name.len() as u64).to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend((shape.len() as u32).to_le_bytes());
            bytes.extend(shape.iter().flat_map(|it| it.to_le_bytes()));
            bytes.extend(0_u32.to_le_bytes());
            bytes.extend(place.to_le_bytes());
            place = (place + 4 * values.len() as u64).next_multiple_of(32);
        }
        for (_, _, values) in tensors {
            bytes.resize(bytes.len().next_multiple_of(32), 0);
            bytes.extend(values.iter().flat_map(|it| it.to_le_bytes()));
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes
    }

    #[test]
    fn what_is_no_mean_square_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let mut sums = ImportanceSums::default();
        sums.add("w", &[1.0, 2.0], 2, 1).unwrap();
        let good = sums.to_safetensors();
        for (bad, word) in [(f64::NAN, "NaN"), (-1.0, "below 0"), (f64::INFINITY, "Inf")] {
            let mut bytes = good.clone();
            let end = bytes.len();
            bytes[end - 8..].copy_from_slice(&bad.to_le_bytes());
            fs::write(&path, &bytes).unwrap();
            let error = open_importance(&path).unwrap_err().to_string();
            assert!(
                error.contains(word) && error.contains("`w.in_sum2`"),
                "{error}"
            );
        }
    }
}
