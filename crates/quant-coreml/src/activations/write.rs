//! The model with a changed [`Net`] in place of each function's operations; everything else, and all
//! of an operation that does not change, stays as it stands.

use super::net::{BlockId, Bound, Net, Op, OpId, Origin};
use crate::mil::encode::{renamed, write_entry, write_name};
use crate::mil::rewrite::rewrite_programs;
use crate::mil::schema::{argument, block, function, map, named, operation, program};
use crate::mil::wire::{Writer, entry, fields, rewrite, rewrite_messages};

type Changed = Result<Option<Vec<u8>>, String>;

/// The model, where `nets` are those of all specializations of all functions, in order.
pub(super) fn write(bytes: &[u8], nets: &[Net<'_, '_>]) -> Result<Vec<u8>, String> {
    let mut nets = nets.iter();
    let changed = rewrite_programs(bytes, &mut |bytes| {
        let changed = rewrite_messages(bytes, |number, bytes| match number {
            program::FUNCTIONS => map_value(bytes, |bytes| {
                rewrite_messages(bytes, |number, bytes| match number {
                    function::BLOCKS => map_value(bytes, |bytes| match nets.next() {
                        Some(net) => net.block(bytes, 0),
                        None => Ok(None),
                    }),
                    _ => Ok(None),
                })
            }),
            _ => Ok(None),
        })?;
        Ok((changed, 0))
    })?;
    Ok(changed.unwrap_or_else(|| bytes.to_vec()))
}

/// As in the reader, the last value counts.
fn map_value<'a>(bytes: &'a [u8], mut change: impl FnMut(&'a [u8]) -> Changed) -> Changed {
    let (_, value) = entry(bytes)?;
    let Some(changed) = change(value)? else {
        return Ok(None);
    };
    rewrite_messages(bytes, |number, bytes| {
        let is_it = number == map::VALUE && std::ptr::eq(bytes, value);
        Ok(is_it.then(|| changed.clone()))
    })
}

impl Net<'_, '_> {
    fn block(&self, bytes: &[u8], id: BlockId) -> Changed {
        let mut messages = Vec::new();
        for field in fields(bytes) {
            let field = field?;
            if field.number == block::OPERATIONS {
                messages.push(field.bytes()?);
            }
        }
        let mut next = 0;
        rewrite(bytes, |field| {
            if field.number != block::OPERATIONS {
                return Ok(None);
            }
            let slot = &self.blocks[id].slots[next];
            next += 1;
            let mut out = Writer::default();
            for &op in slot {
                out.bytes(block::OPERATIONS, &self.operation(op, &messages)?);
            }
            Ok((out.0 != field.whole).then_some(out.0))
        })
    }

    /// `messages` are those of the operations of its block in the model.
    fn operation(&self, id: OpId, messages: &[&[u8]]) -> Result<Vec<u8>, String> {
        let op = &self.ops[id];
        match &op.origin {
            Origin::Model(_) => self.changed(op, messages[op.home]),
            Origin::Like => self.like(op, messages[op.home]),
            Origin::Const(value) => {
                let mut out = Writer::default();
                out.bytes(operation::TYPE, op.kind.as_bytes());
                self.outputs(op, &mut out);
                write_name(&mut out, &op.name);
                write_entry(&mut out, operation::ATTRIBUTES, "val", |out| {
                    value.write(out, "");
                });
                Ok(out.0)
            }
            Origin::Inserted => {
                let mut out = Writer::default();
                out.bytes(operation::TYPE, op.kind.as_bytes());
                for (key, bound) in &op.inputs {
                    write_entry(&mut out, operation::INPUTS, key, |out| {
                        for bound in bound {
                            if let Bound::Var(var) = bound {
                                out.message(argument::BINDINGS, |out| {
                                    out.bytes(argument::NAME, self.vars[*var].name.as_bytes());
                                });
                            }
                        }
                    });
                }
                self.outputs(op, &mut out);
                write_name(&mut out, &op.name);
                Ok(out.0)
            }
        }
    }

    fn outputs(&self, op: &Op<'_, '_>, out: &mut Writer) {
        for &var in &op.outputs {
            let var = &self.vars[var];
            out.message(operation::OUTPUTS, |out| {
                out.bytes(named::NAME, var.name.as_bytes());
                out.bytes(named::TYPE, &var.type_bytes);
            });
        }
    }

    /// An operation of the model, with the inputs and the blocks that it has now.
    fn changed(&self, op: &Op<'_, '_>, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut blocks = op.blocks.iter();
        let changed = rewrite_messages(bytes, |number, bytes| match number {
            operation::INPUTS => self.entry(op, bytes),
            operation::BLOCKS => match blocks.next() {
                Some(&inner) => self.block(bytes, inner),
                None => Ok(None),
            },
            _ => Ok(None),
        })?;
        Ok(changed.unwrap_or_else(|| bytes.to_vec()))
    }

    /// An entry of an operation's inputs.
    fn entry(&self, op: &Op<'_, '_>, bytes: &[u8]) -> Changed {
        let (key, _) = entry(bytes)?;
        let bound = op.inputs.iter().find(|(other, _)| *other == key);
        let Some((_, bound)) = bound else {
            return Ok(None);
        };
        let mut bound = bound.iter();
        map_value(bytes, |bytes| {
            rewrite_messages(bytes, |number, bytes| {
                if number != argument::BINDINGS {
                    return Ok(None);
                }
                rewrite_messages(bytes, |number, text| {
                    if ![argument::NAME, argument::VALUE].contains(&number) {
                        return Ok(None);
                    }
                    let Some(Bound::Var(var)) = bound.next() else {
                        return Ok(None);
                    };
                    let name = self.vars[*var].name.as_bytes();
                    Ok((number == argument::NAME && name != text).then(|| name.to_vec()))
                })
            })
        })
    }

    /// An operation of the model with another name, other inputs and another output.
    fn like(&self, op: &Op<'_, '_>, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut outputs = Writer::default();
        self.outputs(op, &mut outputs);
        let mut named = false;
        let changed = rewrite(bytes, |field| {
            let mut out = Writer::default();
            match field.number {
                operation::OUTPUTS => out = std::mem::take(&mut outputs),
                operation::INPUTS => match self.entry(op, field.bytes()?)? {
                    Some(input) => out.bytes(operation::INPUTS, &input),
                    None => return Ok(None),
                },
                operation::ATTRIBUTES if entry(field.bytes()?)?.0 == "name" => {
                    named = true;
                    let attribute = renamed(field.bytes()?, &op.name)?;
                    out.bytes(operation::ATTRIBUTES, &attribute);
                }
                _ => return Ok(None),
            }
            Ok(Some(out.0))
        })?;
        let mut out = Writer(changed.unwrap_or_else(|| bytes.to_vec()));
        if !named {
            write_name(&mut out, &op.name);
        }
        Ok(out.0)
    }
}
