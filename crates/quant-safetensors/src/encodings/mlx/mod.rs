//! MLX's affine convention, as `mlx_lm.convert -q` of mlx-lm 0.32 writes it: `M.weight` of U32,
//! `M.scales` and `M.biases` in the weight's own type, and a configuration that says bits and group
//! size, of all modules and of those that differ.
//!
//! Matrices called `M.weight` are quantized along their rows, embeddings and routers included, where
//! the group size divides the row. Experts are stacked as `switch_mlp`: mlx-lm stacks the floats of
//! single experts, but not their scales.

mod config;
mod experts;
mod families;
mod read;

use std::collections::BTreeMap;
use std::path::Path;

use quant_core::{Dialect, IntType, Mode, Scheme};
use quant_model::error::shortened;
use quant_model::facts::Facts;
use quant_model::options::QuantizeOptions;
use quant_model::report::Decision;
use quant_model::settings::{Grouping, Settings};
use quant_model::{Asked, Error, Job};
use quant_simd::TensorQuantizer;

use self::families::Rule;
use super::{
    Convention, Document, Found, OutputFile, PartOffset, Recode, Step, TensorParts, Written,
    type_name,
};
use crate::model_files::ModelFiles;
use crate::part::Part;
use crate::{Entry, SafetensorsFile};

const GROUPS: [usize; 3] = [32, 64, 128];
/// What mlx-lm puts into a file at most, 5 GiB.
const SHARD: usize = 5 << 30;
const WEIGHT: &str = ".weight";

pub(super) struct Mlx;

impl Convention for Mlx {
    fn check_model(&self, model: &ModelFiles, options: &QuantizeOptions) -> Result<(), Error> {
        if let Some(Asked {
            group_size: size, ..
        }) = options.asked()
            && !GROUPS.contains(&size)
        {
            let problem = format!("groups of {size}: MLX has groups of 32, 64 or 128");
            return Err(match &options.plan {
                None => Error::Option(problem),
                Some(plan) => Error::file(plan.path(), format!("`asked`: {problem}")),
            });
        }
        config::check(model)
    }

    fn adjust(
        &self,
        model: &ModelFiles,
        facts: &Facts,
        settings: &mut Settings,
    ) -> Result<(), String> {
        let name = &facts.name;
        let family = config::family(model).map_err(|error| error.to_string())?;
        if let Some(why) = family.dropped(name) {
            return Err(format!("left out of the result: {why}"));
        }
        let Some(module) = name.strip_suffix(WEIGHT) else {
            return Err("no weight of a linear layer or an embedding".into());
        };
        if !is_matrix(name, facts.shape.len()) {
            return Err(format!("rank {}: no matrix", facts.shape.len()));
        }
        // As in mlx-lm, by the size that is asked for, whatever the rule is.
        if let (Grouping::Groups(size), Some(row)) = (&settings.granularity, facts.shape.last())
            && (*size == 0 || row % size != 0)
        {
            return Err(format!(
                "rows of {row}, which groups of {size} do not divide"
            ));
        }
        match family.rule(module) {
            None => {}
            Some(Rule::Float) => return Err("in float, as mlx-lm has it".into()),
            Some(Rule::Bits8) => {
                settings.scheme = scheme(IntType::Uint8);
                settings.granularity = Grouping::Groups(64);
            }
        }
        Ok(())
    }

    fn supports(&self, name: &str, quantizer: &TensorQuantizer) -> Result<(), String> {
        if !name.ends_with(WEIGHT) {
            return Err(format!("MLX quantizes tensors called `..{WEIGHT}` only"));
        }
        let dtype = quantizer.scheme.dtype;
        if quantizer.scheme != scheme(dtype) || dtype.is_signed() {
            return Err(format!(
                "{dtype}, {}, dialect {}: MLX has unsigned types, affine, dialect mlx",
                quantizer.scheme.mode, quantizer.scheme.dialect
            ));
        }
        let (shape, sizes) = (quantizer.blocks.shape(), quantizer.blocks.block_sizes());
        let (Some(row), Some((group, others))) = (shape.last(), sizes.split_last()) else {
            return Err("a scalar".into());
        };
        if !is_matrix(name, shape.len())
            || others
                .iter()
                .zip(shape)
                .any(|(size, dim)| size.min(dim) != &1)
        {
            return Err(format!(
                "blocks {sizes:?} of {shape:?}: MLX has groups along the rows of matrices"
            ));
        }
        if !GROUPS.contains(group) || row % group != 0 {
            return Err(format!(
                "groups of {group} in rows of {row}: MLX has groups of 32, 64 or 128, which divide the row"
            ));
        }
        Ok(())
    }

