//! compressed-tensors 0.20's conventions, which vLLM and transformers load: `pack-quantized`
//! (`M.weight_packed` of I32, `M.weight_scale`, `M.weight_shape` and, where there are zero points,
//! `M.weight_zero_point`) and `int-quantized` (`M.weight` of I8, `M.weight_scale`); a
//! `quantization_config` in the model's `config.json`.
//!
//! Matrices called `M.weight` are quantized; embeddings, output layers, routers and norms are left in
//! float and named in `ignore`. (llm-compressor's `model_free_ptq` quantizes embeddings too, unless
//! it is told to ignore them: then a loader takes their packed words for none.)

mod config;
mod fused;
mod read;
mod recode;
mod scheme;
mod targets;

use std::collections::BTreeMap;

use quant_core::{Dialect, IntType, Mode, OffsetKind, Scheme};
use quant_model::error::{option, shortened};
use quant_model::facts::Facts;
use quant_model::io::Data;
use quant_model::options::QuantizeOptions;
use quant_model::report::Decision;
use quant_model::settings::Settings;
use quant_model::{Asked, Error, Grouping, Job};
use quant_simd::TensorQuantizer;

use super::{
    Convention, Document, Found, OutputFile, Recode, TensorParts, Written, kept_files, kept_index,
    type_name,
};
use crate::Entry;
use crate::model_config::CONFIG;
use crate::model_files::ModelFiles;
use crate::part::Part;

const WEIGHT: &str = ".weight";
/// Bits of a word of packed codes.
const WORD: usize = 32;
/// Parameters of a quantized layer's activations, and of the cache that attention has.
const OF_ACTIVATIONS: [&str; 6] = [
    "input_scale",
    "input_zero_point",
    "input_global_scale",
    "output_scale",
    "output_zero_point",
    "output_global_scale",
];
const OF_CACHE: [&str; 6] = [
    "k_scale",
    "v_scale",
    "q_scale",
    "k_zero_point",
    "v_zero_point",
    "q_zero_point",
];

pub(super) struct CompressedTensors;

/// The two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Codes less the smallest, in words.
    Packed,
    /// Signed codes, a byte each.
    Int,
}

impl Format {
    fn from_type(dtype: IntType) -> Self {
        match dtype.is_signed() {
            true => Self::Int,
            false => Self::Packed,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Packed => "pack-quantized",
            Self::Int => "int-quantized",
        }
    }
}

impl Convention for CompressedTensors {
    fn check_model(&self, model: &ModelFiles, options: &QuantizeOptions) -> Result<(), Error> {
        if options.plan.is_none() {
            check_scheme(options)?;
        }
        config::check(model)
    }

    fn adjust(&self, _: &ModelFiles, facts: &Facts, _: &mut Settings) -> Result<(), String> {
        let Some(module) = facts.name.strip_suffix(WEIGHT) else {
            return Err("no weight of a linear layer".into());
        };
        if facts.shape.len() != 2 {
            return Err(format!("rank {}: no matrix", facts.shape.len()));
        }
        match kept_in_float(module) {
            Some(why) => Err(why.into()),
            None => Ok(()),
        }
    }

    fn supports(&self, name: &str, quantizer: &TensorQuantizer) -> Result<(), String> {
        if !name.ends_with(WEIGHT) {
            return Err(format!(
                "compressed-tensors quantizes tensors called `..{WEIGHT}` only"
            ));
        }
        let Scheme {
            dtype,
            mode,
            dialect,
        } = quantizer.scheme;
        let known = match Format::from_type(dtype) {
            Format::Packed => matches!(dtype.bits(), 4 | 8),
            Format::Int => dtype.bits() == 8 && mode == Mode::Symmetric,
        };
        if !known || dialect != Dialect::CompressedTensors {
            return Err(format!(
                "{dtype}, {mode}, dialect {dialect}: compressed-tensors has uint4 and uint8, and symmetric int8, dialect compressed-tensors"
            ));
        }
        let &[_, row] = quantizer.blocks.shape() else {
            return Err(format!(
                "rank {}: no matrix",
                quantizer.blocks.shape().len()
            ));
        };
        let sizes = quantizer.blocks.block_sizes();
        let group = sizes.get(1).map_or(row, |&size| size.min(row));
        if sizes.first() != Some(&1) || group == 0 || row % group != 0 {
            return Err(format!(
                "blocks {sizes:?} of {:?}: compressed-tensors has groups along the rows, which divide them",
                quantizer.blocks.shape()
            ));
        }
        let per_word = WORD / dtype.bits() as usize;
        if Format::from_type(dtype) == Format::Packed && row % per_word != 0 {
            return Err(format!(
                "rows of {row} do not fill words of {per_word} codes"
            ));
        }
        if Format::from_type(dtype) == Format::Int && group != row {
            return Err(format!("groups of {group}: {PER_CHANNEL}"));
        }
        Ok(())
    }

