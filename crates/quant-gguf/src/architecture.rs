//! Diffusion models, as ComfyUI-GGUF knows them: by the names of their tensors, which it keeps, and
//! which tensors it leaves in float.

use std::collections::HashSet;

use quant_core::FloatType;

use crate::file::{GGML_AXES, MOST_AXES, check_name_and_axes};

/// Tensors of more values than this are quantized.
const LEAST: usize = 1024;
/// Rows that a reshaped tensor has.
const ROW: usize = 256;
/// Smaller tensors are not reshaped.
const LEAST_RESHAPED: usize = 512;

/// A family of diffusion models.
#[derive(Debug)]
pub(crate) struct Architecture {
    pub name: &'static str,
    /// It is a model in which one of these groups of tensors is complete.
    known_by: &'static [&'static [&'static str]],
    /// A model with this tensor has other names than its loader wants.
    banned: Option<&'static str>,
    /// Parts of names of what stays in F32.
    precise: &'static [&'static str],
    /// Parts of names of what is left out.
    ignored: &'static [&'static str],
    /// Parts of names of what is not quantized, whatever its size.
    kept: &'static [&'static str],
    /// Whole names of such.
    kept_names: &'static [&'static str],
    /// Whether rows that do not suit blocks are cut anew.
    reshaped: bool,
    /// Whether tensors of five axes are kept in F32.
    has_five_axes: bool,
}

const PLAIN: Architecture = Architecture {
    name: "",
    known_by: &[],
    banned: None,
    precise: &[],
    ignored: &[],
    kept: &[],
    kept_names: &[],
    reshaped: false,
    has_five_axes: false,
};

const FLUX_INPUTS: &[&str] = &[
    "txt_in.",
    "img_in.",
    "time_in.",
    "vector_in.",
    "guidance_in.",
    "final_layer.",
];
const UNET_EMBEDDINGS: &[&str] = &[
    "class_embedding.",
    "time_embedding.",
    "add_embedding.",
    "time_embed.",
    "label_emb.",
    "conv_in.",
    "conv_out.",
];
const UNET_ENDS: &[&str] = &["input_blocks.0.0.weight", "out.2.weight"];

