//! The program: operations in blocks in regions, as they stand.

use crate::wire::{Reader, checked_index};

pub(crate) const ATTRIBUTES: u8 = 0x01;
pub(crate) const RESULTS: u8 = 0x02;
pub(crate) const OPERANDS: u8 = 0x04;
pub(crate) const SUCCESSORS: u8 = 0x08;
pub(crate) const REGIONS: u8 = 0x10;
pub(crate) const ORDERS: u8 = 0x20;
pub(crate) const PROPERTIES: u8 = 0x40;

/// The section that a region of its own is in.
pub(crate) const REGION_SECTION: u8 = 4;
/// Regions within regions, at most.
const DEPTH: usize = 64;
/// Operations of a program, at most.
const MOST: usize = 1 << 21;

/// What an operation's numbers may refer to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub operations: usize,
    pub attributes: usize,
    pub types: usize,
    pub properties: usize,
}

#[derive(Debug)]
pub(crate) struct Operation<'a> {
    /// Its place in the program, regions included.
    pub id: usize,
    pub name: usize,
    pub mask: u8,
    pub location: usize,
    pub attributes: usize,
    pub properties: Option<usize>,
    /// The types of its results.
    pub results: Vec<usize>,
    /// Numbers of values, as the region counts them.
    pub operands: Vec<usize>,
    pub successors: Vec<usize>,
    /// In which order results are used, as it stands.
    pub orders: &'a [u8],
    pub regions: Vec<Region<'a>>,
    /// Whether its regions see no values from outside.
    pub is_isolated: bool,
}

#[derive(Debug)]
pub(crate) struct Region<'a> {
    pub blocks: Vec<Block<'a>>,
}

#[derive(Debug)]
pub(crate) struct Block<'a> {
    /// Types, and locations where they are said.
    pub arguments: Vec<(usize, Option<usize>)>,
    pub has_arguments: bool,
    /// As it stands, with the flag before it.
    pub orders: &'a [u8],
    pub operations: Vec<Operation<'a>>,
}

impl Region<'_> {
    /// Values that its blocks and operations define, without regions further in.
    pub fn value_count(&self) -> usize {
        let count = |block: &Block<'_>| {
            let results = block.operations.iter().map(|it| it.results.len());
            block.arguments.len() + results.sum::<usize>()
        };
        self.blocks.iter().map(count).sum()
    }
}

/// Reads the program.
pub(crate) fn read<'a>(bytes: &'a [u8], limits: Limits) -> Result<Block<'a>, String> {
    let mut parser = Parser { limits, next: 0 };
    let mut reader = Reader::new(bytes);
    let block = parser.block(&mut reader, DEPTH)?;
    match reader.is_at_end() {
        true => Ok(block),
        false => Err(format!("has {} bytes too many", reader.rest().len())),
    }
}

struct Parser {
    limits: Limits,
    next: usize,
}

impl Parser {
    fn region<'a>(&mut self, reader: &mut Reader<'a>, depth: usize) -> Result<Region<'a>, String> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(format!("has more than {DEPTH} regions within each other"));
        };
        let count = reader.count("blocks")?;
        if count == 0 {
            return Ok(Region { blocks: Vec::new() });
        }
        let values = reader.varint()?;
        let blocks = (0..count).map(|_| self.block(reader, depth));
        let blocks = blocks.collect::<Result<_, _>>()?;
        let region = Region { blocks };
        match region.value_count() as u64 == values {
            true => Ok(region),
            false => Err(format!(
                "announces {values} values in a region of {}",
                region.value_count()
            )),
        }
    }

    fn block<'a>(&mut self, reader: &mut Reader<'a>, depth: usize) -> Result<Block<'a>, String> {
        let (count, has_arguments) = reader.flagged()?;
        let count = reader.checked_count(count, "operations")?;
        let (mut arguments, mut orders) = (Vec::new(), &[][..]);
        if has_arguments {
            for _ in 0..reader.count("arguments")? {
                let (kind, has_location) = reader.flagged()?;
                let kind = checked_index(kind, self.limits.types, "type")?;
                let location = match has_location {
                    true => Some(reader.index(self.limits.attributes, "attribute")?),
                    false => None,
                };
                arguments.push((kind, location));
            }
            orders = self.raw(reader, |reader| match reader.byte()? {
                0 => Ok(()),
                _ => skip_orders(reader, arguments.len()),
            })?;
        }
        let operations = (0..count).map(|_| self.operation(reader, depth));
        Ok(Block {
            operations: operations.collect::<Result<_, _>>()?,
            arguments,
            has_arguments,
            orders,
        })
    }

    /// The bytes that `skip` reads.
    fn raw<'a>(
        &self,
        reader: &mut Reader<'a>,
        skip: impl FnOnce(&mut Reader<'a>) -> Result<(), String>,
    ) -> Result<&'a [u8], String> {
        let (all, start) = (reader.rest(), reader.at());
        skip(reader)?;
        Ok(&all[..reader.at() - start])
    }

    fn operation<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        depth: usize,
    ) -> Result<Operation<'a>, String> {
        let id = self.next;
        self.next += 1;
        if id == MOST {
            return Err(format!("has more than {MOST} operations"));
        }
        let limits = self.limits;
        let name = reader.index(limits.operations, "operation")?;
        let mask = reader.byte()?;
        if mask & 0x80 != 0 {
            return Err(format!(
                "marks an operation with {mask:#x}, which quant does not know"
            ));
        }
        let has = |flag| mask & flag != 0;
        let mut operation = Operation {
            id,
            name,
            mask,
            location: reader.index(limits.attributes, "attribute")?,
            attributes: 0,
            properties: None,
            results: Vec::new(),
            operands: Vec::new(),
            successors: Vec::new(),
            orders: &[],
            regions: Vec::new(),
            is_isolated: false,
        };
        if has(ATTRIBUTES) {
            operation.attributes = reader.index(limits.attributes, "attribute")?;
        }
        if has(PROPERTIES) {
            operation.properties = Some(reader.index(limits.properties, "property")?);
        }
        if has(RESULTS) {
            operation.results = numbers(reader, "results", limits.types, "type")?;
        }
        // Values are checked where they are counted, and blocks are left as they are.
        if has(OPERANDS) {
            operation.operands = numbers(reader, "operands", usize::MAX, "value")?;
        }
        if has(SUCCESSORS) {
            operation.successors = numbers(reader, "successors", usize::MAX, "block")?;
        }
        if has(ORDERS) {
            let results = operation.results.len();
            operation.orders = self.raw(reader, |reader| skip_orders(reader, results))?;
        }
        if has(REGIONS) {
            self.regions(reader, depth, &mut operation)?;
        }
        Ok(operation)
    }

    fn regions<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        depth: usize,
        operation: &mut Operation<'a>,
    ) -> Result<(), String> {
        let (count, is_isolated) = reader.flagged()?;
        operation.is_isolated = is_isolated;
        for _ in 0..reader.checked_count(count, "regions")? {
            if !is_isolated {
                operation.regions.push(self.region(reader, depth)?);
                continue;
            }
            if reader.byte()? != REGION_SECTION {
                return Err("holds no region where one should be".into());
            }
            let len = reader.varint()?;
            let mut inner = Reader::new(reader.take(len)?);
            operation.regions.push(self.region(&mut inner, depth)?);
            if !inner.is_at_end() {
                return Err(format!(
                    "has {} bytes too many in a region",
                    inner.rest().len()
                ));
            }
        }
        Ok(())
    }
}

