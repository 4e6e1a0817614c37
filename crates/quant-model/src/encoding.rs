//! The one list of how quantized tensors lie in files.
//! The defaults of each are in `preset.rs`; quant-safetensors carries out its conventions, and the list
//! of formats says who writes the others.

use quant_core::named;

/// How quantized tensors lie in files: a convention of safetensors, or another format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Encoding {
    /// quant's own: codes under the tensor's name, `NAME.scale`, `NAME.zero_point`, and a record in
    /// the file's metadata.
    #[default]
    Native,
    /// As mlx-lm writes it: `M.weight` of U32, `M.scales` and `M.biases`; a folder with its
    /// configuration.
    Mlx,
    /// As vLLM and transformers read it: `M.weight_packed` or `M.weight` of bytes, `M.weight_scale`; a
    /// folder with its configuration.
    CompressedTensors,
    /// A GGUF file with blocks of ggml's types, as llama.cpp, ComfyUI-GGUF and candle read it.
    Gguf,
}

named!(
    Encoding, "format":
    Native "native",
    Mlx "mlx",
    CompressedTensors "compressed-tensors",
    Gguf "gguf",
);

impl Encoding {
    /// Of the options about integer types, modes, blocks and selection, those that have an effect.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Native => &[
                "dtype",
                "mode",
                "granularity",
                "axis",
                "block_size",
                "block_axis",
                "block",
                "config",
                "dialect",
                "min_elements",
                "experts",
                "expert_axes",
                "search",
                "importance",
                "method",
                "target_bits",
                "target_size",
                "target_sqnr",
                "candidates",
            ],
            Self::Mlx => &[
                "bits",
                "group_size",
                "search",
                "importance",
                "method",
                "target_bits",
                "target_size",
                "target_sqnr",
                "candidates",
            ],
            Self::CompressedTensors => &[
                "bits",
                "group_size",
                "preset",
                "mode",
                "search",
                "importance",
                "method",
                "target_bits",
                "target_size",
                "target_sqnr",
                "candidates",
            ],
            Self::Gguf => &["type", "requantize", "min_elements"],
        }
    }

    /// Whether an option of [`QuantizeOptions`](crate::QuantizeOptions), by the name that a command
    /// gives it, has an effect with this encoding. One that no encoding names has an effect with all.
    pub fn takes(self, option: &str) -> bool {
        let has = |encoding: &Self| encoding.options().contains(&option);
        has(&self) || !Self::ALL.iter().any(has)
    }
}