/// The first one that knows a model is its.
const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "flux",
        known_by: &[
            &["transformer_blocks.0.attn.norm_added_k.weight"],
            &["double_blocks.0.img_attn.proj.weight"],
        ],
        banned: Some("transformer_blocks.0.attn.norm_added_k.weight"),
        kept: FLUX_INPUTS,
        ..PLAIN
    },
    Architecture {
        name: "sd3",
        known_by: &[
            &["transformer_blocks.0.attn.add_q_proj.weight"],
            &["joint_blocks.0.x_block.attn.qkv.weight"],
        ],
        banned: Some("transformer_blocks.0.attn.add_q_proj.weight"),
        kept: &[
            "final_layer.",
            "time_text_embed.",
            "context_embedder.",
            "t_embedder.",
            "y_embedder.",
            "x_embedder.",
        ],
        kept_names: &["proj_out.weight", "pos_embed"],
        ..PLAIN
    },
    Architecture {
        name: "aura",
        known_by: &[
            &["double_layers.3.modX.1.weight"],
            &["joint_transformer_blocks.3.ff_context.out_projection.weight"],
        ],
        banned: Some("joint_transformer_blocks.3.ff_context.out_projection.weight"),
        kept: &["t_embedder.", "init_x_linear."],
        kept_names: &[
            "modF.1.weight",
            "cond_seq_linear.weight",
            "final_linear.weight",
            "positional_encoding",
            "register_tokens",
        ],
        ..PLAIN
    },
    Architecture {
        name: "hidream",
        known_by: &[&[
            "caption_projection.0.linear.weight",
            "double_stream_blocks.0.block.ff_i.shared_experts.w3.weight",
        ]],
        precise: &[".ff_i.gate.weight", "img_emb.emb_pos"],
        kept: &[
            "p_embedder.",
            "t_embedder.",
            "x_embedder.",
            "final_layer.",
            ".ff_i.gate.weight",
            "caption_projection.",
        ],
        ..PLAIN
    },
    Architecture {
        name: "cosmos",
        known_by: &[&[
            "blocks.0.mlp.layer1.weight",
            "blocks.0.adaln_modulation_cross_attn.1.weight",
        ]],
        precise: &["pos_embedder"],
        ignored: &["_extra_state", "accum_"],
        kept: &[
            "p_embedder.",
            "t_embedder.",
            "t_embedding_norm.",
            "x_embedder.",
            "pos_embedder.",
            "final_layer.",
        ],
        ..PLAIN
    },
    Architecture {
        name: "ltxv",
        known_by: &[&[
            "adaln_single.emb.timestep_embedder.linear_2.weight",
            "transformer_blocks.27.scale_shift_table",
            "caption_projection.linear_2.weight",
        ]],
        precise: &["scale_shift_table"],
        kept: &[
            "adaln_single.",
            "caption_projection.",
            "patchify_proj.",
            "proj_out.",
            "scale_shift_table",
        ],
        ..PLAIN
    },
    Architecture {
        name: "hyvid",
        known_by: &[&[
            "double_blocks.0.img_attn_proj.weight",
            "txt_in.individual_token_refiner.blocks.1.self_attn_qkv.weight",
        ]],
        kept: FLUX_INPUTS,
        has_five_axes: true,
        ..PLAIN
    },
    Architecture {
        name: "wan",
        known_by: &[&[
            "blocks.0.self_attn.norm_q.weight",
            "text_embedding.2.weight",
            "head.modulation",
        ]],
        precise: &[".modulation"],
        kept: &[
            "modulation.",
            "patch_embedding.",
            "text_embedding.",
            "time_projection.",
            "time_embedding.",
            "img_emb.",
            "head.",
        ],
        has_five_axes: true,
        ..PLAIN
    },
    Architecture {
        name: "sdxl",
        known_by: &[
            &[
                "down_blocks.0.downsamplers.0.conv.weight",
                "add_embedding.linear_1.weight",
            ],
            &[
                "input_blocks.3.0.op.weight",
                "input_blocks.6.0.op.weight",
                "output_blocks.2.2.conv.weight",
                "output_blocks.5.2.conv.weight",
            ],
            &["label_emb.0.0.weight"],
        ],
        kept: UNET_EMBEDDINGS,
        kept_names: UNET_ENDS,
        reshaped: true,
        ..PLAIN
    },
    Architecture {
        name: "sd1",
        known_by: &[
            &["down_blocks.0.downsamplers.0.conv.weight"],
            &[
                "input_blocks.3.0.op.weight",
                "input_blocks.6.0.op.weight",
                "input_blocks.9.0.op.weight",
                "output_blocks.2.1.conv.weight",
                "output_blocks.5.2.conv.weight",
                "output_blocks.8.2.conv.weight",
            ],
        ],
        kept: UNET_EMBEDDINGS,
        kept_names: UNET_ENDS,
        reshaped: true,
        ..PLAIN
    },
    Architecture {
        name: "lumina2",
        known_by: &[&[
            "cap_embedder.1.weight",
            "context_refiner.0.attention.qkv.weight",
        ]],
        kept: &[
            "t_embedder.",
            "x_embedder.",
            "final_layer.",
            "cap_embedder.",
            "context_refiner.",
            "noise_refiner.",
        ],
        ..PLAIN
    },
];

/// A model of a known family, and what stands before the names of its tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub architecture: &'static Architecture,
    pub prefix: &'static str,
}

/// Looks for the family of a model by the names of its tensors.
///
/// # Errors
/// A model of a family whose loader wants other names.
pub(crate) fn find(names: &[&str]) -> Result<Option<Found>, String> {
    let prefix = prefix(names);
    let stripped = names.iter().filter_map(|name| stripped(name, prefix));
    let stripped: HashSet<String> = stripped.collect();
    let has = |name: &&str| stripped.contains(*name);
    for architecture in ARCHITECTURES {
        if !architecture.known_by.iter().any(|all| all.iter().all(has)) {
            continue;
        }
        return match architecture.banned.filter(has) {
            Some(banned) => Err(format!(
                "a model of the family {} with the names of diffusers (it holds `{banned}`); GGUF files of it have those of the original model, give that one",
                architecture.name
            )),
            None => Ok(Some(Found {
                architecture,
                prefix,
            })),
        };
    }
    Ok(None)
}

/// The family of a GGUF file.
pub(crate) fn by_name(name: &str) -> Option<&'static Architecture> {
    ARCHITECTURES.iter().find(|one| one.name == name)
}

/// What stands before the names of a whole checkpoint's diffusion model.
fn prefix(names: &[&str]) -> &'static str {
    let any = |prefix: &&str| names.iter().any(|name| name.starts_with(prefix));
    let all = |prefix: &&str| names.iter().all(|name| name.starts_with(prefix));
    let mixed = ["model.diffusion_model.", "model."];
    let mut found = mixed.into_iter().filter(any);
    found.next().or(Some("net.").filter(all)).unwrap_or("")
}

