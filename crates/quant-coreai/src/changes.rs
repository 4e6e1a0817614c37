//! What a result changes in a program, and the file with it.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::bytecode::{Kind, section_head};
use crate::model::Model;
use crate::rewrite::{self, Edit};
use crate::tables::{Entry, Resource};
use crate::types::ConstantValue;
use crate::wire::{PADDING, put_flagged, put_varint};

/// What new resources are aligned to.
const ALIGNMENT: u64 = 16;

/// Changes of a model's program and tables.
pub(crate) struct Changes<'m> {
    model: &'m Model<'m>,
    strings: Table<'m>,
    /// Numbers of strings.
    operations: Vec<(String, usize)>,
    attributes: Table<'m>,
    types: Table<'m>,
    properties: Table<'m>,
    /// Keys and lengths.
    resources: Vec<(usize, u64)>,
    /// New lengths of resources whose bytes are others.
    replaced: HashMap<usize, u64>,
    /// By the ids of operations.
    pub edits: HashMap<usize, Edit<'m>>,
}

/// What the program refers to by number, old and new.
struct Table<'m> {
    numbers: HashMap<Cow<'m, [u8]>, usize>,
    old: usize,
    new: Vec<Vec<u8>>,
}

impl<'m> Table<'m> {
    fn new(old: impl ExactSizeIterator<Item = Option<&'m [u8]>>) -> Self {
        let (count, mut numbers) = (old.len(), HashMap::new());
        for (number, bytes) in old.enumerate() {
            if let Some(bytes) = bytes {
                numbers.entry(Cow::Borrowed(bytes)).or_insert(number);
            }
        }
        Self {
            numbers,
            old: count,
            new: Vec::new(),
        }
    }

    /// Of attributes or types; text is never the same as what is encoded.
    fn of_entries(old: &'m [Entry<'m>]) -> Self {
        Self::new(old.iter().map(|it| it.is_encoded.then_some(it.bytes)))
    }

    /// The number of an entry, which is made if there is none.
    fn number(&mut self, bytes: Vec<u8>) -> usize {
        if let Some(number) = self.numbers.get(&bytes[..]) {
            return *number;
        }
        let number = self.count();
        self.numbers.insert(Cow::Owned(bytes.clone()), number);
        self.new.push(bytes);
        number
    }

    fn count(&self) -> usize {
        self.old + self.new.len()
    }
}

