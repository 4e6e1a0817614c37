//! Changes of the type.

use quant_models::program::ElementType;

use super::Table;
use crate::call::{Call, wrap};
use crate::tensor::{Tensor, Values};

pub(super) const TABLE: Table = &[("cast", cast)];

/// The types that MIL has names for.
pub(super) fn named(name: &str) -> Result<ElementType, String> {
    Ok(match name {
        "bool" => ElementType::Bool,
        "fp16" | "float16" => ElementType::Float16,
        "fp32" | "float32" | "float" => ElementType::Float32,
        "int8" => ElementType::Int(8),
        "uint8" => ElementType::Uint(8),
        "int16" => ElementType::Int(16),
        "uint16" => ElementType::Uint(16),
        "int32" | "int" => ElementType::Int(32),
        "uint32" => ElementType::Uint(32),
        "int64" => ElementType::Int(64),
        other => return Err(format!("the type `{other}`")),
    })
}

/// The elements as another type.
pub(super) fn convert(x: Tensor, element: ElementType) -> Result<Tensor, String> {
    let values: Values = match element {
        ElementType::Bool => super::binary::truths(&x)?.into(),
        ElementType::Int(_) | ElementType::Uint(_) => match &x.values {
            Values::Int(_) if matches!(element, ElementType::Int(32)) => x.values.clone(),
            _ => {
                let ints = x.to_ints()?;
                ints.iter()
                    .map(|&value| wrap(value, element))
                    .collect::<Vec<_>>()
                    .into()
            }
        },
        _ => match &x.values {
            Values::Float(_) => x.values.clone(),
            _ => x.to_floats()?.into(),
        },
    };
    Ok(Tensor::new(x.shape, values).with_element(element))
}

fn cast(call: &mut Call<'_>) -> Result<Vec<Tensor>, String> {
    let element = named(&call.text("dtype", "fp32")?)?;
    let x = call.take("x")?;
    call.room(&x.shape)?;
    Ok(vec![convert(x, element)?])
}