/// The name of a tensor in the file; `None` for one that is no part of the diffusion model.
fn stripped(name: &str, prefix: &str) -> Option<String> {
    match prefix.is_empty() {
        true => Some(name.to_owned()),
        false => name.contains(prefix).then(|| name.replace(prefix, "")),
    }
}

impl Found {
    /// The name of a tensor in the file; `None` where it is left out.
    pub fn name(&self, name: &str) -> Option<String> {
        let name = stripped(name, self.prefix)?;
        let ignored = contains_any(&name, self.architecture.ignored);
        (!ignored).then_some(name)
    }
}

fn contains_any(name: &str, parts: &[&str]) -> bool {
    parts.iter().any(|part| name.contains(part))
}

impl Architecture {
    /// The shape under which a tensor is written.
    pub fn shape(&self, shape: &[usize]) -> Vec<usize> {
        let elements: usize = shape.iter().product();
        let row = shape.last().copied().unwrap_or(0);
        let is_cut = self.reshaped
            && shape.len() > 1
            && elements >= LEAST_RESHAPED
            && elements.is_multiple_of(ROW)
            && !row.is_multiple_of(ROW);
        match is_cut {
            true => vec![elements / ROW, ROW],
            false => shape.to_vec(),
        }
    }

    /// The type that a float tensor has where it is not quantized.
    pub fn float(&self, name: &str, shape: &[usize], source: FloatType) -> FloatType {
        let elements: usize = shape.iter().product();
        let precise = shape.len() == 1
            || shape.len() > 4
            || elements <= LEAST
            || contains_any(name, self.precise);
        match source {
            _ if shape.len() > 4 => FloatType::F32,
            FloatType::F16 => FloatType::F16,
            _ if precise => FloatType::F32,
            FloatType::Bf16 => FloatType::Bf16,
            FloatType::F32 => FloatType::F16,
        }
    }

    /// Why a tensor is not quantized, whatever the options say.
    pub fn pinned(&self, name: &str, shape: &[usize]) -> Option<&'static str> {
        let is_kept = self.kept_names.contains(&name);
        if is_kept || contains_any(name, self.kept) || contains_any(name, self.precise) {
            return Some("in float in models of its family");
        }
        if shape.iter().product::<usize>() <= LEAST {
            return Some("no more than 1024 elements");
        }
        pinned(name).or((axes(shape) != 2).then_some("not of two axes"))
    }
}

/// Whether loaders read a tensor of this name and shape, in a model of this family or of none.
///
/// # Errors
/// Why not.
pub(crate) fn check(
    family: Option<&Architecture>,
    name: &str,
    shape: &[usize],
) -> Result<(), String> {
    let most_axes = match family.is_some_and(|family| family.has_five_axes) {
        true => MOST_AXES,
        false => GGML_AXES,
    };
    check_name_and_axes(name, shape.len(), most_axes)
}

/// Axes as ggml counts them: those in front that have one element are none.
pub(crate) fn axes(shape: &[usize]) -> usize {
    let ones = shape.iter().take_while(|dim| **dim == 1).count();
    shape.len() - ones
}

/// Why llama.cpp does not quantize a tensor of this name.
pub(crate) fn pinned(name: &str) -> Option<&'static str> {
    if !name.ends_with("weight") {
        return Some("no weight by its name");
    }
    if name.contains("_norm.weight") {
        return Some("a norm, in float");
    }
    if name.contains("ffn_gate_inp.weight") {
        return Some("a router, in float");
    }
    let kept = [
        "position_embd.weight",
        "token_types.weight",
        "altup",
        "laurel",
        "per_layer_model_proj",
        "ssm_conv1d.weight",
        "shortconv.conv.weight",
        "time_mix_first.weight",
        "time_mix_w0.weight",
        "time_mix_w1.weight",
        "time_mix_w2.weight",
        "time_mix_v0.weight",
        "time_mix_v1.weight",
        "time_mix_v2.weight",
        "time_mix_a0.weight",
        "time_mix_a1.weight",
        "time_mix_a2.weight",
        "time_mix_g1.weight",
        "time_mix_g2.weight",
        "time_mix_decay_w1.weight",
        "time_mix_decay_w2.weight",
        "time_mix_lerp_fused.weight",
        "attn_rel_b.weight",
    ];
    contains_any(name, &kept).then_some("in float, as llama.cpp has it")
}