/// Writes attributes or types, and their sizes.
fn write_entries(old: &[Entry<'_>], new: &Table<'_>, offsets: &mut Vec<u8>, bytes: &mut Vec<u8>) {
    let dialect = old.last().map_or(0, |entry| entry.dialect);
    let new = new.new.iter().map(|it| (dialect, true, &it[..]));
    let old = old.iter().map(|it| (it.dialect, it.is_encoded, it.bytes));
    let entries: Vec<_> = old.chain(new).collect();
    for group in entries.chunk_by(|a, b| a.0 == b.0) {
        put_varint(offsets, group[0].0 as u64);
        put_varint(offsets, group.len() as u64);
        for (_, is_encoded, entry) in group {
            put_flagged(offsets, entry.len() as u64, *is_encoded);
            bytes.extend(*entry);
        }
    }
}

/// A result's file: what is written where.
pub(crate) struct Layout {
    pub len: u64,
    /// Where pieces stand that are known.
    pub pieces: Vec<(u64, Vec<u8>)>,
    /// Bytes of the input that are copied: from, to, how many.
    pub copied: Vec<(u64, u64, u64)>,
    /// Where the bytes of each resource stand.
    pub resources: Vec<u64>,
}

impl<'m> Changes<'m> {
    pub fn new(model: &'m Model<'m>) -> Self {
        Self {
            model,
            strings: Table::new(model.tables.strings.iter().map(|it| Some(*it))),
            operations: Vec::new(),
            attributes: Table::of_entries(&model.tables.attributes),
            types: Table::of_entries(&model.tables.types),
            properties: Table::new(model.tables.properties.iter().map(|it| Some(*it))),
            resources: Vec::new(),
            replaced: HashMap::new(),
            edits: HashMap::new(),
        }
    }

    pub fn kind(&mut self, encoded: Vec<u8>) -> usize {
        self.types.number(encoded)
    }

    pub fn attribute(&mut self, encoded: Vec<u8>) -> usize {
        self.attributes.number(encoded)
    }

    /// The properties of a constant with such a value.
    pub fn constant(&mut self, attribute: usize) -> usize {
        let mut encoded = Vec::new();
        put_varint(&mut encoded, attribute as u64);
        self.properties.number(encoded)
    }

    /// The properties of a constant whose bytes are a resource.
    pub fn constant_of(&mut self, resource: usize) -> usize {
        let attribute = self.attribute(ConstantValue::encode_resource(resource));
        self.constant(attribute)
    }

    pub fn operation(&mut self, name: &str) -> usize {
        let known = self.model.tables.operations.len();
        if let Some(number) = self.model.tables.operation(name) {
            return number;
        }
        let new = self.operations.iter().position(|(new, _)| new == name);
        known
            + new.unwrap_or_else(|| {
                let string = self.strings.number(name.into());
                self.operations.push((name.into(), string));
                self.operations.len() - 1
            })
    }

    /// A resource of so many bytes.
    pub fn resource(&mut self, len: u64) -> usize {
        let old = &self.model.tables;
        let number = old.resources.len() + self.resources.len();
        let name = |count: usize| format!("quant_{number}{}", "_".repeat(count)).into_bytes();
        let is_free = |name: &Vec<u8>| !self.strings.numbers.contains_key(&name[..]);
        let key = (0..).map(name).find(is_free).expect("some name is free");
        let key = self.strings.number(key);
        self.resources.push((key, len));
        number
    }

    /// Gives a resource other bytes.
    pub fn replace(&mut self, resource: usize, len: u64) {
        self.replaced.insert(resource, len);
    }

    pub fn layout(&self) -> Layout {
        let mut layout = Layout {
            len: self.model.file.head.len() as u64,
            pieces: vec![(0, self.model.file.head.clone())],
            copied: Vec::new(),
            resources: Vec::new(),
        };
        let (mut offsets, mut attributes) = (Vec::new(), Vec::new());
        put_varint(&mut offsets, self.attributes.count() as u64);
        put_varint(&mut offsets, self.types.count() as u64);
        let tables = self.model.tables;
        for (old, new) in [
            (&tables.attributes, &self.attributes),
            (&tables.types, &self.types),
        ] {
            write_entries(old, new, &mut offsets, &mut attributes);
        }
        let (resources, placed) = self.resources();
        for section in &self.model.file.sections {
            let body = match section.kind {
                Kind::Strings => self.strings(),
                Kind::Dialects => self.dialects(),
                Kind::Attributes => attributes.clone(),
                Kind::AttributeOffsets => offsets.clone(),
                Kind::Program => rewrite::write(self.model.program, &|id| self.edits.get(&id)),
                Kind::Properties => self.properties(),
                Kind::ResourceOffsets => resources.clone(),
                Kind::Resources => {
                    let alignment = section.alignment.unwrap_or(1).max(ALIGNMENT);
                    let alignment = placed
                        .iter()
                        .fold(alignment, |most, it| most.max(it.alignment));
                    let len = placed
                        .last()
                        .map_or(self.model.tables.external_len, |it| it.end);
                    let head = section_head(section.kind, Some(alignment), len, layout.len);
                    let start = layout.len + head.len() as u64;
                    layout.pieces.push((layout.len, head));
                    layout.place(self.model, section.start, start, placed.iter());
                    layout.len = start + len;
                    continue;
                }
            };
            let head = section_head(
                section.kind,
                section.alignment,
                body.len() as u64,
                layout.len,
            );
            let start = layout.len + head.len() as u64;
            layout.pieces.push((layout.len, head));
            layout.len = start + body.len() as u64;
            layout.pieces.push((start, body));
        }
        layout
    }

    fn strings(&self) -> Vec<u8> {
        let old = self.model.tables.strings.iter().copied();
        let all: Vec<&[u8]> = old
            .chain(self.strings.new.iter().map(Vec::as_slice))
            .collect();
        let mut out = Vec::new();
        put_varint(&mut out, all.len() as u64);
        for string in all.iter().rev() {
            put_varint(&mut out, string.len() as u64 + 1);
        }
        for string in all {
            out.extend(string);
            out.push(0);
        }
        out
    }

    fn dialects(&self) -> Vec<u8> {
        let (head, groups) = self.model.tables.dialects;
        let mut out = head.to_vec();
        let count = self.model.tables.operations.len() + self.operations.len();
        put_varint(&mut out, count as u64);
        out.extend(groups);
        if !self.operations.is_empty() {
            // All operations are of the first dialect, which is the only one.
            put_varint(&mut out, 0);
            put_varint(&mut out, self.operations.len() as u64);
            for (_, string) in &self.operations {
                put_flagged(&mut out, *string as u64, true);
            }
        }
        out
    }

    fn properties(&self) -> Vec<u8> {
        let old = self.model.tables.properties.iter().copied();
        let all: Vec<&[u8]> = old
            .chain(self.properties.new.iter().map(Vec::as_slice))
            .collect();
        let mut out = Vec::new();
        put_varint(&mut out, all.len() as u64);
        for properties in all {
            put_varint(&mut out, properties.len() as u64);
            out.extend(properties);
        }
        out
    }

    /// The sizes of resources, and where these stand.
    fn resources(&self) -> (Vec<u8>, Vec<Placed<'_>>) {
        let tables = self.model.tables;
        let (mut end, mut placed) = (tables.external_len, Vec::new());
        let dialect = tables.resources.last().map_or(0, |it| it.dialect);
        let mut entries: Vec<(usize, usize, u64, u8)> = Vec::new();
        let new = self.resources.iter().map(|new| (None, *new));
        let old = tables.resources.iter().map(|old| (Some(old), (old.key, 0)));
        for (number, (old, (key, len))) in old.chain(new).enumerate() {
            let replaced = match old {
                Some(_) => self.replaced.get(&number).copied(),
                None => Some(len),
            };
            let next = Placed::new(old, replaced, end);
            let dialect = old.map_or(dialect, |it| it.dialect);
            entries.push((dialect, key, next.end - end, old.map_or(0, |it| it.kind)));
            end = next.end;
            placed.push(next);
        }
        let mut out = tables.external.to_vec();
        for group in entries.chunk_by(|a, b| a.0 == b.0) {
            put_varint(&mut out, group[0].0 as u64);
            put_varint(&mut out, group.len() as u64);
            for (_, key, len, kind) in group {
                put_varint(&mut out, *key as u64);
                put_varint(&mut out, *len);
                out.push(*kind);
            }
        }
        (out, placed)
    }
}

/// A resource and its place in the section.
struct Placed<'m> {
    old: Option<&'m Resource>,
    alignment: u64,
    start: u64,
    /// What stands before its bytes.
    head: Vec<u8>,
    /// Bytes, which are others than those of the input or not.
    len: u64,
    is_other: bool,
    end: u64,
}

