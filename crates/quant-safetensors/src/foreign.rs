//! Tensors that another tool has quantized, told by their names, types and neighbours.

use std::collections::{BTreeMap, HashMap, HashSet};

use quant_model::error::{one_line, shortened};
use quant_model::{Error, Job};

use crate::encodings::Unread;
use crate::{Entry, Model};

/// How a tool lays out a quantized weight. Names are that of the codes without `codes`, and an ending.
struct Layout {
    tool: &'static str,
    /// The end of the name of the codes.
    codes: &'static str,
    /// Their types; where there are none, all but floats.
    types: &'static [&'static str],
    /// One of these stands beside them.
    beside: &'static [&'static str],
    /// What else belongs to them.
    others: &'static [&'static str],
    /// Codes of less than a byte, so that there are two elements and more in each.
    packed: bool,
    /// What else must hold of the codes and the neighbour that was found.
    fits: fn(&Entry, &Entry) -> bool,
}

const FP8: &[&str] = &["F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ"];
const BYTES: &[&str] = &["I8", "U8"];
const PACKED: &[&str] = &["I32", "U32", "U8", "I8", "I16", "I64"];
const VALUES: &[&str] = &["F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I8", "U8"];
const ANY: fn(&Entry, &Entry) -> bool = |_, _| true;

/// The base of most: bytes that may be packed.
const LAYOUT: Layout = Layout {
    tool: "",
    codes: "weight",
    types: &[],
    beside: &[],
    others: &[],
    packed: false,
    fits: ANY,
};

