//! What coremltools does with the pairs once they are there, when it saves the model.

use std::collections::HashSet;

use super::net::{Arg, BlockId, Bound, Net, Op, OpId, Origin, Slot, Var, VarId, with_dtype};
use super::parameters::int_name;
use crate::mil::encode::NewValue;
use crate::mil::schema::DataType;

pub(super) type Done = Result<(), String>;

impl<'p, 'a> Net<'p, 'a> {
    /// All of it, in coremltools' order.
    pub fn simplify(&mut self) -> Done {
        self.eliminate_pairs(0);
        self.reshape_codes(0)?;
        self.drop_zero_points(0)?;
        self.eliminate_pairs(0);
        self.normalize_scales(0)?;
        self.merge_equal();
        // What is dead still has its name.
        self.settle_names();
        self.remove_dead();
        self.merge_equal();
        self.reorder(0);
        Ok(())
    }

    pub fn inner_blocks(&self, op: OpId) -> Vec<BlockId> {
        self.ops[op].blocks.clone()
    }

    /// `dequantize_quantize_pair_elimination`.
    fn eliminate_pairs(&mut self, block: BlockId) {
        loop {
            let mut changed = false;
            for op in self.operations(block) {
                if !self.is_alive(op) {
                    continue;
                }
                for inner in self.inner_blocks(op) {
                    self.eliminate_pairs(inner);
                }
                changed |= self.ops[op].kind == "dequantize" && self.eliminate_after(op);
            }
            if !changed {
                return;
            }
        }
    }

    /// Removes what quantizes again as it was.
    fn eliminate_after(&mut self, dequantize: OpId) -> bool {
        let (Some(output), Some(codes)) =
            (self.output(dequantize), self.input_var(dequantize, "input"))
        else {
            return false;
        };
        if self.vars[output].given {
            return false;
        }
        let (mut next, mut removed) = (0, false);
        while let Some(&child) = self.vars[output].children.get(next) {
            // coremltools goes through the list while it becomes shorter.
            next += 1;
            if self.ops[child].kind != "quantize" || !self.same_parameters(dequantize, child) {
                continue;
            }
            let Some(result) = self.output(child) else {
                continue;
            };
            if self.vars[result].given || self.vars[result].dtype != self.vars[codes].dtype {
                continue;
            }
            self.replace_uses(result, codes);
            self.remove(child);
            removed = true;
        }
        if removed && self.vars[output].children.is_empty() {
            self.remove(dequantize);
        }
        removed
    }

