//! What the program refers to by number: strings, names of operations, attributes, types, properties,
//! resources.

use std::ops::Range;

use crate::bytecode::{Bytecode, Kind};
use crate::wire::{Reader, checked_index};
use quant_model::Error;

/// The dialect that models are written in, and its version.
const DIALECT: &[u8] = b"aicode";
const DIALECT_VERSION: u64 = 2;
const VERSION_SECTION: u8 = 7;
/// A blob's alignment and length take nine bytes each at most.
const BLOB_HEAD: u64 = 18;
const LARGEST_ALIGNMENT: u64 = 1 << 12;

/// An operation's name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OperationName<'a> {
    pub name: &'a str,
}

/// An attribute or a type, encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub dialect: usize,
    /// Whether the dialect encoded it; else it is text.
    pub is_encoded: bool,
    pub bytes: &'a [u8],
}

/// Bytes that the program refers to.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    /// The number of the dialect that they belong to.
    pub dialect: usize,
    /// The string that names them.
    pub key: usize,
    /// 0 for bytes; 1 and 2 for a flag and a string.
    pub kind: u8,
    /// Where the entry stands in the section.
    pub entry: Range<u64>,
    /// Of bytes: where they stand in the file, and what to.
    pub blob: Option<Blob>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Blob {
    pub alignment: u64,
    pub start: u64,
    pub len: u64,
}

/// All tables of a file.
#[derive(Debug)]
pub(crate) struct Tables<'a> {
    pub strings: Vec<&'a [u8]>,
    /// The dialects section up to the number of names of operations, and behind it.
    pub dialects: (&'a [u8], &'a [u8]),
    pub operations: Vec<OperationName<'a>>,
    pub attributes: Vec<Entry<'a>>,
    pub types: Vec<Entry<'a>>,
    pub properties: Vec<&'a [u8]>,
    /// The part of their offsets that is about no dialect.
    pub external: &'a [u8],
    /// Bytes of the resources of no dialect, with which the section begins.
    pub external_len: u64,
    pub resources: Vec<Resource>,
}

/// Reads a section to its end; errors name it.
fn section<'a, T>(
    file: &'a Bytecode,
    kind: Kind,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, String>,
) -> Result<T, Error> {
    let mut reader = Reader::new(file.body(kind));
    let done = read(&mut reader).and_then(|done| match reader.is_at_end() {
        true => Ok(done),
        false => Err(format!("has {} bytes too many", reader.rest().len())),
    });
    done.map_err(|problem| {
        let name = kind.name();
        let problem =
            format!("its section of {name} {problem}; the file is damaged, fetch it again");
        Error::file(file.file.path(), problem)
    })
}

impl<'a> Tables<'a> {
    pub fn read(file: &'a Bytecode) -> Result<Self, Error> {
        for kind in Kind::ALL {
            let is_optional = matches!(
                kind,
                Kind::Resources | Kind::ResourceOffsets | Kind::Properties
            );
            if !is_optional && file.find(kind).is_none() {
                let problem = format!(
                    "no section of {}; the file is damaged, fetch it again",
                    kind.name()
                );
                return Err(Error::file(file.file.path(), problem));
            }
        }
        let strings = section(file, Kind::Strings, strings)?;
        let (dialect_count, dialects, operations) =
            section(file, Kind::Dialects, |reader| dialects(reader, &strings))?;
        if let Some(problem) = &dialects.2 {
            return Err(Error::file(file.file.path(), problem.clone()));
        }
        let (attributes, types) = entries(file, dialect_count)?;
        let properties = match file.find(Kind::Properties) {
            None => Vec::new(),
            Some(_) => section(file, Kind::Properties, properties)?,
        };
        let mut tables = Self {
            strings,
            dialects: (dialects.0, dialects.1),
            operations,
            attributes,
            types,
            properties,
            external: &[1],
            external_len: 0,
            resources: Vec::new(),
        };
        match (file.find(Kind::ResourceOffsets), file.find(Kind::Resources)) {
            (Some(_), Some(_)) => tables.read_resources(file, dialect_count)?,
            (None, None) => {}
            _ => {
                let problem = "resources without their sizes, or the other way round; the file is damaged, fetch it again";
                return Err(Error::file(file.file.path(), problem));
            }
        }
        Ok(tables)
    }

