//! quant's own convention: codes under the tensor's name, `NAME.scale` and, where the scheme stores
//! them, `NAME.zero_point`; a record of each in the file's metadata.

use std::collections::BTreeMap;

use quant_core::OffsetKind;
use quant_model::report::Decision;
use quant_model::scheme_record::{KEY, Records};
use quant_model::{Error, Job, SchemeRecord};
use quant_simd::{Backend, TensorQuantizer};

use super::{
    Convention, Found, OutputFile, Recode, Recoded, Step, TensorParts, kept_files, type_name,
};
use crate::model_files::ModelFiles;
use crate::part::Part;

pub(super) struct Native;

impl Convention for Native {
    fn supports(&self, _name: &str, quantizer: &TensorQuantizer) -> Result<(), String> {
        match quantizer.scheme.offset() {
            OffsetKind::Bias => Err(format!(
                "the dialect {} stores float biases, for which the format has no place",
                quantizer.scheme.dialect
            )),
            _ => Ok(()),
        }
    }

    fn recode(&self) -> Result<Recode, &'static str> {
        Ok(|quantizer, zero_points, _| {
            Ok(Recoded {
                quantizer: quantizer.clone(),
                flip: 0,
                zero_points: zero_points.to_vec(),
            })
        })
    }

    fn parts(&self, name: &str, quantizer: &TensorQuantizer) -> TensorParts {
        let dtype = quantizer.scheme.dtype;
        let packed = dtype.packing().is_packed();
        let byte = match (packed, dtype.is_signed()) {
            (false, true) => "I8",
            (false, false) | (true, _) => "U8",
        };
        let scale_shape = quantizer.blocks.scale_shape();
        TensorParts {
            codes: Part {
                name: name.into(),
                dtype: byte.into(),
                shape: match packed {
                    true => vec![quantizer.codes_len()],
                    false => quantizer.blocks.shape().to_vec(),
                },
                len: quantizer.codes_len(),
            },
            scales: Part {
                name: format!("{name}.scale"),
                dtype: type_name(quantizer.scale_type()).into(),
                shape: scale_shape.clone(),
                len: quantizer.scales_len(),
            },
            offsets: quantizer.scheme.stores_zero_point().then(|| Part {
                name: format!("{name}.zero_point"),
                dtype: if dtype.is_signed() { "I8" } else { "U8" }.into(),
                shape: scale_shape,
                len: quantizer.zero_points_len(),
            }),
            constants: Vec::new(),
        }
    }

    fn files<'m>(
        &self,
        model: &'m ModelFiles,
        decisions: &[Decision],
        job: &Job<'_>,
    ) -> Result<Vec<OutputFile<'m>>, Error> {
        let mut files = kept_files(self, model, decisions, job)?;
        for file in &mut files {
            let mut records = BTreeMap::new();
            for step in &file.steps {
                let Step::Quantize { tensor, codes, .. } = step else {
                    continue;
                };
                if let Decision::Quantize(quantizer) = &decisions[*tensor] {
                    let record = SchemeRecord::from_quantizer(quantizer);
                    records.insert(codes.part.clone(), record);
                }
            }
            self.describe(file, records)?;
        }
        Ok(files)
    }

    fn describe(
        &self,
        file: &mut OutputFile<'_>,
        tensors: BTreeMap<String, SchemeRecord>,
    ) -> Result<(), Error> {
        let records = Records {
            version: 1,
            tensors,
        };
        let records = serde_json::to_string(&records)
            .map_err(|error| Error::file(file.like.path(), error.to_string()))?;
        file.metadata.insert(KEY.into(), records);
        Ok(())
    }

    fn find(&self, files: &ModelFiles, job: &Job<'_>) -> Result<Found, Error> {
        let mut found = Found::default();
        for file in &files.files {
            job.check()?;
            let Some(text) = file.metadata().get(KEY) else {
                continue;
            };
            let parsed: Records = serde_json::from_str(text).map_err(|error| {
                let problem = format!("the metadata `{KEY}` is damaged: {error}");
                Error::file(file.path(), problem)
            })?;
            if parsed.version != 1 {
                let problem = format!(
                    "written by a newer version of quant (format {}); update quant",
                    parsed.version
                );
                return Err(Error::file(file.path(), problem));
            }
            found.records.extend(parsed.tensors);
        }
        Ok(found)
    }

    fn quantizer(
        &self,
        record: &SchemeRecord,
        backend: Backend,
    ) -> Result<TensorQuantizer, String> {
        let quantizer = record.quantizer(backend)?;
        match quantizer.scheme.offset() {
            OffsetKind::Bias => Err(format!(
                "its quantization record is of the dialect {}, which has biases; such a record has none",
                quantizer.scheme.dialect
            )),
            _ => Ok(quantizer),
        }
    }

    fn restore_metadata(&self, metadata: &mut BTreeMap<String, String>) {
        metadata.remove(KEY);
    }
}
