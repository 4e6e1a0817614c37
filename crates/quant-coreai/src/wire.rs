//! The numbers that MLIR's bytecode is made of: read within bounds, and written.

/// What stands between a section's or a blob's head and its aligned bytes.
pub(crate) const PADDING: u8 = 0xcb;

/// More of anything no model has.
const MOST: usize = 1 << 22;

/// Bytes that are read one after another.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    pub fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    fn ends(&self) -> String {
        format!("ends early, at byte {}", self.at)
    }

    pub fn byte(&mut self) -> Result<u8, String> {
        let byte = self.bytes.get(self.at).copied();
        let byte = byte.ok_or_else(|| self.ends())?;
        self.at += 1;
        Ok(byte)
    }

    pub fn take(&mut self, len: u64) -> Result<&'a [u8], String> {
        let len = usize::try_from(len).ok();
        let taken = len.and_then(|len| self.rest().get(..len));
        let taken = taken.ok_or_else(|| self.ends())?;
        self.at += taken.len();
        Ok(taken)
    }

    /// The number of zero bits at the end of the first byte says how many bytes follow it.
    pub fn varint(&mut self) -> Result<u64, String> {
        let first = self.byte()?;
        let more = first.trailing_zeros() as usize;
        let taken = self.take(more as u64)?;
        let mut bytes = [0; 8];
        if more == 8 {
            bytes.copy_from_slice(taken);
            return Ok(u64::from_le_bytes(bytes));
        }
        bytes[0] = first;
        bytes[1..=more].copy_from_slice(taken);
        Ok(u64::from_le_bytes(bytes) >> (more + 1))
    }

    /// A number with a flag in its lowest bit.
    pub fn flagged(&mut self) -> Result<(u64, bool), String> {
        let value = self.varint()?;
        Ok((value >> 1, value & 1 == 1))
    }

    pub fn signed(&mut self) -> Result<i64, String> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// How many of something follow, each of which takes a byte at least.
    pub fn count(&mut self, what: &str) -> Result<usize, String> {
        let value = self.varint()?;
        self.checked_count(value, what)
    }

    pub fn checked_count(&self, value: u64, what: &str) -> Result<usize, String> {
        let room = self.rest().len();
        match usize::try_from(value) {
            Ok(count) if count <= room.min(MOST) => Ok(count),
            _ => Err(format!("announces {value} {what} in {room} bytes")),
        }
    }

    /// A number below `limit`.
    pub fn index(&mut self, limit: usize, what: &str) -> Result<usize, String> {
        let value = self.varint()?;
        checked_index(value, limit, what)
    }
}

pub(crate) fn checked_index(value: u64, limit: usize, what: &str) -> Result<usize, String> {
    match usize::try_from(value) {
        Ok(index) if index < limit => Ok(index),
        _ => Err(format!(
            "speaks of {what} {value}, of which there are {limit}"
        )),
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, value: u64) {
    let bits = 64 - value.leading_zeros() as usize;
    let len = bits.div_ceil(7).max(1);
    if len > 8 {
        out.push(0);
        out.extend(value.to_le_bytes());
        return;
    }
    let encoded = (value << 1 | 1) << (len - 1);
    out.extend(&encoded.to_le_bytes()[..len]);
}

pub(crate) fn put_flagged(out: &mut Vec<u8>, value: u64, flag: bool) {
    put_varint(out, value << 1 | u64::from(flag));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_in_as_few_bytes_as_can_be() {
        let ends = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for value in ends.chain([u64::MAX]) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let bits = 64 - value.leading_zeros();
            let len = if bits > 56 {
                9
            } else {
                bits.div_ceil(7).max(1)
            };
            assert_eq!(bytes.len(), len as usize, "{value}");
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.varint(), Ok(value));
            assert!(reader.is_at_end());
            assert!(Reader::new(&bytes[..bytes.len() - 1]).varint().is_err());
        }
        let mut bytes = Vec::new();
        put_varint(&mut bytes, 64);
        assert_eq!(bytes, [0x81]);
        put_varint(&mut bytes, 128);
        assert_eq!(bytes[1..], [0x02, 0x02]);
        assert_eq!(Reader::new(&[0x05]).signed(), Ok(1));
        assert_eq!(Reader::new(&[0x07]).signed(), Ok(-2));
    }
}