    fn same_input(&self, a: OpId, b: OpId, key: &str) -> bool {
        match (self.input(a, key), self.input(b, key)) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                let (a, b) = (self.constant(a), self.constant(b));
                a.is_some() && a == b
            }
            _ => false,
        }
    }

    fn same_parameters(&self, a: OpId, b: OpId) -> bool {
        let mut keys = ["scale", "zero_point", "axis"].into_iter();
        self.input(a, "scale").is_some() && keys.all(|key| self.same_input(a, b, key))
    }

    /// The same, where a zero point of 0 need not stand there.
    fn same_values(&self, a: OpId, b: OpId) -> bool {
        let zero_point = |op| match self.input(op, "zero_point") {
            None => Some(0),
            Some(_) => self.zero_point(op),
        };
        let mut keys = ["scale", "axis"].into_iter();
        self.input(a, "scale").is_some()
            && keys.all(|key| self.same_input(a, b, key))
            && (zero_point(a) == zero_point(b) && zero_point(a).is_some()
                || self.same_input(a, b, "zero_point"))
    }

    /// `int_op_canonicalization`: a reshape between the two works on codes. coremltools does not look
    /// whether the parameters are the same; where they are not, the values would change.
    fn reshape_codes(&mut self, block: BlockId) -> Done {
        loop {
            let mut changed = false;
            for op in self.operations(block) {
                for inner in self.inner_blocks(op) {
                    self.reshape_codes(inner)?;
                }
                if self.ops[op].kind == "reshape" && self.reshape_one(op)? {
                    changed = true;
                    break;
                }
            }
            if !changed {
                return Ok(());
            }
        }
    }

    fn reshape_one(&mut self, op: OpId) -> Result<bool, String> {
        let (Some(dequantize), Some(quantize)) = (
            self.input_from(op, "x", "dequantize"),
            self.only_child(op, "quantize"),
        ) else {
            return Ok(false);
        };
        let (Some(codes), Some(old), Some(result)) = (
            self.input_var(dequantize, "input"),
            self.output(op),
            self.output(quantize),
        ) else {
            return Ok(false);
        };
        let dtype = self.vars[result].dtype;
        let same = self.same_values(dequantize, quantize) && self.vars[codes].dtype == dtype;
        let here = self.ops[quantize].block == self.ops[op].block;
        if !same || !here || self.vars[result].given || self.vars[old].given {
            return Ok(false);
        }
        let mut inputs = self.ops[op].inputs.clone();
        for (key, bound) in &mut inputs {
            if *key == "x" {
                *bound = vec![Bound::Var(codes)];
            }
        }
        let name = self.vars[result].name.clone();
        let type_bytes = match dtype {
            Some(dtype) => with_dtype(&self.vars[old].type_bytes, dtype)?,
            None => return Ok(false),
        };
        let output = Var {
            name: name.clone(),
            dtype,
            rank: self.vars[old].rank,
            type_bytes: type_bytes.into(),
            op: None,
            children: Vec::new(),
            given: false,
            result: false,
        };
        let new = Op {
            kind: "reshape",
            name,
            inputs,
            outputs: Vec::new(),
            blocks: Vec::new(),
            block: None,
            slot: 0,
            home: self.ops[op].home,
            origin: Origin::Like,
        };
        let new = self.add(new, output, &mut Slot::Before(op));
        self.replace_uses(result, new);
        self.remove(quantize);
        self.remove(op);
        Ok(true)
    }

    /// `nullify_redundant_quantization_zero_point`.
    fn drop_zero_points(&mut self, block: BlockId) -> Done {
        loop {
            let mut changed = false;
            for op in self.operations(block) {
                if !self.is_alive(op) {
                    continue;
                }
                for inner in self.inner_blocks(op) {
                    self.drop_zero_points(inner)?;
                }
                if !["quantize", "dequantize"].contains(&self.ops[op].kind) {
                    continue;
                }
                match self.zero_point(op) {
                    Some(0) => self.drop_zero(op)?,
                    Some(code @ (-128 | 128)) if self.ops[op].kind == "quantize" => {
                        changed |= self.turn_sign(op, code)?;
                    }
                    _ => {}
                }
            }
            if !changed {
                return Ok(());
            }
        }
    }

    /// A single zero point of either type.
    fn zero_point(&self, op: OpId) -> Option<i32> {
        let (dtype, bytes) = self.constant(self.input(op, "zero_point")?)?;
        match (dtype, &*bytes) {
            (DataType::INT8, &[code]) => Some(i32::from(code as i8)),
            (DataType::UINT8, &[code]) => Some(i32::from(code)),
            _ => None,
        }
    }

    /// The inputs that an operation made anew shares with the old one.
    pub fn kept(&self, op: OpId, keys: &[&'static str]) -> Option<Vec<(&'static str, Arg)>> {
        let mut kept = Vec::new();
        for key in keys {
            match self.input(op, key) {
                Some(Bound::Var(var)) => kept.push((*key, Arg::Var(var))),
                Some(_) => return None,
                None => {}
            }
        }
        Some(kept)
    }

    fn drop_zero(&mut self, op: OpId) -> Done {
        let (Some(input), Some(old)) = (self.input_var(op, "input"), self.output(op)) else {
            return Ok(());
        };
        let Some(args) = self.kept(op, &["scale", "axis", "output_dtype"]) else {
            return Ok(());
        };
        let Some(dtype) = self.vars[old].dtype.filter(|_| !self.vars[old].given) else {
            return Ok(());
        };
        let kind = match self.ops[op].kind {
            "quantize" => "quantize",
            _ => "dequantize",
        };
        let new = self.add_made(kind, input, args, dtype, &mut Slot::Before(op))?;
        self.replace_uses(old, new);
        self.remove(op);
        Ok(())
    }

    /// Codes from -128 on, with the zero point there, are those of the other type from 0 on.
    fn turn_sign(&mut self, quantize: OpId, code: i32) -> Result<bool, String> {
        let Some(dequantize) = self.only_child(quantize, "dequantize") else {
            return Ok(false);
        };
        let (Some(input), Some(codes), Some(result)) = (
            self.input_var(quantize, "input"),
            self.output(quantize),
            self.output(dequantize),
        ) else {
            return Ok(false);
        };
        let Some(float) = self.vars[result].dtype else {
            return Ok(false);
        };
        let given = self.vars[codes].given || self.vars[result].given;
        let here = self.ops[quantize].block == self.ops[dequantize].block;
        if given || !here || self.zero_point(dequantize) != Some(code) {
            return Ok(false);
        }
        let (Some(mut args), Some(after)) = (
            self.kept(quantize, &["scale", "axis"]),
            self.kept(dequantize, &["scale", "axis"]),
        ) else {
            return Ok(false);
        };
        let dtype = match code {
            -128 => DataType::UINT8,
            _ => DataType::INT8,
        };
        let name = NewValue::text(int_name(dtype));
        args.push(("output_dtype", Arg::Const(name)));
        let place = &mut Slot::Before(dequantize);
        let new = self.add_made("quantize", input, args, dtype, place)?;
        let new = self.add_made("dequantize", new, after, float, place)?;
        self.replace_uses(result, new);
        self.remove(dequantize);
        self.remove(quantize);
        Ok(true)
    }

    /// `remove_redundant_ops`, of `quantize` and `dequantize`.
    fn merge_equal(&mut self) {
        loop {
            let mut changed = false;
            for var in 0..self.vars.len() {
                for kind in ["quantize", "dequantize"] {
                    changed |= self.merge_children(var, kind);
                }
            }
            if !changed {
                return;
            }
        }
    }

    fn merge_children(&mut self, var: VarId, kind: &str) -> bool {
        let of_kind = |op: &OpId| self.ops[*op].kind == kind;
        if self.vars[var]
            .children
            .iter()
            .filter(|op| of_kind(op))
            .nth(1)
            .is_none()
        {
            return false;
        }
        let mut candidates = self.children_in_order(var);
        candidates.retain(|op| of_kind(op));
        let block = |op: &OpId| self.ops[*op].block;
        if candidates
            .iter()
            .any(|op| block(op) != block(&candidates[0]))
        {
            return false;
        }
        let mut changed = false;
        for first in 0..candidates.len() {
            let one = candidates[first];
            for &other in &candidates[first + 1..] {
                if self.is_alive(one) && self.is_alive(other) && self.merge_two(one, other) {
                    changed = true;
                }
            }
        }
        changed
    }

    fn merge_two(&mut self, one: OpId, other: OpId) -> bool {
        let (Some(kept), Some(gone)) = (self.output(one), self.output(other)) else {
            return false;
        };
        let same = self.input_var(one, "input") == self.input_var(other, "input")
            && self.same_parameters(one, other)
            && self.vars[kept].dtype == self.vars[gone].dtype;
        if !same || self.vars[gone].given {
            return false;
        }
        self.replace_uses(gone, kept);
        self.remove(other);
        true
    }

    /// `dead_code_elimination`, of what has been made here and of pairs that nothing takes any more.
    fn remove_dead(&mut self) {
        loop {
            let mut changed = false;
            for op in (0..self.ops.len()).rev() {
                let removable = match self.ops[op].origin {
                    Origin::Model(_) => self.pairs_in_use.contains(&op),
                    _ => true,
                };
                let unused = |var: &VarId| {
                    let var = &self.vars[*var];
                    var.children.is_empty() && !var.given
                };
                if self.is_alive(op) && removable && self.ops[op].outputs.iter().all(unused) {
                    self.remove(op);
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    /// `topological_reorder`: casts and transposes stand right before their first consumer, also
    /// where this is new.
    fn reorder(&mut self, block: BlockId) {
        let mut moved = HashSet::new();
        for op in self.operations(block).into_iter().rev() {
            for inner in self.inner_blocks(op) {
                self.reorder(inner);
            }
            if !["cast", "transpose"].contains(&self.ops[op].kind) {
                continue;
            }
            let consumers = self.ops[op].outputs.iter();
            let consumers = consumers.filter_map(|&var| {
                let first = *self.children_in_order(var).first()?;
                self.within(first, block)
            });
            let Some(first) = consumers.min_by_key(|&op| self.place_in_block(op)) else {
                continue;
            };
            if matches!(self.ops[first].origin, Origin::Inserted) || moved.contains(&first) {
                self.move_before(op, first);
                moved.insert(op);
            }
        }
    }
}