    fn recode(&self) -> Result<Recode, &'static str> {
        Err("which has float biases in place of zero points; quantize the float model")
    }

    fn parts(&self, name: &str, quantizer: &TensorQuantizer) -> TensorParts {
        let module = name.strip_suffix(WEIGHT).unwrap_or(name);
        let shape = |last: usize| {
            let mut shape = quantizer.blocks.shape().to_vec();
            if let Some(axis) = shape.last_mut() {
                *axis = last;
            }
            shape
        };
        let row = quantizer.blocks.shape().last().copied().unwrap_or(1);
        let counts = quantizer.blocks.scale_shape();
        let groups = counts.last().copied().unwrap_or(1);
        let param = |what: &str, len: usize| Part {
            name: format!("{module}.{what}"),
            dtype: type_name(quantizer.scale_type()).into(),
            shape: shape(groups),
            len,
        };
        TensorParts {
            codes: Part {
                name: name.into(),
                dtype: "U32".into(),
                shape: shape(quantizer.scheme.dtype.storage_len(row) / 4),
                len: quantizer.codes_len(),
            },
            scales: param("scales", quantizer.scales_len()),
            offsets: Some(param("biases", quantizer.zero_points_len())),
            constants: Vec::new(),
        }
    }

    fn files<'m>(
        &self,
        model: &'m ModelFiles,
        decisions: &[Decision],
        job: &Job<'_>,
    ) -> Result<Vec<OutputFile<'m>>, Error> {
        let family = config::family(model)?;
        let entries: Vec<_> = model.entries().collect();
        let names = entries.iter().map(|(_, name, _)| *name);
        let stacks = experts::Stacks::find(names);
        let mut shards = Shards::new(&model.files[0]);
        for (index, &(file, name, entry)) in entries.iter().enumerate() {
            job.check()?;
            if family.dropped(name).is_some() {
                continue;
            }
            match (stacks.of(name), &decisions[index]) {
                (Some(stack), _) => {
                    if stack.first() == index {
                        let item = self.stack(stack, &entries, decisions)?;
                        item.check_names(model, file.path(), &stack.name)?;
                        shards.add(item);
                    }
                }
                (None, Decision::Quantize(quantizer)) => {
                    let parts = self.parts(name, quantizer);
                    super::check_names(model, file.path(), name, &parts)?;
                    shards.add(Item::quantized(index, parts));
                }
                (None, _) => shards.add(Item::copied(index, name, entry)),
            }
        }
        Ok(shards.finish())
    }

    fn documents(
        &self,
        model: &ModelFiles,
        decisions: &[Decision],
        asked: Option<Asked>,
        written: &Written,
        job: &Job<'_>,
    ) -> Result<Vec<Document>, Error> {
        Ok(vec![
            config::quantized(model, decisions, asked)?,
            config::index(model, written, job)?,
        ])
    }

    fn find(&self, files: &ModelFiles, job: &Job<'_>) -> Result<Found, Error> {
        read::find(files, job)
    }

    fn restore_metadata(&self, _metadata: &mut BTreeMap<String, String>) {}

    fn restored_documents(
        &self,
        model: &ModelFiles,
        written: &Written,
        job: &Job<'_>,
    ) -> Result<Vec<Document>, Error> {
        let index = model.index.as_ref();
        let index = index.map(|index| super::kept_index(index, written, job));
        let config = [config::restored(model)];
        config.into_iter().chain(index).collect()
    }

    fn writes(&self, name: &str) -> bool {
        name == config::CONFIG
    }
}