/// Some numbers below a limit.
fn numbers(
    reader: &mut Reader<'_>,
    counted: &str,
    limit: usize,
    what: &str,
) -> Result<Vec<usize>, String> {
    let count = reader.count(counted)?;
    (0..count).map(|_| reader.index(limit, what)).collect()
}

/// Skips the orders in which some values are used.
fn skip_orders(reader: &mut Reader<'_>, values: usize) -> Result<(), String> {
    let count = match values {
        0 => return Err("orders the uses of no value".into()),
        1 => 1,
        _ => reader.count("orders")?,
    };
    for _ in 0..count {
        if values > 1 {
            reader.index(values, "result")?;
        }
        let (len, _) = reader.flagged()?;
        for _ in 0..reader.checked_count(len, "uses")? {
            reader.varint()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewrite::write;

    const LIMITS: Limits = Limits {
        operations: 1,
        attributes: 1,
        types: 1,
        properties: 1,
    };

    /// A block of one operation with one region of one such block, and so on.
    fn nested(depth: usize) -> Vec<u8> {
        let mut bytes = vec![0x05];
        for _ in 0..depth {
            bytes.extend([0x01, REGIONS, 0x01, 0x05, 0x03, 0x01, 0x05]);
        }
        bytes.extend([0x01, 0, 0x01]);
        bytes
    }

    #[test]
    fn regions_end_somewhere() {
        for depth in [0, 1, DEPTH] {
            let bytes = nested(depth);
            let program = read(&bytes, LIMITS).unwrap();
            assert_eq!(write(&program, &|_| None), bytes);
        }
        for depth in [DEPTH + 1, 100_000] {
            let error = read(&nested(depth), LIMITS).unwrap_err();
            assert!(error.contains("regions within each other"), "{error}");
        }
    }

    #[test]
    fn counts_and_numbers_are_bounded() {
        for (bytes, words) in [
            (&[0xfe, 0xff][..], "operations in 0 bytes"),
            (
                &[0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                "operations in 0 bytes",
            ),
            (&[0x05, 0x01], "ends early"),
            (&[0x05, 0x03, 0, 0x01], "operation 1, of which there are 1"),
            (&[0x05, 0x01, 0x80, 0x01], "0x80, which quant does not know"),
            (&[0x05, 0x01, 0, 0x03], "attribute 1, of which there are 1"),
            (&[0x05, 0x01, RESULTS, 0x01, 0x09], "4 results in 0 bytes"),
            (
                &[0x05, 0x01, RESULTS, 0x01, 0x03, 0x07],
                "type 3, of which there are 1",
            ),
            (&[0x05, 0x01, ORDERS, 0x01, 0x01], "the uses of no value"),
            (
                &[0x05, 0x01, REGIONS, 0x01, 0x05, 0x03, 0x03, 0x01],
                "1 values in a region of 0",
            ),
            (&[0x05, 0x01, 0, 0x01, 0x01], "1 bytes too many"),
        ] {
            let error = read(bytes, LIMITS).unwrap_err();
            assert!(error.contains(words), "no `{words}` in: {error}");
        }
    }
}
