//! The loops in disassembled aarch64 code.

use std::ops::Range;

/// One instruction, as llvm-objdump prints it.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    pub address: u64,
    pub mnemonic: String,
    /// Without the symbols that addresses are explained with.
    pub operands: String,
}

impl Instruction {
    fn parse(line: &str) -> Option<Self> {
        let (address, rest) = line.split_once(':')?;
        let address = u64::from_str_radix(address.trim(), 16).ok()?;
        let rest = rest.split(" <").next().unwrap_or(rest).trim();
        let rest = rest.split("//").next().unwrap_or(rest).trim();
        let (mnemonic, operands) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        (!mnemonic.is_empty()).then(|| Self {
            address,
            mnemonic: mnemonic.to_owned(),
            operands: operands.trim().to_owned(),
        })
    }

    /// Where it jumps to, if it is a jump within a function.
    fn jump(&self) -> Option<u64> {
        let conditional = ["cbz", "cbnz", "tbz", "tbnz"].contains(&&*self.mnemonic);
        if !conditional && self.mnemonic != "b" && !self.mnemonic.starts_with("b.") {
            return None;
        }
        let target = self.operands.rsplit("0x").next()?;
        u64::from_str_radix(target, 16).ok()
    }

    /// Whether it works on vectors.
    pub fn is_vector(&self) -> bool {
        let mut operands = self.operands.split([',', ' ', '{', '[']);
        operands.any(|it| it.starts_with('q') || it.starts_with('v') && it.contains('.'))
    }

    /// For the assembler: the distance that a jump jumps does not matter.
    pub fn text(&self) -> String {
        let Self {
            mnemonic, operands, ..
        } = self;
        match (self.jump(), &**mnemonic) {
            (None, "adrp" | "adr" | "bl") => {
                let register = operands
                    .rsplit_once(", ")
                    .map_or("", |(register, _)| register);
                let comma = if register.is_empty() { "" } else { ", " };
                format!("{mnemonic} {register}{comma}#0")
            }
            (None, _) => format!("{mnemonic} {operands}"),
            (Some(_), _) => {
                let rest = operands.rsplit_once("0x").map_or("", |(rest, _)| rest);
                format!("{mnemonic} {rest}#8")
            }
        }
    }

    /// Bytes that it moves between memory and vector registers of 8 bytes and more: `(loaded,
    /// stored)`. Shorter loads, and those that repeat one element, fetch parameters. What lies on
    /// the stack is spilled.
    pub fn traffic(&self) -> (usize, usize) {
        if self.operands.contains("[sp") || self.operands.contains("[x29") {
            return (0, 0);
        }
        let registers = self.operands.split('[').next().unwrap_or_default();
        let size = |register: &str| match register.trim_matches([' ', '{', '}']) {
            it if it.starts_with('q') => 16,
            it if it.starts_with('d') => 8,
            it if it.starts_with('v') && it.ends_with(|c| "bhsd".contains(c)) => {
                match it.rsplit_once('.').map(|(_, shape)| shape) {
                    Some("16b" | "8h" | "4s" | "2d") => 16,
                    Some("8b" | "4h" | "2s" | "1d") => 8,
                    _ => 0,
                }
            }
            _ => 0,
        };
        let bytes = registers.split(',').map(size).sum();
        match &*self.mnemonic {
            "ldr" | "ldur" | "ldp" | "ldnp" | "ld1" | "ld2" | "ld3" | "ld4" => (bytes, 0),
            "str" | "stur" | "stp" | "stnp" | "st1" | "st2" | "st3" | "st4" => (0, bytes),
            _ => (0, 0),
        }
    }
}

/// A function's instructions.
pub type Function = Vec<Instruction>;

/// The functions in what llvm-objdump prints.
pub fn functions(listing: &str) -> Vec<Function> {
    let mut functions = vec![Function::new()];
    for line in listing.lines() {
        if line.ends_with(">:") {
            functions.push(Function::new());
        } else if let (Some(instruction), Some(last)) =
            (Instruction::parse(line), functions.last_mut())
        {
            last.push(instruction);
        }
    }
    functions.retain(|function| !function.is_empty());
    functions
}

