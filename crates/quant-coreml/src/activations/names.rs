//! Names that nothing else in the program has.

use std::collections::HashSet;

use super::net::{BlockId, Net, Op, Origin};

impl Net<'_, '_> {
    /// What is new gets a name of its own.
    pub fn settle_names(&mut self) {
        let (mut vars, mut ops) = (Names::default(), Names::default());
        let ours = |op: &Op<'_, '_>| !matches!(op.origin, Origin::Model(_));
        for (id, var) in self.vars.iter().enumerate() {
            if var.op.is_none_or(|op| !ours(&self.ops[op])) {
                vars.take(&self.vars[id].name);
            }
        }
        for op in self.ops.iter().filter(|op| !ours(op)) {
            ops.take(&op.name);
        }
        self.settle_block(0, &mut vars, &mut ops);
    }

    fn settle_block(&mut self, block: BlockId, vars: &mut Names, ops: &mut Names) {
        for op in self.operations(block) {
            for inner in self.inner_blocks(op) {
                self.settle_block(inner, vars, ops);
            }
            if matches!(self.ops[op].origin, Origin::Model(_)) {
                continue;
            }
            self.ops[op].name = ops.free(&self.ops[op].name).into();
            for var in self.ops[op].outputs.clone() {
                self.vars[var].name = vars.free(&self.vars[var].name).into();
            }
        }
    }
}

/// Names that are taken.
#[derive(Default)]
struct Names(HashSet<String>);

impl Names {
    fn take(&mut self, name: &str) {
        self.0.insert(name.to_owned());
    }

    fn free(&mut self, name: &str) -> String {
        let mut free = name.to_owned();
        let mut count = 0;
        while !self.0.insert(free.clone()) {
            count += 1;
            free = format!("{name}_{count}");
        }
        free
    }
}
