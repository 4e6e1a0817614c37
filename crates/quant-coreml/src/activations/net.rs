//! A function's operations as a graph that can be changed.
//!
//! coremltools' passes look at a variable's first consumer, and the order of consumers follows from
//! the order in which operations were attached to it. So this order is kept as coremltools keeps it:
//! an operation that gets new inputs, or is made anew, goes to the end of each list.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::mil::encode::{Elements, NewValue, with_varint};
use crate::mil::program::{Operation, TensorType, Value};
use crate::mil::schema::{DataType, types};
use crate::mil::wire::rewrite_messages;

/// Positions of variables, operations and blocks in a [`Net`].
pub(super) type VarId = usize;
pub(super) type OpId = usize;
pub(super) type BlockId = usize;

/// One specialization of a function.
#[derive(Debug, Default)]
pub(super) struct Net<'p, 'a> {
    pub vars: Vec<Var<'a>>,
    pub ops: Vec<Op<'p, 'a>>,
    /// The first is the function's own.
    pub blocks: Vec<Block>,
    /// `quantize` and `dequantize` operations of the model that something takes.
    pub pairs_in_use: HashSet<OpId>,
    /// How many operations of a kind have been named.
    counts: HashMap<&'static str, usize>,
}

#[derive(Debug)]
pub(super) struct Var<'a> {
    pub name: Cow<'a, str>,
    pub dtype: Option<DataType>,
    pub rank: usize,
    /// A `ValueType`.
    pub type_bytes: Cow<'a, [u8]>,
    /// What gives it; function and block inputs come from nowhere.
    pub op: Option<OpId>,
    /// What takes it, once per input; not kept for constants of the model.
    pub children: Vec<OpId>,
    /// A block's result.
    pub given: bool,
    /// The function's result.
    pub result: bool,
}

#[derive(Debug)]
pub(super) struct Op<'p, 'a> {
    pub kind: &'a str,
    pub name: Cow<'a, str>,
    pub inputs: Vec<(&'a str, Vec<Bound<'p, 'a>>)>,
    pub outputs: Vec<VarId>,
    pub blocks: Vec<BlockId>,
    /// Where it stands; nothing once it has been removed.
    pub block: Option<BlockId>,
    /// Which of its block's slots it stands in.
    pub slot: usize,
    /// Which operation of its block it is in the model.
    pub home: usize,
    pub origin: Origin<'p, 'a>,
}

/// Where an operation comes from.
#[derive(Debug)]
pub(super) enum Origin<'p, 'a> {
    /// The model.
    Model(&'p Operation<'a>),
    Const(NewValue),
    /// A `quantize` or `dequantize` that the model had not.
    Inserted,
    /// An operation of the model, at its home, that got another name, type and inputs.
    Like,
}

/// What is bound to an input.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bound<'p, 'a> {
    Var(VarId),
    Value(&'p Value<'a>),
    /// A name that nothing defines.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Block {
    /// The operation that it belongs to.
    pub outer: Option<OpId>,
    /// Per operation of the model: this operation, and what has been put before and after it.
    pub slots: Vec<Vec<OpId>>,
}

/// Where a new operation goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    Before(OpId),
    After(OpId),
}

/// An input of a new operation.
pub(super) enum Arg {
    Var(VarId),
    Const(NewValue),
}

impl<'p, 'a> Net<'p, 'a> {
    /// The lists of consumers as they are when the model is read: in the order of the program.
    pub fn read_again(&mut self) {
        self.counts.clear();
        for var in &mut self.vars {
            var.children.clear();
        }
        self.attach_block(0);
    }

    fn attach_block(&mut self, block: BlockId) {
        for op in self.operations(block) {
            self.attach(op);
            for inner in self.ops[op].blocks.clone() {
                self.attach_block(inner);
            }
        }
    }

    /// The operations of a block, in order.
    pub fn operations(&self, block: BlockId) -> Vec<OpId> {
        self.blocks[block].slots.iter().flatten().copied().collect()
    }

    pub fn is_alive(&self, op: OpId) -> bool {
        self.ops[op].block.is_some()
    }

    /// The one output of an operation.
    pub fn output(&self, op: OpId) -> Option<VarId> {
        match self.ops[op].outputs[..] {
            [output] => Some(output),
            _ => None,
        }
    }

    /// What is bound to an input, if it is one thing.
    pub fn input(&self, op: OpId, name: &str) -> Option<Bound<'p, 'a>> {
        let mut inputs = self.ops[op].inputs.iter();
        match inputs.find(|(key, _)| *key == name)?.1[..] {
            [one] => Some(one),
            _ => None,
        }
    }

