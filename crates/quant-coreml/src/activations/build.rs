//! The graph of a function, as the model has it.

use std::collections::HashMap;

use super::net::{Block, BlockId, Bound, Net, Op, OpId, Origin, Var, VarId};
use crate::mil::program::{self, Binding, Named};

type Scopes<'a> = Vec<HashMap<&'a str, VarId>>;

impl<'p, 'a> Net<'p, 'a> {
    pub fn new(inputs: &'p [Named<'a>], block: &'p program::Block<'a>) -> Self {
        let mut net = Self::default();
        let mut scopes = vec![HashMap::new()];
        for input in inputs {
            net.define(input, None, &mut scopes);
        }
        net.walk(block, None, &mut scopes);
        let in_use = |op: &OpId| {
            let op = &net.ops[*op];
            let mut outputs = op.outputs.iter();
            ["quantize", "dequantize"].contains(&op.kind)
                && outputs.any(|&var| !net.vars[var].children.is_empty())
        };
        net.pairs_in_use = (0..net.ops.len()).filter(in_use).collect();
        net
    }

    fn define(&mut self, named: &Named<'a>, op: Option<OpId>, scopes: &mut Scopes<'a>) -> VarId {
        let id = self.vars.len();
        self.vars.push(Var {
            name: named.name.into(),
            dtype: named.kind.as_ref().map(|kind| kind.dtype),
            rank: named.kind.as_ref().map_or(0, |kind| kind.dims.len()),
            type_bytes: named.type_bytes.into(),
            op,
            children: Vec::new(),
            given: false,
            result: false,
        });
        if let Some(scope) = scopes.last_mut() {
            scope.insert(named.name, id);
        }
        id
    }

    fn walk(
        &mut self,
        block: &'p program::Block<'a>,
        outer: Option<OpId>,
        scopes: &mut Scopes<'a>,
    ) -> BlockId {
        let here = self.blocks.len();
        self.blocks.push(Block {
            outer,
            slots: Vec::new(),
        });
        scopes.push(HashMap::new());
        for input in &block.inputs {
            self.define(input, None, scopes);
        }
        for (slot, operation) in block.operations.iter().enumerate() {
            let id = self.ops.len();
            let bound = |binding: &'p Binding<'a>| match binding {
                Binding::Name(name) => find(scopes, name).map_or(Bound::Unknown, Bound::Var),
                Binding::Value(value) => Bound::Value(value),
            };
            let inputs = operation.inputs.iter();
            let inputs = inputs.map(|(key, bindings)| (*key, bindings.iter().map(bound).collect()));
            self.ops.push(Op {
                kind: operation.kind,
                name: operation.name().into(),
                inputs: inputs.collect(),
                outputs: Vec::new(),
                blocks: Vec::new(),
                block: Some(here),
                slot,
                home: slot,
                origin: Origin::Model(operation),
            });
            self.blocks[here].slots.push(vec![id]);
            self.attach(id);
            for inner in &operation.blocks {
                let inner = self.walk(inner, Some(id), scopes);
                self.ops[id].blocks.push(inner);
            }
            for output in &operation.outputs {
                let output = self.define(output, Some(id), scopes);
                self.ops[id].outputs.push(output);
            }
        }
        for name in &block.outputs {
            if let Some(var) = find(scopes, name) {
                self.vars[var].given = true;
                self.vars[var].result |= outer.is_none();
            }
        }
        scopes.pop();
        here
    }
}

fn find(scopes: &Scopes<'_>, name: &str) -> Option<VarId> {
    let mut outwards = scopes.iter().rev();
    outwards.find_map(|scope| scope.get(name).copied())
}