    fn recode(&self) -> Result<Recode, &'static str> {
        Ok(recode::unsigned)
    }

    fn parts(&self, name: &str, quantizer: &TensorQuantizer) -> TensorParts {
        let shape = quantizer.blocks.shape();
        let (rows, row) = (shape[0], shape[1]);
        let dtype = quantizer.scheme.dtype;
        let per_word = WORD / dtype.bits() as usize;
        let scale_shape = quantizer.blocks.scale_shape();
        let groups = scale_shape.last().copied().unwrap_or(1);
        let (codes, constants) = match Format::from_type(dtype) {
            Format::Packed => {
                let codes = (format!("{name}_packed"), "I32", vec![rows, row / per_word]);
                let whole = [rows as u64, row as u64];
                let bytes: Vec<u8> = whole.iter().flat_map(|it| it.to_le_bytes()).collect();
                let part = Part {
                    name: format!("{name}_shape"),
                    dtype: "I64".into(),
                    shape: vec![2],
                    len: bytes.len(),
                };
                (codes, vec![(part, bytes)])
            }
            Format::Int => ((name.to_owned(), "I8", shape.to_vec()), Vec::new()),
        };
        // One scale for all is read, and never written.
        let is_whole = rows > 1 && quantizer.blocks.block_sizes().first() == Some(&rows);
        let affine = quantizer.scheme.mode == Mode::Affine;
        TensorParts {
            codes: Part {
                name: codes.0,
                dtype: codes.1.into(),
                shape: codes.2,
                len: quantizer.codes_len(),
            },
            scales: Part {
                name: format!("{name}_scale"),
                dtype: type_name(quantizer.scale_type()).into(),
                shape: if is_whole { vec![1] } else { scale_shape },
                len: quantizer.scales_len(),
            },
            offsets: affine.then(|| Part {
                name: format!("{name}_zero_point"),
                dtype: "I32".into(),
                shape: vec![rows.div_ceil(per_word), groups],
                len: rows.div_ceil(per_word) * groups * (WORD / 8),
            }),
            constants,
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
            self.describe(file, BTreeMap::new())?;
        }
        Ok(files)
    }

    fn documents(
        &self,
        model: &ModelFiles,
        decisions: &[Decision],
        asked: Option<Asked>,
        written: &Written,
        job: &Job<'_>,
    ) -> Result<Vec<Document>, Error> {
        let index = model.index.as_ref();
        let index = index.map(|index| kept_index(index, written, job));
        let config = [config::quantized(model, decisions, asked)];
        config.into_iter().chain(index).collect()
    }

    fn find(&self, files: &ModelFiles, job: &Job<'_>) -> Result<Found, Error> {
        read::find(files, job)
    }

    fn offsets<'m>(
        &self,
        quantizer: &TensorQuantizer,
        stored: Option<Data<'m>>,
    ) -> Result<Data<'m>, Error> {
        if quantizer.scheme.offset() == OffsetKind::None {
            return Ok(Data::EMPTY);
        }
        let bits = quantizer.scheme.dtype.bits();
        let count = quantizer.zero_points_len();
        let Some(stored) = stored else {
            return Ok(Data::Memory(vec![1 << (bits - 1); count].into()));
        };
        let groups = quantizer.blocks.scale_shape()[1];
        let mut zero_points = unpacked(&stored.whole()?, bits, groups);
        zero_points.truncate(count);
        Ok(Data::Memory(zero_points.into()))
    }

    fn packs_offsets(&self, quantizer: &TensorQuantizer) -> bool {
        quantizer.scheme.mode == Mode::Affine
    }

    fn packed_offsets(&self, quantizer: &TensorQuantizer, offsets: &[u8]) -> Vec<u8> {
        let groups = quantizer.blocks.scale_shape()[1];
        packed(offsets, quantizer.scheme.dtype.bits(), groups)
    }

    fn restore_metadata(&self, _metadata: &mut BTreeMap<String, String>) {}

    fn restored_documents(
        &self,
        model: &ModelFiles,
        written: &Written,
        job: &Job<'_>,
    ) -> Result<Vec<Document>, Error> {
        let index = model.index.as_ref();
        let index = index.map(|index| kept_index(index, written, job));
        let config = [config::restored(model)];
        config.into_iter().chain(index).collect()
    }

    fn advice(&self, model: &ModelFiles, decisions: &[Decision]) -> Vec<String> {
        let stacks = stacks_in_float(model, decisions);
        let fused = fused::warning(model, decisions);
        stacks.into_iter().chain(fused).collect()
    }

    fn lost(&self, model: &ModelFiles) -> Vec<String> {
        let group = config::group_with_activations(model).map(|group| format!(
            "config.json says that activations are quantized, too (group `{}`); the result does not say so, and in compressed-tensors again it would be a model of weights alone",
            shortened(&group)
        ));
        let cache = config::has_quantized_cache(model).then(|| {
            "config.json says that the cache of keys and values is quantized, too (`kv_cache_scheme`); the result does not say so".into()
        });
        group.into_iter().chain(cache).collect()
    }

    fn is_of_activations(&self, name: &str, is_quantized: &dyn Fn(&str) -> bool) -> bool {
        let Some((module, part)) = name.rsplit_once('.') else {
            return false;
        };
        OF_CACHE.contains(&part)
            || OF_ACTIVATIONS.contains(&part) && is_quantized(&format!("{module}{WEIGHT}"))
    }

    fn writes(&self, name: &str) -> bool {
        name == CONFIG
    }
}