    fn read_resources(&mut self, file: &'a Bytecode, dialects: usize) -> Result<(), Error> {
        let strings = self.strings.len();
        let (external, external_len, resources) = section(file, Kind::ResourceOffsets, |reader| {
            resources(reader, strings, dialects)
        })?;
        let held = file.find(Kind::Resources).expect("there are resources");
        let end = resources.last().map_or(external_len, |last| last.entry.end);
        if end != held.len {
            let problem = format!(
                "resources of {end} bytes in a section of {}; the file is damaged, fetch it again",
                held.len
            );
            return Err(Error::file(file.file.path(), problem));
        }
        (self.external, self.external_len) = (external, external_len);
        for mut resource in resources {
            if resource.kind == 0 {
                let blob = blob(file, held.start, &resource.entry);
                resource.blob =
                    Some(blob.map_err(|error| self.of_resource(file, &resource, error))?);
            }
            self.resources.push(resource);
        }
        Ok(())
    }

    fn of_resource(&self, file: &Bytecode, resource: &Resource, error: BlobError) -> Error {
        match error {
            BlobError::Read(error) => error,
            BlobError::Damaged(problem) => {
                let key = String::from_utf8_lossy(self.strings[resource.key]);
                let problem =
                    format!("the resource `{key}` {problem}; the file is damaged, fetch it again");
                Error::file(file.file.path(), problem)
            }
        }
    }

    /// The number of an operation's name.
    pub fn operation(&self, name: &str) -> Option<usize> {
        self.operations.iter().position(|known| known.name == name)
    }
}

fn strings<'a>(reader: &mut Reader<'a>) -> Result<Vec<&'a [u8]>, String> {
    let count = reader.count("strings")?;
    let lengths = (0..count).map(|_| reader.varint());
    let lengths: Vec<u64> = lengths.collect::<Result<_, _>>()?;
    // The last one's length comes first.
    let strings = lengths.into_iter().rev().map(|len| {
        let string = reader.take(len)?;
        let string = string.strip_suffix(&[0]);
        string.ok_or_else(|| "holds a string without an end".to_owned())
    });
    strings.collect()
}

/// The head of the section and what follows it; or a dialect that is not known.
type Dialects<'a> = (&'a [u8], &'a [u8], Option<String>);

fn dialects<'a>(
    reader: &mut Reader<'a>,
    strings: &[&'a [u8]],
) -> Result<(usize, Dialects<'a>, Vec<OperationName<'a>>), String> {
    let all = reader.rest();
    let (start, mut unknown) = (reader.at(), None);
    let count = reader.count("dialects")?;
    for _ in 0..count {
        let (name, is_versioned) = reader.flagged()?;
        let name = strings[checked_index(name, strings.len(), "string")?];
        let mut version = None;
        if is_versioned {
            if reader.byte()? != VERSION_SECTION {
                return Err("holds no version of a dialect where one should be".into());
            }
            let len = reader.varint()?;
            let bytes = reader.take(len)?;
            let mut inner = Reader::new(bytes);
            version = inner.varint().ok().filter(|_| inner.is_at_end());
        }
        if name != DIALECT || version != Some(DIALECT_VERSION) {
            let name = String::from_utf8_lossy(name);
            let version = version.map_or("unknown version".into(), |it| format!("version {it}"));
            unknown = Some(format!(
                "written in the dialect `{name}` of {version}; this quant knows `aicode` of version {DIALECT_VERSION}, a newer one may know it"
            ));
        }
    }
    let head = &all[..reader.at() - start];
    let total = reader.count("names of operations")?;
    let groups = reader.rest();
    let mut operations = Vec::new();
    while !reader.is_at_end() {
        reader.index(count, "dialect")?;
        for _ in 0..reader.count("names of operations")? {
            let (name, _) = reader.flagged()?;
            let name = strings[checked_index(name, strings.len(), "string")?];
            let name = std::str::from_utf8(name);
            let name = name.map_err(|_| "holds a name of an operation that is no text")?;
            operations.push(OperationName { name });
        }
    }
    if operations.len() != total {
        let problem = format!(
            "announces {total} names of operations and holds {}",
            operations.len()
        );
        return Err(problem);
    }
    Ok((count, (head, groups, unknown), operations))
}

