//! The program written anew, with operations in place of others.

use crate::program::{
    ATTRIBUTES, Block, OPERANDS, ORDERS, Operation, PROPERTIES, REGION_SECTION, REGIONS, RESULTS,
    Region, SUCCESSORS,
};
use crate::wire::{put_flagged, put_varint};

/// An operation that takes another's place.
#[derive(Clone, Debug)]
pub(crate) struct NewOperation<'a> {
    pub name: usize,
    pub location: usize,
    pub properties: Option<usize>,
    /// The type of its only result.
    pub result: usize,
    /// Other ones of the same replacement, by their place in it.
    pub operands: Vec<usize>,
    pub orders: &'a [u8],
}

/// What an operation of one result becomes.
#[derive(Clone, Debug)]
pub(crate) enum Edit<'a> {
    /// Nothing: no other operation uses it.
    Remove,
    /// These, of which the last one's result takes the place of its own.
    Replace(Vec<NewOperation<'a>>),
    /// What it was, but for the order of its uses, of which some are gone.
    Unordered,
}

impl Edit<'_> {
    /// Values that it defines, for an operation that has so many results.
    fn results(&self, old: usize) -> usize {
        match self {
            Self::Remove => 0,
            Self::Replace(operations) => operations.len(),
            Self::Unordered => old,
        }
    }
}

/// The program with what is changed; `edit` says it by an operation's id.
pub(crate) fn write<'a>(
    program: &Block<'a>,
    edit: &dyn Fn(usize) -> Option<&'a Edit<'a>>,
) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer {
        edit,
        values: Vec::new(),
        next: 0,
    };
    writer.number(program);
    let end = writer.next;
    writer.block(&mut out, program, 0, end);
    out
}

struct Writer<'w, 'a> {
    edit: &'w dyn Fn(usize) -> Option<&'a Edit<'a>>,
    /// The new numbers of the values that can be seen.
    values: Vec<usize>,
    next: usize,
}

impl<'a> Writer<'_, 'a> {
    /// Numbers the values of a block.
    fn number(&mut self, block: &Block<'a>) {
        self.count(block.arguments.len());
        for operation in &block.operations {
            match (self.edit)(operation.id) {
                None | Some(Edit::Unordered) => self.count(operation.results.len()),
                // Nobody asks for the number of what is removed.
                Some(edit @ (Edit::Remove | Edit::Replace(_))) => {
                    self.next += edit.results(1);
                    self.values.push(self.next.wrapping_sub(1));
                }
            }
        }
    }

    fn count(&mut self, count: usize) {
        self.values.extend(self.next..self.next + count);
        self.next += count;
    }

    fn region(&mut self, out: &mut Vec<u8>, region: &Region<'a>) {
        put_varint(out, region.blocks.len() as u64);
        if region.blocks.is_empty() {
            return;
        }
        let (known, first) = (self.values.len(), self.next);
        for block in &region.blocks {
            self.number(block);
        }
        let end = self.next;
        put_varint(out, (end - first) as u64);
        let mut at = first;
        for block in &region.blocks {
            at = self.block(out, block, at, end);
        }
        self.values.truncate(known);
        self.next = first;
    }

    /// Writes a block whose first value has the number `at`; returns the number after its last one.
    /// Regions in it begin at `end`.
    fn block(&mut self, out: &mut Vec<u8>, block: &Block<'a>, mut at: usize, end: usize) -> usize {
        let count = |operation: &Operation<'_>| match (self.edit)(operation.id) {
            None | Some(Edit::Unordered) => 1,
            Some(edit) => edit.results(1),
        };
        let count: usize = block.operations.iter().map(count).sum();
        put_flagged(out, count as u64, block.has_arguments);
        if block.has_arguments {
            put_varint(out, block.arguments.len() as u64);
            for (kind, location) in &block.arguments {
                put_flagged(out, *kind as u64, location.is_some());
                location.iter().for_each(|it| put_varint(out, *it as u64));
            }
            out.extend(block.orders);
        }
        at += block.arguments.len();
        for operation in &block.operations {
            let edit = (self.edit)(operation.id);
            self.next = end;
            match edit {
                None => self.operation(out, operation, false),
                Some(Edit::Unordered) => self.operation(out, operation, true),
                Some(Edit::Remove) => {}
                Some(Edit::Replace(operations)) => {
                    operations.iter().for_each(|new| new.write(out, at));
                }
            }
            at += edit.map_or(operation.results.len(), |edit| {
                edit.results(operation.results.len())
            });
        }
        at
    }

    fn operation(&mut self, out: &mut Vec<u8>, operation: &Operation<'a>, is_unordered: bool) {
        put_varint(out, operation.name as u64);
        let mask = match is_unordered {
            true => operation.mask & !ORDERS,
            false => operation.mask,
        };
        let has = |flag| mask & flag != 0;
        out.push(mask);
        put_varint(out, operation.location as u64);
        if has(ATTRIBUTES) {
            put_varint(out, operation.attributes as u64);
        }
        let put_all = |out: &mut Vec<u8>, all: &mut dyn ExactSizeIterator<Item = u64>| {
            put_varint(out, all.len() as u64);
            all.for_each(|it| put_varint(out, it));
        };
        if let Some(properties) = operation.properties {
            put_varint(out, properties as u64);
        }
        if has(RESULTS) {
            put_all(out, &mut operation.results.iter().map(|it| *it as u64));
        }
        if has(OPERANDS) {
            let operands = operation.operands.iter();
            put_all(out, &mut operands.map(|it| self.values[*it] as u64));
        }
        if has(SUCCESSORS) {
            put_all(out, &mut operation.successors.iter().map(|it| *it as u64));
        }
        if has(ORDERS) {
            out.extend(operation.orders);
        }
        if has(REGIONS) {
            self.regions(out, operation);
        }
    }

    fn regions(&mut self, out: &mut Vec<u8>, operation: &Operation<'a>) {
        put_flagged(out, operation.regions.len() as u64, operation.is_isolated);
        for region in &operation.regions {
            if !operation.is_isolated {
                self.region(out, region);
                continue;
            }
            let mut inner = Writer {
                edit: self.edit,
                values: Vec::new(),
                next: 0,
            };
            let mut body = Vec::new();
            inner.region(&mut body, region);
            out.push(REGION_SECTION);
            put_varint(out, body.len() as u64);
            out.append(&mut body);
        }
    }
}

impl NewOperation<'_> {
    /// `first` is the number of the first value of the replacement.
    fn write(&self, out: &mut Vec<u8>, first: usize) {
        put_varint(out, self.name as u64);
        let mut mask = RESULTS;
        for (flag, is_there) in [
            (PROPERTIES, self.properties.is_some()),
            (OPERANDS, !self.operands.is_empty()),
            (ORDERS, !self.orders.is_empty()),
        ] {
            mask |= if is_there { flag } else { 0 };
        }
        out.push(mask);
        put_varint(out, self.location as u64);
        if let Some(properties) = self.properties {
            put_varint(out, properties as u64);
        }
        put_varint(out, 1);
        put_varint(out, self.result as u64);
        if !self.operands.is_empty() {
            put_varint(out, self.operands.len() as u64);
            for operand in &self.operands {
                put_varint(out, (first + operand) as u64);
            }
        }
        out.extend(self.orders);
    }
}
