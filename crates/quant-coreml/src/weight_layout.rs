//! How the parts of a quantized weight lie in its operation and in the weight file. It is decided
//! here, once; what writes parts and what refers to them follows it.

use quant_core::FloatType;
use quant_simd::TensorQuantizer;

use super::blob::ALIGN;
use super::constexpr::{AFFINE, BLOCKWISE};
use super::emit::Part;
use crate::mil::dtype::data_type;
use crate::mil::schema::DataType;

/// The operation of a quantized weight, and its parts.
pub(crate) struct WeightLayout {
    /// The operation's type.
    pub kind: &'static str,
    /// Whether its parameters are inputs, not attributes.
    pub as_inputs: bool,
    /// Its parameters: the parts in their order, then the axis.
    pub parameters: &'static [&'static str],
    /// In the order of the weight file.
    pub parts: Vec<PartLayout>,
    /// Along which axis scales lie, where the operation says so.
    pub axis: Option<usize>,
}

/// One part.
pub(crate) struct PartLayout {
    pub role: Role,
    pub dtype: DataType,
    pub shape: Vec<usize>,
}

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Codes,
    Scales,
    ZeroPoints,
    /// The zero points that an operation has although the scheme has none.
    Zeros,
}

impl WeightLayout {
    /// `since_18` says whether the model may hold the operations of iOS 18.
    ///
    /// # Errors
    /// Codes that Core ML has no type for.
    pub fn new(quantizer: &TensorQuantizer, since_18: bool) -> Result<Self, String> {
        let codes = data_type(quantizer.scheme.dtype)?;
        let scales = match quantizer.scale_type() {
            FloatType::F32 => DataType::FLOAT32,
            FloatType::F16 | FloatType::Bf16 => DataType::FLOAT16,
        };
        let has_zero_points = quantizer.zero_points_len() > 0;
        let scale_shape = quantizer.blocks.scale_shape();
        let part = |role: Role, dtype: DataType, shape: &[usize]| PartLayout {
            role,
            dtype,
            shape: shape.to_vec(),
        };
        let first = part(Role::Codes, codes, quantizer.blocks.shape());
        if since_18 {
            let mut parts = vec![first, part(Role::Scales, scales, &scale_shape)];
            if has_zero_points {
                parts.push(part(Role::ZeroPoints, codes, &scale_shape));
            }
            return Ok(Self {
                kind: BLOCKWISE,
                as_inputs: true,
                parameters: &["data", "scale", "offset"],
                parts,
                axis: None,
            });
        }
        // The older operation always has zero points; a scale alone has rank 0 there.
        let axis = scale_shape.iter().position(|&count| count > 1);
        let shape = axis.map_or(vec![], |axis| vec![scale_shape[axis]]);
        let role = match has_zero_points {
            true => Role::ZeroPoints,
            false => Role::Zeros,
        };
        Ok(Self {
            kind: AFFINE,
            as_inputs: false,
            parameters: &["quantized_data", "zero_point", "scale", "axis"],
            parts: vec![
                first,
                part(role, codes, &shape),
                part(Role::Scales, scales, &shape),
            ],
            axis: Some(axis.unwrap_or(0)),
        })
    }

    /// Bytes of all parts.
    pub fn len(&self) -> usize {
        let parts = self.parts.iter();
        parts
            .map(|part| Part::stored_len(part.dtype, &part.shape))
            .sum()
    }

    /// Where the parts go if the next record of the weight file begins at `start`, `None` for those
    /// that are too small for it; and where the record after them begins.
    pub fn places(&self, start: u64) -> (Vec<Option<u64>>, u64) {
        let mut end = start;
        let mut place = |part: &PartLayout| {
            let part = Part::len_of(part.dtype, &part.shape)?;
            let at = end.next_multiple_of(ALIGN) + ALIGN;
            end = at + part;
            Some(at)
        };
        let places = self.parts.iter().map(&mut place).collect();
        (places, end)
    }
}

impl PartLayout {
    /// Whether its bytes go to the weight file as the kernels make them.
    pub fn is_written_directly(&self) -> bool {
        match self.role {
            Role::Codes | Role::Scales => true,
            // One byte each; shorter ones have yet to be packed.
            Role::ZeroPoints => self.dtype.stored().is_some_and(|(bits, _)| bits == 8),
            Role::Zeros => false,
        }
    }
}