/// The first that fits counts.
const LAYOUTS: &[Layout] = &[
    Layout {
        tool: "AWQ",
        codes: "qweight",
        types: PACKED,
        beside: &["scales"],
        others: &["qzeros", "g_idx"],
        packed: true,
        // [in, out / 8] beside [groups, out]; GPTQ packs along the input.
        fits: |codes, scales| match (&codes.shape[..], &scales.shape[..]) {
            ([_, packed], [_, out]) => packed.checked_mul(8) == Some(*out),
            _ => false,
        },
    },
    Layout {
        tool: "GPTQ",
        codes: "qweight",
        types: PACKED,
        beside: &["scales", "qzeros"],
        others: &["g_idx"],
        packed: true,
        ..LAYOUT
    },
    Layout {
        tool: "ExLlamaV2",
        codes: "q_weight",
        types: PACKED,
        beside: &["q_scale", "q_groups"],
        others: &["q_scale_max", "q_perm", "q_invperm", "q_group_map"],
        packed: true,
        ..LAYOUT
    },
    Layout {
        tool: "ExLlamaV3",
        codes: "trellis",
        types: PACKED,
        beside: &["suh", "su", "svh", "sv"],
        others: &["mcg", "mul1"],
        packed: true,
        ..LAYOUT
    },
    Layout {
        tool: "MLX",
        codes: "weight",
        types: &["U32"],
        beside: &["scales"],
        others: &["biases"],
        packed: true,
        ..LAYOUT
    },
    Layout {
        tool: "compressed-tensors",
        codes: "weight_packed",
        types: PACKED,
        beside: &["weight_scale", "weight_shape"],
        others: &[
            "weight_zero_point",
            "weight_g_idx",
            "weight_global_scale",
            "input_global_scale",
            "input_scale",
        ],
        packed: true,
        ..LAYOUT
    },
    Layout {
        tool: "compressed-tensors (sparse)",
        codes: "compressed",
        // The values that are not 0: mostly floats.
        types: VALUES,
        beside: &["bitmask", "row_offsets", "shape"],
        others: &["weight_scale"],
        fits: |_, beside| !beside.is_float(),
        ..LAYOUT
    },
    Layout {
        tool: "DeepSeek FP8",
        codes: "",
        types: FP8,
        beside: &["_scale_inv"],
        ..LAYOUT
    },
    Layout {
        tool: "NVIDIA ModelOpt",
        codes: "weight",
        types: &["U8", "I8", "F8_E4M3"],
        beside: &["weight_scale_2"],
        others: &["weight_scale", "input_scale"],
        packed: true,
        ..LAYOUT
    },
    Layout {
        tool: "FP8 with scales (compressed-tensors, ModelOpt, FBGEMM)",
        codes: "",
        types: FP8,
        beside: &["_scale", "_scales"],
        others: &["_zero_point", "_scale_ub"],
        ..LAYOUT
    },
    Layout {
        tool: "FP8 with scales (ComfyUI)",
        codes: "weight",
        types: FP8,
        beside: &["scale_weight"],
        others: &["scale_input"],
        ..LAYOUT
    },
    Layout {
        tool: "bitsandbytes",
        codes: "",
        types: BYTES,
        beside: &[".absmax", ".quant_map"],
        others: &[
            ".nested_absmax",
            ".nested_quant_map",
            ".nested_offset",
            ".quant_state.bitsandbytes__nf4",
            ".quant_state.bitsandbytes__fp4",
        ],
        packed: true,
        ..LAYOUT
    },
    Layout {
        tool: "bitsandbytes",
        types: BYTES,
        beside: &["SCB"],
        others: &["weight_format", "CB", "SCBt"],
        ..LAYOUT
    },
    Layout {
        tool: "HQQ",
        codes: "W_q",
        // Codes may be kept as floats.
        types: &["U8", "I8", "I16", "I32", "U32", "F32", "F16", "BF16"],
        beside: &["zero", "meta", "scale_q", "zero_q", "nbits", "group_size"],
        others: &[
            "scale",
            "zero",
            "meta",
            "meta_scale",
            "meta_zero",
            "scale_q",
            "zero_q",
            "shape",
            "nbits",
            "group_size",
            "axis",
            "packing",
            "channel_wise",
            "compute_dtype",
            "view_as_float",
            "unpack_view_dtype",
            "optimize",
            "round_zero",
            "quant_scale",
            "quant_zero",
            "encoded_state_dict",
            "stores_quant_config",
            "offload_meta",
        ],
        packed: true,
        ..LAYOUT
    },
    Layout {
        tool: "torchao",
        codes: "qdata",
        beside: &[
            "scale",
            "_scale",
            "zero_point",
            "scale_and_zero",
            "block_scale",
        ],
        others: &[
            "zero_point",
            "scale_and_zero",
            "per_tensor_scale",
            "act_pre_scale",
        ],
        ..LAYOUT
    },
    Layout {
        tool: "torchao",
        codes: "int_data",
        beside: &["scale", "zero_point"],
        others: &["zero_point"],
        ..LAYOUT
    },
    Layout {
        tool: "torchao",
        codes: "packed_weight",
        beside: &["scale_and_zero", "scale", "scales_and_zeros"],
        others: &["zero_point"],
        packed: true,
        ..LAYOUT
    },
    Layout {
        tool: "optimum-quanto",
        codes: "._data",
        beside: &["._scale"],
        others: &["._shift", "._zeropoint"],
        ..LAYOUT
    },
    Layout {
        tool: "optimum-quanto",
        codes: "._data._data",
        beside: &["._scale"],
        others: &["._shift", "._zeropoint"],
        packed: true,
        ..LAYOUT
    },
    Layout {
        tool: "MXFP4 (gpt-oss)",
        codes: "_blocks",
        types: &["U8"],
        beside: &["_scales"],
        packed: true,
        ..LAYOUT
    },
    Layout {
        tool: "AQLM",
        codes: "codes",
        beside: &["codebooks"],
        others: &["scales"],
        packed: true,
        ..LAYOUT
    },
    Layout {
        tool: "QuIP#",
        codes: "Qidxs",
        beside: &["SU", "SV", "Wscale", "codebook_id"],
        packed: true,
        ..LAYOUT
    },
    Layout {
        tool: "VPTQ",
        codes: "indices",
        types: PACKED,
        beside: &["centroids", "centroids.weight"],
        others: &[
            "res_centroids.weight",
            "weight_scale",
            "weight_bias",
            "perm",
        ],
        packed: true,
        ..LAYOUT
    },
    Layout {
        tool: "integers with scales (compressed-tensors, Quark, EETQ, BitNet)",
        codes: "",
        types: &["I8", "U8", "I4", "U4"],
        beside: &["_scale", "_scales", ".scale", ".scales"],
        others: &[
            "_zero_point",
            "_zero_points",
            ".zero_point",
            "_azp_adj",
            "_shape",
            "_g_idx",
        ],
        ..LAYOUT
    },
];

/// Endings that belong to the module of a quantized weight, whatever the tool.
const OF_MODULE: &[&str] = &[
    "activation_scale",
    "input_scale",
    "input_zero_point",
    "input_global_scale",
    "output_scale",
    "output_zero_point",
    "k_scale",
    "v_scale",
];

/// The tensors of a model that another tool has quantized.
#[derive(Debug, Default)]
pub(crate) struct Foreign<'m> {
    /// The tool and the codes, per tensor.
    by_name: HashMap<String, (&'static str, &'m str)>,
    /// Elements of codes, and bytes of all, per tool.
    by_tool: BTreeMap<&'static str, (u64, u64)>,
    /// Of the whole model, all parts of quantized weights but their codes left out.
    elements: u64,
    bytes: u64,
}

impl<'m> Foreign<'m> {
    pub fn find(model: &'m Model, job: &Job<'_>) -> Result<Self, Error> {
        let mut found = Self::default();
        let entries = || model.base.files.iter().flat_map(|file| file.entries());
        for (name, entry) in entries() {
            job.check()?;
            found.bytes += bytes(entry);
            if let Some((layout, stem)) = layout(model, name, entry) {
                found.add(model, layout, stem, name, entry);
            }
        }
        for (name, entry) in entries() {
            job.check()?;
            if !found.by_name.contains_key(name) {
                let elements: usize = entry.shape.iter().product();
                found.elements += elements as u64;
            }
        }
        Ok(found)
    }

