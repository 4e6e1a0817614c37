//! The model with some operations changed, and everything else as it was.

use std::collections::HashMap;

use super::encode::{Edit, become_other, stored, with_text, with_varint};
use super::read::blob;
use super::schema::pipeline;
use super::schema::{argument, block, function, map, model, named, operation, program, value};
use super::wire::{Content, Writer, entry, fields, rewrite, rewrite_messages};

/// All that changes.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// By the operation's position in the program.
    pub edits: HashMap<usize, Edit>,
    /// New names of results, by the position of the operation that gives them.
    pub renamed: HashMap<usize, String>,
    /// New places of records: weight file and old offset.
    pub moved: HashMap<(String, u64), u64>,
    /// Stages that need a higher version: that, and its opset.
    pub raised: HashMap<usize, (u64, &'static str)>,
}

type Changed = Result<Option<Vec<u8>>, String>;
type Raised = Option<(u64, &'static str)>;
/// From an ML program to its replacement, and the version that it needs.
type ProgramChange<'c, 'a> = dyn FnMut(&'a [u8]) -> Result<(Option<Vec<u8>>, u64), String> + 'c;

/// New names of variables, by scope; `None` hides an outer variable.
type Scope<'a> = HashMap<&'a str, Option<String>>;

/// Where a walk through a model is.
#[derive(Default)]
struct Position {
    stage: usize,
    operation: usize,
}

/// What `change` makes of each ML program, in the order in which they are read, and of the versions of
/// the models around it: these are not lower than what it returns.
pub(crate) fn rewrite_programs<'a>(bytes: &'a [u8], change: &mut ProgramChange<'_, 'a>) -> Changed {
    fn pipeline<'a>(
        bytes: &'a [u8],
        needed: &mut u64,
        change: &mut ProgramChange<'_, 'a>,
    ) -> Changed {
        rewrite_messages(bytes, |number, bytes| match number {
            pipeline::MODELS => model(bytes, needed, change),
            _ => Ok(None),
        })
    }
    fn model<'a>(bytes: &'a [u8], outer: &mut u64, change: &mut ProgramChange<'_, 'a>) -> Changed {
        let mut needed = 0;
        let changed = rewrite_messages(bytes, |number, bytes| match number {
            model::ML_PROGRAM => {
                let (changed, version) = change(bytes)?;
                needed = needed.max(version);
                Ok(changed)
            }
            model::PIPELINE => pipeline(bytes, &mut needed, change),
            model::PIPELINE_CLASSIFIER | model::PIPELINE_REGRESSOR => {
                rewrite_messages(bytes, |number, bytes| match number {
                    pipeline::OF_CLASSIFIER => pipeline(bytes, &mut needed, change),
                    _ => Ok(None),
                })
            }
            _ => Ok(None),
        })?;
        *outer = needed.max(*outer);
        let new = changed.as_deref().unwrap_or(bytes);
        let mut version = 0;
        for field in fields(new) {
            let field = field?;
            if field.number == model::SPECIFICATION_VERSION {
                version = field.varint()?;
            }
        }
        match version < needed {
            true => with_varint(new, model::SPECIFICATION_VERSION, needed).map(Some),
            false => Ok(changed),
        }
    }
    model(bytes, &mut 0, change)
}

impl Changes {
    /// Applies the changes to a whole model.
    pub fn apply(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        let mut place = Position::default();
        let changed = rewrite_programs(bytes, &mut |program| {
            let raised = self.raised.get(&place.stage).copied();
            let changed = self.program(program, raised, &mut place.operation)?;
            place.stage += 1;
            Ok((changed, raised.map_or(0, |(version, _)| version)))
        })?;
        Ok(changed.unwrap_or_else(|| bytes.to_vec()))
    }

    fn program(&self, bytes: &[u8], raised: Raised, next: &mut usize) -> Changed {
        rewrite_messages(bytes, |number, bytes| match number {
            program::FUNCTIONS => map_value(bytes, |bytes| self.function(bytes, raised, next)),
            program::ATTRIBUTES => map_value(bytes, |bytes| self.value(bytes)),
            _ => Ok(None),
        })
    }

    fn function(&self, bytes: &[u8], raised: Raised, next: &mut usize) -> Changed {
        let mut inputs = Scope::new();
        for field in fields(bytes) {
            let field = field?;
            if field.number == function::INPUTS {
                inputs.insert(name_of(field.bytes()?)?, None);
            }
        }
        rewrite_messages(bytes, |number, bytes| match (number, raised) {
            (function::OPSET, Some((_, opset))) => Ok(Some(opset.into())),
            (function::BLOCKS, raised) => {
                let mut scopes = vec![inputs.clone()];
                let block = map_value(bytes, |bytes| self.block(bytes, next, &mut scopes))?;
                match raised {
                    None => Ok(block),
                    Some((_, opset)) => {
                        let entry = block.as_deref().unwrap_or(bytes);
                        with_text(entry, map::KEY, opset).map(Some)
                    }
                }
            }
            (function::ATTRIBUTES, _) => map_value(bytes, |bytes| self.value(bytes)),
            _ => Ok(None),
        })
    }