/// What vLLM has kernels for where activations are quantized.
const PER_CHANNEL: &str =
    "weights beside activations of 8 bits have a scale per channel, and vLLM loads no other";

/// Refuses options that no loader has a place for.
fn check_scheme(options: &QuantizeOptions) -> Result<(), Error> {
    let dtype = options.scheme.dtype;
    if Format::from_type(dtype) == Format::Packed {
        return Ok(());
    }
    let problem = match &options.granularity {
        Grouping::Groups(size @ 1..) => format!(
            "groups of {size} with {}: {PER_CHANNEL}; leave out {}, or give {}",
            option("preset w8a8"),
            option("group_size"),
            option("preset w8a16"),
        ),
        _ if options.scheme.mode == Mode::Affine => format!(
            "zero points with {}: weights beside activations of 8 bits are symmetric; give {}",
            option("preset w8a8"),
            option("preset w8a16"),
        ),
        _ if dtype.bits() != 8 => format!(
            "codes of {} bits with {}: they are bytes there; give {}",
            dtype.bits(),
            option("preset w8a8"),
            option("preset w4a16"),
        ),
        _ => return Ok(()),
    };
    Err(Error::Option(problem))
}

/// A pattern of all experts of a layer, where a tensor holds those of one projection. vLLM asks for the
/// projections of a single expert, such as `M.experts.0.gate_proj`.
fn stack(name: &str, entry: &Entry) -> Option<String> {
    let name = name.strip_suffix(WEIGHT).unwrap_or(name);
    let (module, projection) = name.rsplit_once('.')?;
    let last = module.rsplit('.').next().unwrap_or(module);
    if entry.shape.len() != 3 {
        return None;
    }
    let escaped = regex::escape(module);
    if last.contains("expert") {
        return Some(format!("re:{escaped}\\..*"));
    }
    // Granite's, beside which is a router.
    let is_linear = matches!(projection, "input_linear" | "output_linear");
    (is_linear && last.contains("moe"))
        .then(|| format!("re:{escaped}\\.(experts|input_linear|output_linear)\\b.*"))
}

