//! A file of MLIR bytecode: its sections. All but the weights are read.

use std::path::Path;

use crate::wire::{PADDING, Reader, put_varint};
use quant_model::io::InputFile;
use quant_model::{Error, sniff};

pub(crate) const MAGIC: &[u8] = b"ML\xefR";
/// The version of the format that this code knows.
const VERSION: u64 = 6;
/// A longer name of a producer is none.
const LONGEST_PRODUCER: usize = 1024;
/// Bytes of all sections but the weights, at most.
const LARGEST: u64 = 64 << 20;
const LARGEST_ALIGNMENT: u64 = 1 << 16;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Strings = 0,
    Dialects = 1,
    Attributes = 2,
    AttributeOffsets = 3,
    Program = 4,
    Resources = 5,
    ResourceOffsets = 6,
    Properties = 8,
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::Strings,
        Self::Dialects,
        Self::Attributes,
        Self::AttributeOffsets,
        Self::Program,
        Self::Resources,
        Self::ResourceOffsets,
        Self::Properties,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Strings => "strings",
            Self::Dialects => "dialects",
            Self::Attributes => "attributes",
            Self::AttributeOffsets => "sizes of attributes",
            Self::Program => "program",
            Self::Resources => "resources",
            Self::ResourceOffsets => "sizes of resources",
            Self::Properties => "properties",
        }
    }
}

/// Where a section stands.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub kind: Kind,
    /// What its first byte is aligned to, where that is said.
    pub alignment: Option<u64>,
    pub start: u64,
    pub len: u64,
}

/// An open file.
#[derive(Debug)]
pub(crate) struct Bytecode {
    pub file: InputFile,
    /// Magic, version and producer, as they stand.
    pub head: Vec<u8>,
    pub sections: Vec<Section>,
    /// Of each kind, in the order of [`Kind::ALL`]; nothing of the resources.
    bodies: [Vec<u8>; 8],
}

impl Bytecode {
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = InputFile::open(path, "it should be the program of a Core AI model")?;
        let bad = |problem: String| Error::file(path, problem);
        let mut head = vec![0; file.len().min(LONGEST_PRODUCER as u64) as usize];
        file.read(0, &mut head)?;
        if !head.starts_with(MAGIC) {
            let none = || {
                "no MLIR bytecode, which the program of a Core AI model is; fetch the model again"
                    .into()
            };
            return Err(bad(sniff::explain(&head, none)));
        }
        let head_len = head_len(&head).map_err(bad)?;
        head.truncate(head_len);
        let mut opened = Self {
            file,
            head,
            sections: Vec::new(),
            bodies: Default::default(),
        };
        let mut at = head_len as u64;
        while at < opened.file.len() {
            at = opened.section(at)?;
        }
        opened.read_bodies()?;
        Ok(opened)
    }

    /// Finds the section that begins at a byte, and where the next one does.
    fn section(&mut self, at: u64) -> Result<u64, Error> {
        let file = &self.file;
        let bad = |problem: &str| {
            let problem =
                format!("the section at byte {at} {problem}; the file is damaged, fetch it again");
            Error::file(file.path(), problem)
        };
        // A number takes nine bytes at most.
        let mut bytes = vec![0; (file.len() - at).min(1 + 9 + 9) as usize];
        file.read(at, &mut bytes)?;
        let mut reader = Reader::new(&bytes);
        let mut read = || {
            let id = reader.byte()?;
            let len = reader.varint()?;
            let alignment = match id & 0x80 != 0 {
                true => Some(reader.varint()?),
                false => None,
            };
            Ok((id & 0x7f, len, alignment))
        };
        let (id, len, alignment) = read().map_err(|problem: String| bad(&problem))?;
        let Some(kind) = Kind::ALL.into_iter().find(|kind| *kind as u8 == id) else {
            return Err(bad(&format!("is of kind {id}, which quant does not know")));
        };
        if self.find(kind).is_some() {
            return Err(bad(&format!("holds {} a second time", kind.name())));
        }
        let mut start = at + reader.at() as u64;
        if let Some(alignment) = alignment {
            if !alignment.is_power_of_two() || alignment > LARGEST_ALIGNMENT {
                return Err(bad(&format!("needs an alignment to {alignment}")));
            }
            start = start.next_multiple_of(alignment);
        }
        let end = start.checked_add(len).filter(|end| *end <= file.len());
        let Some(end) = end else {
            let problem = format!(
                "should have {len} bytes, {} more than there are",
                (u128::from(start) + u128::from(len)).saturating_sub(file.len().into())
            );
            return Err(bad(&problem));
        };
        self.sections.push(Section {
            kind,
            alignment,
            start,
            len,
        });
        Ok(end)
    }

    fn read_bodies(&mut self) -> Result<(), Error> {
        let read = || self.sections.iter().filter(|it| it.kind != Kind::Resources);
        let bytes = read().fold(0_u64, |sum, section| sum.saturating_add(section.len));
        if bytes > LARGEST {
            let problem = format!(
                "a program of {bytes} bytes without its weights; quant reads at most {LARGEST}"
            );
            return Err(Error::file(self.file.path(), problem));
        }
        for section in self.sections.clone() {
            if section.kind != Kind::Resources {
                let mut body = vec![0; section.len as usize];
                self.file.read(section.start, &mut body)?;
                self.bodies[place(section.kind)] = body;
            }
        }
        Ok(())
    }

    pub fn find(&self, kind: Kind) -> Option<&Section> {
        self.sections.iter().find(|section| section.kind == kind)
    }

    /// What a section holds; nothing where there is none.
    pub fn body(&self, kind: Kind) -> &[u8] {
        &self.bodies[place(kind)]
    }
}

fn place(kind: Kind) -> usize {
    Kind::ALL
        .into_iter()
        .position(|it| it == kind)
        .expect("all kinds")
}

/// Bytes of magic, version and producer.
fn head_len(head: &[u8]) -> Result<usize, String> {
    let mut reader = Reader::new(&head[MAGIC.len()..]);
    let cut = |problem| format!("the file {problem}; it is damaged, fetch it again");
    let version = reader.varint().map_err(cut)?;
    if version != VERSION {
        return Err(format!(
            "MLIR bytecode of version {version}; this quant knows version {VERSION}, a newer one may know it"
        ));
    }
    let producer = reader.rest();
    let end = producer.iter().position(|byte| *byte == 0);
    let end = end.ok_or_else(|| cut("has no end to the name of its producer".into()))?;
    Ok(MAGIC.len() + reader.at() + end + 1)
}

/// What stands before a section's bytes, where it begins at a byte of the file.
pub(crate) fn section_head(kind: Kind, alignment: Option<u64>, len: u64, at: u64) -> Vec<u8> {
    let mut head = vec![kind as u8 | if alignment.is_some() { 0x80 } else { 0 }];
    put_varint(&mut head, len);
    if let Some(alignment) = alignment {
        put_varint(&mut head, alignment);
        let end = at + head.len() as u64;
        let padding = end.next_multiple_of(alignment) - end;
        head.resize(head.len() + padding as usize, PADDING);
    }
    head
}