/// A loop: from the target of a jump backwards to the last such jump.
#[derive(Clone, Debug, PartialEq)]
pub struct Loop {
    /// Positions in the function.
    pub body: Range<usize>,
    /// The parts of the body that are not in a loop within it, as positions in the function.
    pub own: Vec<usize>,
    /// Whether there are no loops within it.
    pub is_innermost: bool,
}

/// The loops of a function, outer ones before those within them.
pub fn loops(function: &[Instruction]) -> Vec<Loop> {
    let mut bodies: Vec<Range<usize>> = Vec::new();
    for (end, instruction) in function.iter().enumerate() {
        let Some(target) = instruction.jump().filter(|it| *it <= instruction.address) else {
            continue;
        };
        let Ok(start) = function.binary_search_by_key(&target, |it| it.address) else {
            continue;
        };
        match bodies.iter_mut().find(|body| body.start == start) {
            Some(body) => body.end = body.end.max(end + 1),
            None => bodies.push(start..end + 1),
        }
    }
    bodies.sort_by_key(|body| (body.start, std::cmp::Reverse(body.end)));
    let within = |inner: &Range<usize>, outer: &Range<usize>| {
        inner != outer && outer.start <= inner.start && inner.end <= outer.end
    };
    let describe = |body: &Range<usize>| {
        let inner: Vec<_> = bodies.iter().filter(|it| within(it, body)).collect();
        let own = body.clone();
        Loop {
            own: own
                .filter(|i| !inner.iter().any(|it| it.contains(i)))
                .collect(),
            body: body.clone(),
            is_innermost: inner.is_empty(),
        }
    };
    bodies.iter().map(describe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NESTED: &str = "
0000000000000100 <f>:
     100:      \tmov\tx8, x0
     104:      \tdup\tv0.4s, w1
     108:      \tldp\tq1, q2, [x0], #0x20
     10c:      \tfmul\tv1.4s, v1.4s, v0.4s
     110:      \tstr\td1, [x2], #0x8
     114:      \tstr\tq1, [sp, #0x10]
     118:      \tcbnz\tx3, 0x108 <f+0x8>
     11c:      \tsubs\tx4, x4, #0x1
     120:      \tb.ne\t0x104 <f+0x4>
     124:      \tret
";

    #[test]
    fn loops_are_found_with_what_is_their_own() {
        let functions = functions(NESTED);
        assert_eq!(functions.len(), 1);
        let found = loops(&functions[0]);
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].body.clone(), found[0].is_innermost),
            (1..9, false)
        );
        assert_eq!(found[0].own, [1, 7, 8]);
        assert_eq!((found[1].body.clone(), found[1].is_innermost), (2..7, true));
    }

    #[test]
    fn traffic_is_that_of_whole_vectors_off_the_stack() {
        let function = &functions(NESTED)[0];
        assert_eq!(function[2].traffic(), (32, 0));
        assert_eq!(function[4].traffic(), (0, 8));
        assert_eq!(function[5].traffic(), (0, 0));
        let line = "0: ld1r { v1.4s }, [x1]";
        assert_eq!(Instruction::parse(line).unwrap().traffic(), (0, 0));
        let line = "0: st1 { v1.16b, v2.16b }, [x1], #32";
        assert_eq!(Instruction::parse(line).unwrap().traffic(), (0, 32));
    }

    #[test]
    fn jumps_and_addresses_assemble_anywhere() {
        let function = &functions(NESTED)[0];
        assert_eq!(function[6].text(), "cbnz x3, #8");
        assert_eq!(function[8].text(), "b.ne #8");
        assert_eq!(function[2].text(), "ldp q1, q2, [x0], #0x20");
        let line = "0: adrp x8, 0x21000 <g+0x50>";
        assert_eq!(Instruction::parse(line).unwrap().text(), "adrp x8, #0");
    }
}
