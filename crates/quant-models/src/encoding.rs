//! The one list of conventions of how quantized tensors lie in safetensors files.
//! [`convention`](Encoding::convention) says what carries out each.

use quant_core::named;

/// A convention of how quantized tensors lie in safetensors files.
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
}

named!(
    Encoding, "format":
    Native "native",
    Mlx "mlx",
    CompressedTensors "compressed-tensors",
);
