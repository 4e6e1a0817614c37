//! Core ML's element types beside quant's.

use quant_core::{FloatType, IntType};

use super::schema::DataType;

/// The type in Core ML.
///
/// # Errors
/// Core ML has no such type for weights with scales.
pub(crate) fn data_type(dtype: IntType) -> Result<DataType, String> {
    match dtype {
        IntType::Int8 => Ok(DataType::INT8),
        IntType::Uint8 => Ok(DataType::UINT8),
        IntType::Int4 => Ok(DataType::INT4),
        IntType::Uint4 => Ok(DataType::UINT4),
        IntType::Int2
        | IntType::Uint2
        | IntType::Int3
        | IntType::Uint3
        | IntType::Int5
        | IntType::Uint5
        | IntType::Int6
        | IntType::Uint6 => Err(format!(
            "Core ML cannot store codes of type {dtype}; use int8, uint8, int4 or uint4"
        )),
    }
}

pub(crate) fn float_type(dtype: DataType) -> Option<FloatType> {
    match dtype {
        DataType::FLOAT16 => Some(FloatType::F16),
        DataType::FLOAT32 => Some(FloatType::F32),
        _ => None,
    }
}

pub(crate) fn int_type(dtype: DataType) -> Option<IntType> {
    IntType::ALL
        .into_iter()
        .find(|&int| data_type(int) == Ok(dtype))
}