impl Mlx {
    /// The experts of one projection of a layer as one tensor.
    fn stack(
        &self,
        stack: &experts::Stack,
        entries: &[(&SafetensorsFile, &str, &Entry)],
        decisions: &[Decision],
    ) -> Result<Item, Error> {
        stack.check(entries, decisions)?;
        let (_, _, first) = entries[stack.first()];
        let mut item = match &decisions[stack.first()] {
            Decision::Quantize(quantizer) => {
                let whole = stack.quantizer(quantizer);
                Item::quantized(stack.first(), self.parts(&stack.name, &whole))
            }
            _ => {
                let shape = [&[stack.members.len()][..], &first.shape].concat();
                let entry = Entry {
                    shape,
                    data_offsets: (0, first.len() * stack.members.len()),
                    ..first.clone()
                };
                Item::copied(stack.first(), &stack.name, &entry)
            }
        };
        let step = item.steps.pop();
        for (expert, &tensor) in stack.members.iter().enumerate() {
            item.steps.extend(step.as_ref().map(|step| {
                experts::shifted(step, tensor, expert, stack.members.len(), &item.parts)
            }));
        }
        Ok(item)
    }
}

/// Whether it is a matrix, or a stack of them.
fn is_matrix(name: &str, rank: usize) -> bool {
    rank == 2 || rank == 3 && name.contains(".switch_mlp.")
}

/// The scheme of a type of codes.
fn scheme(dtype: IntType) -> Scheme {
    Scheme::new(dtype, Mode::Affine).with_dialect(Dialect::Mlx)
}

/// A tensor of the result, or one and its parameters.
struct Item {
    parts: Vec<Part>,
    steps: Vec<Step>,
}

impl Item {
    fn quantized(tensor: usize, parts: TensorParts) -> Self {
        Self {
            steps: vec![Step::Quantize {
                tensor,
                codes: PartOffset::whole(&parts.codes),
                scales: PartOffset::whole(&parts.scales),
                offsets: parts.offsets.as_ref().map(PartOffset::whole),
            }],
            parts: [parts.codes, parts.scales]
                .into_iter()
                .chain(parts.offsets)
                .collect(),
        }
    }

    /// Refuses parts that the model has already.
    fn check_names(&self, model: &ModelFiles, file: &Path, stack: &str) -> Result<(), Error> {
        let mut names = self.parts.iter().map(|part| &part.name);
        match names.find(|name| model.contains(name)) {
            None => Ok(()),
            Some(name) => {
                let problem = format!(
                    "the experts are to be stacked as `{}`, which exists already; remove the one or the other",
                    shortened(name)
                );
                Err(Error::tensor(file, stack, problem))
            }
        }
    }

    fn copied(tensor: usize, name: &str, entry: &Entry) -> Self {
        let part = Part {
            name: name.into(),
            dtype: entry.dtype.clone(),
            shape: entry.shape.clone(),
            len: entry.len(),
        };
        Self {
            steps: vec![Step::Copy {
                tensor,
                to: PartOffset::whole(&part),
            }],
            parts: vec![part],
        }
    }
}

/// Files of so many bytes at most, as mlx-lm cuts them; a tensor stays with its scales.
struct Shards<'m> {
    like: &'m SafetensorsFile,
    files: Vec<OutputFile<'m>>,
    bytes: usize,
}

impl<'m> Shards<'m> {
    fn new(like: &'m SafetensorsFile) -> Self {
        Self {
            like,
            files: Vec::new(),
            bytes: 0,
        }
    }

    fn add(&mut self, item: Item) {
        let bytes: usize = item.parts.iter().map(|part| part.len).sum();
        if self.files.is_empty() || self.bytes + bytes > SHARD {
            self.bytes = 0;
            self.files.push(OutputFile {
                name: Default::default(),
                like: self.like,
                metadata: BTreeMap::from([("format".into(), "mlx".into())]),
                parts: Vec::new(),
                steps: Vec::new(),
            });
        }
        self.bytes += bytes;
        if let Some(file) = self.files.last_mut() {
            file.parts.extend(item.parts);
            file.steps.extend(item.steps);
        }
    }

    fn finish(mut self) -> Vec<OutputFile<'m>> {
        let count = self.files.len();
        for (index, file) in self.files.iter_mut().enumerate() {
            file.name = match count {
                1 => "model.safetensors".into(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1).into(),
            };
        }
        self.files
    }
}
