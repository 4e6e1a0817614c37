//! Sums of codes, of which one gets the scale 1.

use half::f16;

use super::net::{Arg, BlockId, Net, OpId, Slot};
use super::parameters::float_value;
use super::simplify::Done;
use crate::mil::schema::DataType;

impl Net<'_, '_> {
    /// `distributive_quantized_binary_op_scale_normalization`: sums of codes of which one has the
    /// scale 1.
    pub fn normalize_scales(&mut self, block: BlockId) -> Done {
        for op in self.operations(block) {
            for inner in self.inner_blocks(op) {
                self.normalize_scales(inner)?;
            }
            if self.is_alive(op) && ["add", "sub"].contains(&self.ops[op].kind) {
                self.normalize_one(op)?;
            }
        }
        Ok(())
    }

    // Long: the conditions of coremltools' pass, and what it does then, in its order.
    fn normalize_one(&mut self, op: OpId) -> Done {
        let tail = self.only_child(op, "relu").unwrap_or(op);
        let (Some(x), Some(y), Some(z)) = (
            self.input_from(op, "x", "dequantize"),
            self.input_from(op, "y", "dequantize"),
            self.only_child(tail, "quantize"),
        ) else {
            return Ok(());
        };
        let given = |op| self.output(op).is_none_or(|var| self.vars[var].given);
        let here = |other: OpId| self.ops[other].block == self.ops[op].block;
        if [x, y, op, tail, z].into_iter().any(given) || !here(tail) || !here(z) {
            return Ok(());
        }
        let found = match self.quotients(x, y, z) {
            Some(scales) => Some((x, y, scales)),
            None => self.quotients(y, x, z).map(|scales| (y, x, scales)),
        };
        let Some((x, y, (scale_x, scale_z))) = found else {
            return Ok(());
        };
        let keys = ["zero_point", "axis"];
        let (Some(args_x), Some(args_y), Some(args_z)) = (
            self.kept(x, &keys),
            self.kept(y, &keys),
            self.kept(z, &["zero_point", "axis", "output_dtype"]),
        ) else {
            return Ok(());
        };
        let (Some(codes_x), Some(codes_y), Some(sum), Some(old_z)) = (
            self.input_var(x, "input"),
            self.input_var(y, "input"),
            self.input_var(z, "input"),
            self.output(z),
        ) else {
            return Ok(());
        };
        let (Some((_, type_x)), Some((_, type_y)), Some((_, type_z)), Some(codes_z)) = (
            self.scale(x),
            self.scale(y),
            self.scale(z),
            self.vars[old_z].dtype,
        ) else {
            return Ok(());
        };
        let scaled = |value: f32, dtype, args: Vec<(&'static str, Arg)>| {
            let mut all = vec![("scale", Arg::Const(float_value(value, dtype)))];
            all.extend(args);
            all
        };
        let before = &mut Slot::Before(op);
        let args = scaled(scale_x, type_x, args_x);
        let new_x = self.add_made("dequantize", codes_x, args, type_x, before)?;
        let args = scaled(1.0, type_y, args_y);
        let new_y = self.add_made("dequantize", codes_y, args, type_y, before)?;
        let args = scaled(scale_z, type_z, args_z);
        let new_z = self.add_made("quantize", sum, args, codes_z, &mut Slot::Before(z))?;
        for (old, new) in [(x, new_x), (y, new_y)] {
            if let Some(old) = self.output(old) {
                self.rebind(op, old, new);
            }
        }
        self.replace_uses(old_z, new_z);
        self.remove(z);
        Ok(())
    }

    /// A single scale, and its type.
    fn scale(&self, op: OpId) -> Option<(f32, DataType)> {
        let (dtype, bytes) = self.constant(self.input(op, "scale")?)?;
        match (dtype, &*bytes) {
            (DataType::FLOAT16, &[a, b]) => Some((f16::from_le_bytes([a, b]).to_f32(), dtype)),
            (DataType::FLOAT32, &[a, b, c, d]) => Some((f32::from_le_bytes([a, b, c, d]), dtype)),
            _ => None,
        }
    }

    /// The scales of `x` and `z` by that of `y`, where f16 can hold them.
    fn quotients(&self, x: OpId, y: OpId, z: OpId) -> Option<(f32, f32)> {
        let ((x, _), (y_scale, _), (z, _)) = (self.scale(x)?, self.scale(y)?, self.scale(z)?);
        if self.input(y, "axis").is_some() {
            return None;
        }
        let smallest = f16::from_bits(1).to_f32();
        let fits = |value: f32| (smallest..=65504.0).contains(&value.abs());
        let (x, z) = (x / y_scale, z / y_scale);
        (fits(x) && fits(z)).then_some((x, z))
    }
}
