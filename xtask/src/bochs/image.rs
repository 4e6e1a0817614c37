//! The disk that machine.s reads: what is to be at `START`, then the program as it lies in memory.

use object::LittleEndian as Little;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader};

/// Where the stack begins, and what is loaded there. machine.s knows it too.
const START: usize = 0x0f00_0000;
const START_LEN: usize = 128 * SECTOR;
const SECTOR: usize = 512;
/// Before `argc`: what machine.s wants to know, in words of 8 bytes.
const HEADER_LEN: usize = 48;
/// Bochs wants whole cylinders of 16 heads and 63 sectors.
pub const CYLINDER: usize = 16 * 63 * SECTOR;

/// A static program, as the file says that it lies in memory.
struct Loaded {
    base: usize,
    bytes: Vec<u8>,
    /// Behind the zeros that follow the bytes, at a page's begin.
    end: usize,
    entry: u64,
    /// Where the program headers lie in memory, and how many there are: the C library reads them.
    headers: u64,
    header_count: u64,
}

/// The disk for a static program that does not move, its arguments and its environment.
///
/// # Errors
/// If the program is another kind of file, or anything is too large.
pub fn disk(file: &[u8], arguments: &[String], environment: &[String]) -> Result<Vec<u8>, String> {
    let program = load(file).map_err(|error| error.to_string())??;
    let mut disk = start(&program, arguments, environment);
    if disk.len() > START_LEN || program.end > START - (16 << 20) {
        return Err("the program, or its arguments, are too large".to_owned());
    }
    disk.resize(START_LEN, 0);
    disk.extend(&program.bytes);
    disk.resize(disk.len().next_multiple_of(CYLINDER), 0);
    Ok(disk)
}

fn load(file: &[u8]) -> object::Result<Result<Loaded, String>> {
    let header = FileHeader64::<Little>::parse(file)?;
    let is_fixed = header.e_type(Little) == elf::ET_EXEC;
    if !is_fixed || header.e_machine(Little) != elf::EM_X86_64 {
        return Ok(Err("not a program for x86-64 at a fixed address".to_owned()));
    }
    let segments = header.program_headers(Little, file)?;
    let all = || {
        segments
            .iter()
            .filter(|it| it.p_type(Little) == elf::PT_LOAD)
    };
    let is_static = segments
        .iter()
        .all(|it| it.p_type(Little) != elf::PT_INTERP);
    let base = all().map(|it| it.p_vaddr(Little)).min();
    let (Some(base), true) = (base, is_static) else {
        return Ok(Err("not a static program".to_owned()));
    };
    let (mut bytes, mut end, mut headers) = (Vec::new(), 0, 0);
    for segment in all() {
        let address = segment.p_vaddr(Little);
        let data = segment.data(Little, file).unwrap_or_default();
        let at = (address - base) as usize;
        if at + data.len() > START {
            return Ok(Err("the program is too large".to_owned()));
        }
        bytes.resize(bytes.len().max(at + data.len()), 0);
        bytes[at..at + data.len()].copy_from_slice(data);
        end = end.max(address.saturating_add(segment.p_memsz(Little)));
        let (offset, table) = (segment.p_offset(Little), header.e_phoff(Little));
        if (offset..offset + data.len() as u64).contains(&table) {
            headers = address + (table - offset);
        }
    }
    Ok(Ok(Loaded {
        base: base as usize,
        bytes,
        end: (end as usize).next_multiple_of(4096),
        entry: header.e_entry(Little),
        headers,
        header_count: segments.len() as u64,
    }))
}

/// What is to be at `START`: what machine.s wants to know, and a program's stack as Linux makes it.
fn start(program: &Loaded, arguments: &[String], environment: &[String]) -> Vec<u8> {
    // Kind and value; the C library knows no others that it could not do without.
    let auxiliary = |random| {
        [
            [elf_auxiliary::HEADERS, program.headers],
            [elf_auxiliary::HEADER_LEN, 56],
            [elf_auxiliary::HEADER_COUNT, program.header_count],
            [elf_auxiliary::PAGE_LEN, 4096],
            [elf_auxiliary::ENTRY, program.entry],
            [elf_auxiliary::SECURE, 0],
            [elf_auxiliary::RANDOM, random],
            [elf_auxiliary::END, 0],
        ]
    };
    let words = 1 + arguments.len() + 1 + environment.len() + 1 + 2 * auxiliary(0).len();
    let texts_at = START + HEADER_LEN + 8 * words;
    // Any 16 bytes, for which there are no better ones here, and then the texts.
    let mut texts = b"not very random.".to_vec();
    let mut place = |text: &String| {
        let address = texts_at + texts.len();
        texts.extend(text.bytes().chain([0]));
        address as u64
    };
    let sectors = program.bytes.len().div_ceil(SECTOR);
    let bss = program.base + program.bytes.len();
    let mut all: Vec<u64> = [program.base, sectors, bss, program.end]
        .map(|it| it as u64)
        .to_vec();
    all.extend([program.entry, 0, arguments.len() as u64]);
    all.extend(arguments.iter().map(&mut place));
    all.push(0);
    all.extend(environment.iter().map(&mut place));
    all.push(0);
    all.extend(auxiliary(texts_at as u64).as_flattened());
    let bytes = all.into_iter().flat_map(u64::to_le_bytes);
    bytes.chain(texts).collect()
}

/// `AT_PHDR` and so on, of Linux' auxiliary vector.
mod elf_auxiliary {
    pub const END: u64 = 0;
    pub const HEADERS: u64 = 3;
    pub const HEADER_LEN: u64 = 4;
    pub const HEADER_COUNT: u64 = 5;
    pub const PAGE_LEN: u64 = 6;
    pub const ENTRY: u64 = 9;
    pub const SECURE: u64 = 23;
    pub const RANDOM: u64 = 25;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], index: usize) -> u64 {
        let bytes = bytes[8 * index..8 * index + 8].try_into();
        u64::from_le_bytes(bytes.expect("8 bytes"))
    }

    #[test]
    fn the_stack_is_as_linux_makes_it() {
        let program = Loaded {
            base: 0x20_0000,
            bytes: vec![1; 700],
            end: 0x20_1000,
            entry: 0x20_0040,
            headers: 0x20_0010,
            header_count: 9,
        };
        let texts = ["program", "case"].map(str::to_owned);
        let start = start(&program, &texts, &["A=1".to_owned()]);
        let header = [0x20_0000, 2, 0x20_02bc, 0x20_1000, 0x20_0040];
        for (index, value) in header.into_iter().enumerate() {
            assert_eq!(word(&start, index), value, "{index}");
        }
        // The stack pointer is a multiple of 16 there.
        assert_eq!((START + HEADER_LEN) % 16, 0);
        assert_eq!(word(&start, 6), 2);
        for (index, want) in [(7, "program\0"), (8, "case\0"), (10, "A=1\0")] {
            let at = word(&start, index) as usize - START;
            assert!(start[at..].starts_with(want.as_bytes()), "{want}");
        }
        assert_eq!([word(&start, 9), word(&start, 11)], [0, 0]);
        assert_eq!([word(&start, 12), word(&start, 13)], [3, 0x20_0010]);
    }

    #[test]
    fn other_files_are_refused() {
        let own = std::fs::read(std::env::current_exe().expect("a path")).expect("a file");
        for file in [b"#!/bin/sh".as_slice(), &[], &own] {
            assert!(disk(file, &[], &[]).is_err());
        }
    }
}
