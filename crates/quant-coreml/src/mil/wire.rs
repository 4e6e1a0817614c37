//! Protobuf's wire format: a message as the fields that stand in it, one after the other, so that
//! what is not understood can be passed on as it is.

use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field,
};

use super::schema::map;

/// Messages within messages, at most; as in protobuf's own readers.
pub(crate) const DEPTH: usize = 100;

const OTHER_TYPE: &str = "a field is not of the type it should be; it is damaged";

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    pub number: u32,
    pub content: Content<'a>,
    /// Key, length and content, as they stand.
    pub whole: &'a [u8],
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    Varint(u64),
    /// A message, a string, bytes or packed numbers.
    Bytes(&'a [u8]),
    /// Numbers of fixed width, and groups.
    Other,
}

impl<'a> Field<'a> {
    /// The content of a message, string or packed list.
    pub fn bytes(&self) -> Result<&'a [u8], String> {
        match self.content {
            Content::Bytes(bytes) => Ok(bytes),
            _ => Err(OTHER_TYPE.into()),
        }
    }

    pub fn text(&self) -> Result<&'a str, String> {
        std::str::from_utf8(self.bytes()?)
            .map_err(|_| "a name in it is not UTF-8 text; it is damaged".into())
    }

    pub fn varint(&self) -> Result<u64, String> {
        match self.content {
            Content::Varint(value) => Ok(value),
            _ => Err(OTHER_TYPE.into()),
        }
    }
}

/// The fields of a message, in order; nothing follows an error.
pub(crate) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<Field<'a>, String> {
        let start = self.rest;
        let mut rest = start;
        let (number, kind) = decode_key(&mut rest)
            .map_err(|_| "a field without a proper key; it is damaged".to_string())?;
        let cut = || "it ends in the middle of a field; it is truncated or damaged".to_string();
        let content = match kind {
            WireType::Varint => Content::Varint(decode_varint(&mut rest).map_err(|_| cut())?),
            WireType::LengthDelimited => {
                let len = decode_varint(&mut rest).map_err(|_| cut())?;
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                let (bytes, after) = rest.split_at_checked(len).ok_or_else(|| {
                    format!(
                        "a field has {len} bytes where {} are left; it is truncated or damaged",
                        rest.len()
                    )
                })?;
                rest = after;
                Content::Bytes(bytes)
            }
            _ => {
                skip_field(kind, number, &mut rest, DecodeContext::default()).map_err(|_| cut())?;
                Content::Other
            }
        };
        self.rest = rest;
        Ok(Field {
            number,
            content,
            whole: &start[..start.len() - rest.len()],
        })
    }
}

/// A message being written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writer(pub Vec<u8>);

impl Writer {
    /// A field as it stands elsewhere.
    pub fn whole(&mut self, field: &Field<'_>) {
        self.0.extend_from_slice(field.whole);
    }

    pub fn bytes(&mut self, number: u32, content: &[u8]) {
        encode_key(number, WireType::LengthDelimited, &mut self.0);
        encode_varint(content.len() as u64, &mut self.0);
        self.0.extend_from_slice(content);
    }

    pub fn varint(&mut self, number: u32, value: u64) {
        encode_key(number, WireType::Varint, &mut self.0);
        encode_varint(value, &mut self.0);
    }

    pub fn message(&mut self, number: u32, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(number, &inner.0);
    }
}

/// A message of which some fields may be replaced. `None` from `change` keeps a field as it is;
/// without any change the result is `None` too.
pub(crate) fn rewrite<'a>(
    message: &'a [u8],
    mut change: impl FnMut(&Field<'a>) -> Result<Option<Vec<u8>>, String>,
) -> Result<Option<Vec<u8>>, String> {
    let mut out = Writer::default();
    let mut kept = 0;
    let mut position = 0;
    let mut changed = false;
    for field in fields(message) {
        let field = field?;
        let end = position + field.whole.len();
        if let Some(replacement) = change(&field)? {
            out.0.extend_from_slice(&message[kept..position]);
            out.0.extend_from_slice(&replacement);
            kept = end;
            changed = true;
        }
        position = end;
    }
    out.0.extend_from_slice(&message[kept..]);
    Ok(changed.then_some(out.0))
}

/// As [`rewrite`], where only the messages in some fields change.
pub(crate) fn rewrite_messages<'a>(
    message: &'a [u8],
    mut change: impl FnMut(u32, &'a [u8]) -> Result<Option<Vec<u8>>, String>,
) -> Result<Option<Vec<u8>>, String> {
    rewrite(message, |field| {
        let Content::Bytes(bytes) = field.content else {
            return Ok(None);
        };
        let changed = change(field.number, bytes)?;
        Ok(changed.map(|content| {
            let mut out = Writer::default();
            out.bytes(field.number, &content);
            out.0
        }))
    })
}

/// An entry of a map: its key and its value, both as they stand.
pub(crate) fn entry(message: &[u8]) -> Result<(&str, &[u8]), String> {
    let (mut key, mut value) = ("", &[][..]);
    for field in fields(message) {
        let field = field?;
        match field.number {
            map::KEY => key = field.text()?,
            map::VALUE => value = field.bytes()?,
            _ => {}
        }
    }
    Ok((key, value))
}