/// That stacked experts stay in float, if some do.
fn stacks_in_float(model: &ModelFiles, decisions: &[Decision]) -> Option<String> {
    let is_float = |decision: &&Decision| !matches!(decision, Decision::Quantize(_));
    let stacks = model.entries().zip(decisions);
    let stacks = stacks.filter(|(.., it)| is_float(it));
    let mut stacks = stacks.filter(|((_, name, entry), _)| stack(name, entry).is_some());
    let ((_, first, _), _) = stacks.next()?;
    Some(format!(
        "{} of stacked experts stay in float, such as `{}`: compressed-tensors quantizes experts that are tensors of their own",
        match stacks.count() {
            0 => "1 tensor".into(),
            more => format!("{} tensors", more + 1),
        },
        shortened(first)
    ))
}

/// Why a module stays in float, whatever the options say: its loader has no linear layer there, or
/// what it does is lost first.
fn kept_in_float(module: &str) -> Option<&'static str> {
    let last = module.rsplit('.').next().unwrap_or(module);
    let has = |part: &str| last.contains(part);
    if has("embed") || matches!(last, "wte" | "wpe" | "shared") {
        return Some("an embedding, in float by default");
    }
    if matches!(last, "lm_head" | "output" | "embed_out" | "score") {
        return Some("the output layer, in float by default");
    }
    if matches!(last, "gate" | "router" | "shared_expert_gate") || module.ends_with("router.layer")
    {
        return Some("a router, in float by default");
    }
    has("norm").then_some("a norm, in float by default")
}

/// Zero points, a byte each, as words along the rows: the first row in the lowest bits. Bits behind
/// the last row are 0.
fn packed(zero_points: &[u8], bits: u32, groups: usize) -> Vec<u8> {
    let per_word = WORD / bits as usize;
    let mut words = Vec::new();
    for rows in zero_points.chunks(per_word * groups) {
        for group in 0..groups {
            let mut word = 0_u32;
            for (i, row) in rows.chunks(groups).enumerate() {
                word |= u32::from(row[group]) << (i as u32 * bits);
            }
            words.extend(word.to_le_bytes());
        }
    }
    words
}

/// What [`packed`] packed, and what stands behind it.
fn unpacked(words: &[u8], bits: u32, groups: usize) -> Vec<u8> {
    let per_word = WORD / bits as usize;
    let mask = u32::MAX >> (WORD as u32 - bits);
    let (words, _) = words.as_chunks();
    let mut zero_points = Vec::new();
    for row in words.chunks(groups) {
        for i in 0..per_word as u32 {
            let row = row.iter().map(|word| u32::from_le_bytes(*word));
            zero_points.extend(row.map(|word| (word >> (i * bits) & mask) as u8));
        }
    }
    zero_points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_points_are_packed_along_the_rows() {
        let zero_points: Vec<u8> = (0..16).collect();
        let words = packed(&zero_points, 4, 2);
        assert_eq!(words[..4], 0xeca8_6420_u32.to_le_bytes());
        assert_eq!(words[4..], 0xfdb9_7531_u32.to_le_bytes());
        assert_eq!(unpacked(&words, 4, 2), zero_points);
        let (rest, padded) = (
            &zero_points[..6],
            unpacked(&packed(&zero_points[..6], 4, 2), 4, 2),
        );
        assert_eq!((&padded[..6], &padded[6..]), (rest, &[0; 10][..]));
        let bytes: Vec<u8> = (0..24).map(|it| it * 10).collect();
        assert_eq!(unpacked(&packed(&bytes, 8, 3), 8, 3), bytes);
    }

    #[test]
    fn what_stays_in_float() {
        for module in [
            "model.embed_tokens",
            "lm_head",
            "transformer.wte",
            "model.layers.0.mlp.gate",
            "model.layers.0.block_sparse_moe.gate",
            "model.layers.3.input_layernorm",
            "model.layers.1.mlp.router",
        ] {
            assert!(kept_in_float(module).is_some(), "{module}");
        }
        for module in [
            "model.layers.0.mlp.gate_proj",
            "model.layers.0.mlp.experts.3.down_proj",
            "model.layers.0.self_attn.q_proj",
            "model.layers.0.mlp.shared_expert.up_proj",
        ] {
            assert_eq!(kept_in_float(module), None, "{module}");
        }
    }
}