    fn block<'a>(&self, bytes: &'a [u8], next: &mut usize, scopes: &mut Vec<Scope<'a>>) -> Changed {
        let mut own = Scope::new();
        for field in fields(bytes) {
            let field = field?;
            if field.number == block::INPUTS {
                own.insert(name_of(field.bytes()?)?, None);
            }
        }
        scopes.push(own);
        // A block's results may stand before its operations.
        let operations = rewrite(bytes, |field| {
            let Content::Bytes(inner) = field.content else {
                return Ok(None);
            };
            let mut out = Writer::default();
            match field.number {
                block::OPERATIONS => match self.operation(inner, next, scopes)? {
                    Outcome::Kept => return Ok(None),
                    Outcome::Gone => {}
                    Outcome::Changed(content) => out.bytes(block::OPERATIONS, &content),
                },
                block::ATTRIBUTES => match map_value(inner, |bytes| self.value(bytes))? {
                    Some(content) => out.bytes(block::ATTRIBUTES, &content),
                    None => return Ok(None),
                },
                _ => return Ok(None),
            }
            Ok(Some(out.0))
        })?;
        let outputs =
            rewrite_messages(
                operations.as_deref().unwrap_or(bytes),
                |number, text| match number {
                    block::OUTPUTS => Ok(new_name(scopes, text)),
                    _ => Ok(None),
                },
            )?;
        scopes.pop();
        Ok(outputs.or(operations))
    }

    fn operation<'a>(
        &self,
        bytes: &'a [u8],
        next: &mut usize,
        scopes: &mut Vec<Scope<'a>>,
    ) -> Result<Outcome, String> {
        let id = *next;
        *next += 1;
        let inner = rewrite_messages(bytes, |number, bytes| match number {
            operation::INPUTS => map_value(bytes, |bytes| {
                rewrite_messages(bytes, |number, bytes| match number {
                    argument::BINDINGS => self.binding(bytes, scopes),
                    _ => Ok(None),
                })
            }),
            operation::ATTRIBUTES => map_value(bytes, |bytes| self.value(bytes)),
            operation::BLOCKS => self.block(bytes, next, scopes),
            _ => Ok(None),
        })?;
        for field in fields(bytes) {
            let field = field?;
            if field.number == operation::OUTPUTS {
                let renamed = self.renamed.get(&id).cloned();
                if let Some(scope) = scopes.last_mut() {
                    scope.insert(name_of(field.bytes()?)?, renamed);
                }
            }
        }
        Ok(match (self.edits.get(&id), inner) {
            (Some(Edit::Remove), _) => Outcome::Gone,
            (Some(Edit::Become(edit)), inner) => {
                Outcome::Changed(become_other(inner.as_deref().unwrap_or(bytes), edit)?)
            }
            (Some(Edit::Store(edit)), inner) => {
                Outcome::Changed(stored(inner.as_deref().unwrap_or(bytes), edit)?)
            }
            (None, Some(changed)) => Outcome::Changed(changed),
            (None, None) => Outcome::Kept,
        })
    }

    fn binding(&self, bytes: &[u8], scopes: &[Scope<'_>]) -> Changed {
        rewrite_messages(bytes, |number, bytes| match number {
            argument::NAME => Ok(new_name(scopes, bytes)),
            argument::VALUE => self.value(bytes),
            _ => Ok(None),
        })
    }

    /// A value whose record may have moved.
    fn value(&self, bytes: &[u8]) -> Changed {
        rewrite_messages(bytes, |number, bytes| {
            if number != value::BLOB {
                return Ok(None);
            }
            let old = blob(bytes)?;
            let new = self.moved.get(&(old.file.to_owned(), old.offset));
            match new {
                Some(&new) if new != old.offset => {
                    with_varint(bytes, value::BLOB_OFFSET, new).map(Some)
                }
                _ => Ok(None),
            }
        })
    }
}

/// What has become of an operation.
enum Outcome {
    Kept,
    Gone,
    Changed(Vec<u8>),
}

/// An entry of a map whose value may change.
fn map_value<'a>(bytes: &'a [u8], mut change: impl FnMut(&'a [u8]) -> Changed) -> Changed {
    // Without a value there is nothing to change.
    entry(bytes)?;
    rewrite_messages(bytes, |number, bytes| match number {
        map::VALUE => change(bytes),
        _ => Ok(None),
    })
}

fn new_name(scopes: &[Scope<'_>], text: &[u8]) -> Option<Vec<u8>> {
    let name = std::str::from_utf8(text).ok()?;
    let mut outwards = scopes.iter().rev();
    let found = outwards.find_map(|scope| scope.get(name))?;
    found.as_ref().map(|name| name.as_bytes().to_vec())
}

fn name_of(named_type: &[u8]) -> Result<&str, String> {
    let mut name = "";
    for field in fields(named_type) {
        let field = field?;
        if field.number == named::NAME {
            name = field.text()?;
        }
    }
    Ok(name)
}