    pub fn input_var(&self, op: OpId, name: &str) -> Option<VarId> {
        match self.input(op, name)? {
            Bound::Var(var) => Some(var),
            _ => None,
        }
    }

    /// The operation that gives an input, if it is of this kind.
    pub fn input_from(&self, op: OpId, name: &str, kind: &str) -> Option<OpId> {
        let from = self.vars[self.input_var(op, name)?].op?;
        (self.ops[from].kind == kind).then_some(from)
    }

    /// The only consumer of an operation's only output, if it is of this kind.
    pub fn only_child(&self, op: OpId, kind: &str) -> Option<OpId> {
        match self.vars[self.output(op)?].children[..] {
            [child] if self.ops[child].kind == kind => Some(child),
            _ => None,
        }
    }

    /// Whether it is a constant of the model, or made of one.
    pub fn is_constant(&self, var: VarId) -> bool {
        let from = self.vars[var].op.map(|op| &self.ops[op]);
        from.is_some_and(|op| op.kind == "const" || op.kind.starts_with("constexpr_"))
    }

    fn is_tracked(&self, var: VarId) -> bool {
        let from = self.vars[var].op.map(|op| &self.ops[op].origin);
        !matches!(from, Some(Origin::Model(_))) || !self.is_constant(var)
    }

    /// The variables that it takes, once per input.
    pub fn taken(&self, op: OpId) -> Vec<VarId> {
        let inputs = self.ops[op].inputs.iter().flat_map(|(_, bound)| bound);
        let vars = inputs.filter_map(|bound| match bound {
            Bound::Var(var) => Some(*var),
            _ => None,
        });
        vars.collect()
    }

    /// Puts an operation at the end of the lists of what it takes.
    pub fn attach(&mut self, op: OpId) {
        for var in self.taken(op) {
            if self.is_tracked(var) {
                self.vars[var].children.push(op);
            }
        }
    }

    /// Takes it from these lists, where it stands first.
    pub fn detach(&mut self, op: OpId, taken: &[VarId]) {
        for &var in taken {
            let children = &mut self.vars[var].children;
            if let Some(at) = children.iter().position(|&child| child == op) {
                children.remove(at);
            }
        }
    }

    /// Binds `new` wherever an operation takes `old`.
    pub fn rebind(&mut self, op: OpId, old: VarId, new: VarId) {
        let before = self.taken(op);
        if !before.contains(&old) {
            return;
        }
        self.detach(op, &before);
        for bound in self.ops[op].inputs.iter_mut().flat_map(|(_, bound)| bound) {
            if matches!(bound, Bound::Var(var) if *var == old) {
                *bound = Bound::Var(new);
            }
        }
        self.attach(op);
    }

    /// All consumers of `old` take `new`, each in its turn.
    pub fn replace_uses(&mut self, old: VarId, new: VarId) {
        for op in self.vars[old].children.clone() {
            self.rebind(op, old, new);
        }
    }

    /// The consumers of a variable in the order of the program.
    pub fn children_in_order(&self, var: VarId) -> Vec<OpId> {
        let mut children: Vec<_> = self.vars[var]
            .children
            .iter()
            .map(|&op| (self.path(op), op))
            .collect();
        children.sort();
        children.dedup();
        children.into_iter().map(|(_, op)| op).collect()
    }

    /// Slot and position in it, from the function's block inwards.
    fn path(&self, op: OpId) -> Vec<(usize, usize)> {
        let mut path = Vec::new();
        let mut next = Some(op);
        while let Some(op) = next {
            let Some(block) = self.ops[op].block else {
                break;
            };
            path.push((self.ops[op].slot, self.position(op, block)));
            next = self.blocks[block].outer;
        }
        path.reverse();
        path
    }

    /// Slot and position in it.
    pub fn place_in_block(&self, op: OpId) -> (usize, usize) {
        let block = self.ops[op].block;
        let position = block.map_or(0, |block| self.position(op, block));
        (self.ops[op].slot, position)
    }

    fn position(&self, op: OpId, block: BlockId) -> usize {
        let slot = &self.blocks[block].slots[self.ops[op].slot];
        slot.iter().position(|&other| other == op).unwrap_or(0)
    }

    /// The operation of `block` that an operation is, or is within.
    pub fn within(&self, mut op: OpId, block: BlockId) -> Option<OpId> {
        loop {
            let here = self.ops[op].block?;
            if here == block {
                return Some(op);
            }
            op = self.blocks[here].outer?;
        }
    }

    fn put(&mut self, op: OpId, place: Slot) {
        let (Slot::Before(other) | Slot::After(other)) = place;
        let Some(block) = self.ops[other].block else {
            return;
        };
        let at = self.position(other, block) + usize::from(matches!(place, Slot::After(_)));
        let slot = self.ops[other].slot;
        self.blocks[block].slots[slot].insert(at, op);
        self.ops[op].block = Some(block);
        self.ops[op].slot = slot;
    }