    fn add(&mut self, model: &'m Model, layout: &Layout, stem: &str, name: &'m str, entry: &Entry) {
        let tool = layout.tool;
        let sums = self.by_tool.entry(tool).or_default();
        // A guess for those of less than a byte; 4 bits are what most of them have.
        let codes = bytes(entry) * if layout.packed { 2 } else { 1 };
        sums.0 += codes;
        self.elements += codes;
        // The module is what comes before the weight's own name.
        let module = match layout.codes {
            "" => name.rfind('.').map_or("", |dot| &name[..=dot]),
            _ => stem,
        };
        let parts = layout.beside.iter().chain(layout.others);
        let parts = parts.map(|part| format!("{stem}{part}"));
        let more = OF_MODULE.iter().map(|part| format!("{module}{part}"));
        for part in [name.to_owned()].into_iter().chain(parts).chain(more) {
            if let Some(entry) = model.base.entry(&part)
                && self.by_name.insert(part, (tool, name)).is_none()
            {
                self.by_tool.entry(tool).or_default().1 += bytes(entry);
            }
        }
    }

    /// Why a tensor is left alone, if it is a part of such a weight.
    pub fn reason(&self, name: &str) -> Option<String> {
        let (tool, codes) = self.by_name.get(name)?;
        Some(match *codes == name {
            true => format!("already quantized: {tool}"),
            false => one_line(format!(
                "part of `{}`, already quantized: {tool}",
                shortened(codes)
            )),
        })
    }

    /// The problem of a model of which such tensors are the most.
    pub fn refusal(&self) -> Option<String> {
        let (elements, bytes) = self
            .by_tool
            .values()
            .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        let most = elements * 2 > self.elements || bytes * 2 > self.bytes;
        most.then(|| {
            format!(
                "this model is already quantized, in the format {} ({}); start from the float model",
                self.tools(),
                self.example()
            )
        })
    }

    /// That there are some, none of which quant can restore.
    pub fn unrestored(&self) -> Option<String> {
        (!self.by_name.is_empty()).then(|| {
            format!(
                "{} tensors are quantized, in the format {} ({}), in a way that quant does not undo or that its config.json does not say",
                self.by_name.len(),
                self.tools(),
                self.example()
            )
        })
    }

    /// Those whose codes are not among these, in the order of their names.
    pub fn besides(&self, model: &Model, read: &HashSet<String>) -> Vec<Unread> {
        let codes = self
            .by_name
            .iter()
            .filter(|(name, (_, codes))| name == codes);
        let left = codes.filter(|(name, _)| !read.contains(*name));
        let left = left.filter_map(|(name, (tool, _))| {
            Some(Unread {
                file: model.base.find(name)?.0.path().to_owned(),
                name: name.clone(),
                problem: format!(
                    "is of the format {tool}, in a way that quant does not undo or of which the model's description does not say; restore it with the tool that made it"
                ),
            })
        });
        let mut left: Vec<_> = left.collect();
        left.sort_by(|a, b| a.name.cmp(&b.name));
        left
    }

    /// That some are left alone.
    pub fn warning(&self) -> Option<String> {
        (!self.by_name.is_empty()).then(|| {
            format!(
                "{} tensors are already quantized, in the format {} ({}), and are left alone",
                self.by_name.len(),
                self.tools(),
                self.example()
            )
        })
    }

    fn tools(&self) -> String {
        self.by_tool
            .keys()
            .copied()
            .collect::<Vec<_>>()
            .join(" and ")
    }

    /// A weight and what shows that it is quantized.
    fn example(&self) -> String {
        let parts = self
            .by_name
            .iter()
            .filter(|(name, (_, codes))| name != codes);
        let first = parts
            .map(|(name, (_, codes))| (*codes, name.as_str()))
            .min();
        let (codes, part) = first.unwrap_or_default();
        one_line(format!(
            "`{}` beside `{}`",
            shortened(codes),
            shortened(part)
        ))
    }
}

fn bytes(entry: &Entry) -> u64 {
    (entry.data_offsets.1 - entry.data_offsets.0) as u64
}

/// The layout of the weight whose codes a tensor is, and the name without their ending.
fn layout<'n>(model: &Model, name: &'n str, entry: &Entry) -> Option<(&'static Layout, &'n str)> {
    LAYOUTS.iter().find_map(|layout| {
        let dtype = entry.dtype.as_str();
        let fits = match layout.types {
            [] => !entry.is_float(),
            types => types.contains(&dtype),
        };
        if !fits {
            return None;
        }
        let stem = name.strip_suffix(layout.codes)?;
        let mut beside = layout.beside.iter();
        let beside = beside.find_map(|part| model.base.entry(&format!("{stem}{part}")))?;
        (layout.fits)(entry, beside).then_some((layout, stem))
    })
}