impl<'m> Placed<'m> {
    fn new(old: Option<&'m Resource>, replaced: Option<u64>, start: u64) -> Self {
        let blob = old.and_then(|old| old.blob);
        let Some(len) = replaced.or(blob.map(|blob| blob.len)) else {
            // A flag or a string.
            let len = old.map_or(0, |old| old.entry.end - old.entry.start);
            return Self {
                old,
                alignment: 1,
                start,
                head: Vec::new(),
                len,
                is_other: false,
                end: start + len,
            };
        };
        let alignment = match (blob, replaced) {
            (Some(blob), None) => blob.alignment,
            (Some(blob), Some(_)) => blob.alignment.max(ALIGNMENT),
            (None, _) => ALIGNMENT,
        };
        let mut head = Vec::new();
        put_varint(&mut head, alignment);
        put_varint(&mut head, len);
        let end = start + head.len() as u64;
        let padding = end.next_multiple_of(alignment) - end;
        head.resize(head.len() + padding as usize, PADDING);
        Self {
            old,
            alignment,
            start,
            len,
            is_other: replaced.is_some(),
            end: start + head.len() as u64 + len,
            head,
        }
    }
}

impl Layout {
    /// Puts the resources of a section, which begins at `from` in the input, to `to`.
    fn place<'p>(
        &mut self,
        model: &Model<'_>,
        from: u64,
        to: u64,
        placed: impl Iterator<Item = &'p Placed<'p>>,
    ) {
        let external = model.tables.external_len;
        self.copied.push((from, to, external));
        for one in placed {
            let start = to + one.start;
            let bytes = start + one.head.len() as u64;
            self.pieces.push((start, one.head.clone()));
            self.resources.push(bytes);
            let Some(old) = one.old.filter(|_| !one.is_other) else {
                continue;
            };
            let at = old.blob.map_or(from + old.entry.start, |blob| blob.start);
            self.copied.push((at, bytes, one.len));
        }
        self.copied.retain(|(_, _, len)| *len > 0);
    }
}
