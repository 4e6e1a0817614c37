//! Scale and zero point of an activation, as Core ML stores them.

use quant_core::{ActivationRule, FloatType, IntType, ParamsError, Scheme, ValueRange};
use quant_model::HintCommand;
use quant_model::error::{command, option};

use crate::mil::dtype::{data_type, float_type};
use crate::mil::encode::{Elements, NewValue};
use crate::mil::schema::DataType;

/// Scale and zero point of one activation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parameters {
    pub scale: f32,
    /// `None` where coremltools stores none.
    pub zero_point: Option<i32>,
    pub dtype: DataType,
    /// The activation's own type, which is that of the scale.
    pub float: DataType,
}

impl Parameters {
    pub fn new((min, max): (f32, f32), scheme: Scheme, float: DataType) -> Result<Self, String> {
        let range = ValueRange {
            min,
            max,
            non_finite: 0,
        };
        let source = float_type(float).unwrap_or(FloatType::F32);
        let params = ActivationRule::Coremltools
            .params(&range, scheme.dtype, scheme.mode, source)
            .map_err(|error| {
                let other = match error {
                    ParamsError::ZeroPointOverflow => "use the symmetric mode, or ",
                    _ => "",
                };
                format!(
                    "range {min} to {max}: {error} in f16, which coremltools computes with; {other}leave the operations that take or give it in float ({} of {})",
                    option("exclude"),
                    command(HintCommand::Activations)
                )
            })?;
        Ok(Self {
            scale: params.scale(),
            zero_point: scheme.stores_zero_point().then_some(params.zero_point()),
            dtype: data_type(scheme.dtype)?,
            float,
        })
    }

    pub fn scale_value(&self) -> NewValue {
        float_value(self.scale, self.float)
    }
}

/// A single number in the type of an activation.
pub(super) fn float_value(value: f32, dtype: DataType) -> NewValue {
    let bytes = match dtype {
        DataType::FLOAT16 => half::f16::from_f32(value).to_le_bytes().to_vec(),
        _ => value.to_le_bytes().to_vec(),
    };
    NewValue {
        dtype,
        shape: Vec::new(),
        elements: Elements::Here(bytes),
    }
}

/// What `quantize` calls the type of its output.
pub(super) fn int_name(dtype: DataType) -> &'static str {
    match dtype {
        DataType::UINT8 => IntType::Uint8.name(),
        _ => IntType::Int8.name(),
    }
}

#[cfg(test)]
mod tests {
    use quant_core::Mode;

    use super::*;

    #[test]
    fn what_f16_cannot_hold_is_refused_with_a_way_out() {
        let problem = |range, dtype, mode| {
            let scheme = Scheme::new(dtype, mode);
            Parameters::new(range, scheme, DataType::FLOAT32).unwrap_err()
        };
        let large = problem((0.0, 7e4), IntType::Int8, Mode::Symmetric);
        assert!(
            large.contains("range 0 to 70000") && large.contains("exclude"),
            "{large}"
        );
        let wide = problem((-300.0, 600.0), IntType::Uint8, Mode::Affine);
        assert!(wide.contains("symmetric mode"), "{wide}");
    }

    #[test]
    fn a_zero_point_is_stored_as_coremltools_does() {
        let stored = |dtype, mode| {
            let scheme = Scheme::new(dtype, mode);
            Parameters::new((0.0, 0.0), scheme, DataType::FLOAT16).unwrap()
        };
        let found = stored(IntType::Int8, Mode::Symmetric);
        assert_eq!((found.scale, found.zero_point), (1.0, None));
        assert_eq!(found.scale_value().elements, Elements::Here(vec![0, 0x3c]));
        let found = stored(IntType::Int8, Mode::Affine);
        assert_eq!((found.scale, found.zero_point), (1.0, Some(0)));
        assert_eq!(
            stored(IntType::Uint8, Mode::Symmetric).zero_point,
            Some(127)
        );
    }
}