    fn take_out(&mut self, op: OpId) {
        if let Some(block) = self.ops[op].block.take() {
            self.blocks[block].slots[self.ops[op].slot].retain(|&other| other != op);
        }
    }

    pub fn remove(&mut self, op: OpId) {
        self.take_out(op);
        let taken = self.taken(op);
        self.detach(op, &taken);
    }

    pub fn move_before(&mut self, op: OpId, other: OpId) {
        self.take_out(op);
        self.put(op, Slot::Before(other));
    }

    /// Adds an operation of the given inputs and one output; where the place is after another one,
    /// the next goes after this.
    pub fn add(&mut self, op: Op<'p, 'a>, output: Var<'a>, place: &mut Slot) -> VarId {
        let (id, var) = (self.ops.len(), self.vars.len());
        self.ops.push(op);
        self.ops[id].outputs = vec![var];
        self.vars.push(Var {
            op: Some(id),
            ..output
        });
        self.put(id, *place);
        if matches!(place, Slot::After(_)) {
            *place = Slot::After(id);
        }
        self.attach(id);
        var
    }

    fn add_const(&mut self, name: String, value: NewValue, place: &mut Slot) -> VarId {
        let output = Var {
            name: name.clone().into(),
            dtype: Some(value.dtype),
            rank: 0,
            type_bytes: value.type_bytes().into(),
            op: None,
            children: Vec::new(),
            given: false,
            result: false,
        };
        let op = Op {
            kind: "const",
            name: name.into(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            blocks: Vec::new(),
            block: None,
            slot: 0,
            home: 0,
            origin: Origin::Const(value),
        };
        self.add(op, output, place)
    }

    /// Adds a `quantize` or `dequantize` of `input`, whose output has type `dtype`.
    pub fn add_made(
        &mut self,
        kind: &'static str,
        input: VarId,
        args: Vec<(&'static str, Arg)>,
        dtype: DataType,
        place: &mut Slot,
    ) -> Result<VarId, String> {
        let count = self.counts.entry(kind).or_default();
        let name = format!("{kind}_{count}");
        *count += 1;
        let mut inputs = vec![("input", vec![Bound::Var(input)])];
        for (key, arg) in args {
            let var = match arg {
                Arg::Var(var) => var,
                Arg::Const(value) => self.add_const(format!("{name}_{key}_0"), value, place),
            };
            inputs.push((key, vec![Bound::Var(var)]));
        }
        let output = Var {
            name: name.clone().into(),
            dtype: Some(dtype),
            rank: self.vars[input].rank,
            type_bytes: with_dtype(&self.vars[input].type_bytes, dtype)?.into(),
            op: None,
            children: Vec::new(),
            given: false,
            result: false,
        };
        let op = Op {
            kind,
            name: name.into(),
            inputs,
            outputs: Vec::new(),
            blocks: Vec::new(),
            block: None,
            slot: 0,
            home: 0,
            origin: Origin::Inserted,
        };
        Ok(self.add(op, output, place))
    }

    /// A constant's type and the bytes of its elements.
    pub fn constant(&self, bound: Bound<'p, 'a>) -> Option<(DataType, Cow<'_, [u8]>)> {
        let of = |value: &'p Value<'a>| {
            let TensorType { dtype, .. } = value.kind.as_ref()?;
            // Pairs along an axis, which alone is such a number, are left as they are.
            let known = *dtype != DataType::INT32;
            Some((*dtype, value.elements().filter(|_| known)?))
        };
        match bound {
            Bound::Value(value) => of(value),
            Bound::Unknown => None,
            Bound::Var(var) => match &self.ops[self.vars[var].op?].origin {
                Origin::Model(operation) if operation.kind == "const" => {
                    of(operation.attribute("val")?)
                }
                Origin::Const(NewValue {
                    dtype,
                    elements: Elements::Here(bytes),
                    ..
                }) => Some((*dtype, Cow::Borrowed(bytes))),
                _ => None,
            },
        }
    }
}

/// A `ValueType` of a tensor, with other elements.
pub(super) fn with_dtype(type_bytes: &[u8], dtype: DataType) -> Result<Vec<u8>, String> {
    let changed = rewrite_messages(type_bytes, |number, tensor| match number {
        types::TENSOR => with_varint(tensor, types::DATA_TYPE, dtype.0).map(Some),
        _ => Ok(None),
    })?;
    Ok(changed.unwrap_or_else(|| type_bytes.to_vec()))
}