/// Attributes and types.
fn entries(file: &Bytecode, dialects: usize) -> Result<(Vec<Entry<'_>>, Vec<Entry<'_>>), Error> {
    let mut bytes = Reader::new(file.body(Kind::Attributes));
    let found = section(file, Kind::AttributeOffsets, |reader| {
        let attributes = reader.count("attributes")?;
        let types = reader.count("types")?;
        let mut both = [Vec::new(), Vec::new()];
        for (found, count) in both.iter_mut().zip([attributes, types]) {
            while found.len() < count {
                let dialect = reader.index(dialects, "dialect")?;
                let more = reader.count("attributes of a dialect")?;
                if more == 0 || more > count - found.len() {
                    return Err(format!(
                        "announces {more} attributes of a dialect, where {} are left",
                        count - found.len()
                    ));
                }
                for _ in 0..more {
                    let (len, is_encoded) = reader.flagged()?;
                    let bytes = bytes.take(len);
                    let bytes = bytes.map_err(|_| "speaks of more attributes than there are")?;
                    found.push(Entry {
                        dialect,
                        is_encoded,
                        bytes,
                    });
                }
            }
        }
        let [attributes, types] = both;
        Ok((attributes, types))
    })?;
    match bytes.is_at_end() {
        true => Ok(found),
        false => {
            let problem = "more attributes than its sizes of attributes say; the file is damaged, fetch it again";
            Err(Error::file(file.file.path(), problem))
        }
    }
}

fn properties<'a>(reader: &mut Reader<'a>) -> Result<Vec<&'a [u8]>, String> {
    let count = reader.count("properties")?;
    let mut next = || {
        let len = reader.varint()?;
        reader.take(len)
    };
    (0..count).map(|_| next()).collect()
}

/// What resources are there: the part that is about no dialect and how many bytes these take, and those
/// of dialects.
fn resources<'a>(
    reader: &mut Reader<'a>,
    strings: usize,
    dialects: usize,
) -> Result<(&'a [u8], u64, Vec<Resource>), String> {
    let (all, start) = (reader.rest(), reader.at());
    let mut end = 0_u64;
    let mut group = |reader: &mut Reader<'a>, dialect, found: &mut Vec<Resource>| {
        for _ in 0..reader.count("resources")? {
            let key = reader.index(strings, "string")?;
            let len = reader.varint()?;
            let kind = reader.byte()?;
            if kind > 2 {
                return Err(format!(
                    "speaks of a resource of kind {kind}, which quant does not know"
                ));
            }
            let begin = end;
            end = end
                .checked_add(len)
                .ok_or("speaks of a resource without end")?;
            let entry = begin..end;
            found.push(Resource {
                dialect,
                key,
                kind,
                entry,
                blob: None,
            });
        }
        Ok(())
    };
    let mut external = Vec::new();
    for _ in 0..reader.count("groups of resources")? {
        reader.index(strings, "string")?;
        group(reader, 0, &mut external)?;
    }
    let head = &all[..reader.at() - start];
    let mut found = Vec::new();
    while !reader.is_at_end() {
        let dialect = reader.index(dialects, "dialect")?;
        group(reader, dialect, &mut found)?;
    }
    let external_len = external.last().map_or(0, |last| last.entry.end);
    Ok((head, external_len, found))
}

enum BlobError {
    Read(Error),
    Damaged(String),
}

/// Where the bytes of a resource are.
fn blob(file: &Bytecode, section: u64, entry: &Range<u64>) -> Result<Blob, BlobError> {
    let len = (entry.end - entry.start).min(BLOB_HEAD);
    let mut head = vec![0; len as usize];
    let at = section + entry.start;
    file.file.read(at, &mut head).map_err(BlobError::Read)?;
    let mut reader = Reader::new(&head);
    let mut read = || Ok((reader.varint()?, reader.varint()?));
    let (alignment, len) = read().map_err(BlobError::Damaged)?;
    if !alignment.is_power_of_two() || alignment > LARGEST_ALIGNMENT {
        let problem = format!("needs an alignment to {alignment}");
        return Err(BlobError::Damaged(problem));
    }
    // Alignment counts from the section on, which is aligned itself.
    let start = (entry.start + reader.at() as u64).next_multiple_of(alignment);
    match start.checked_add(len) == Some(entry.end) {
        true => Ok(Blob {
            alignment,
            start: section + start,
            len,
        }),
        false => Err(BlobError::Damaged(format!(
            "of {len} bytes does not fill its place of {} bytes",
            entry.end - entry.start
        ))),
    }
}
