//! Programs and libraries for macOS, looked at: nothing here runs them.

use std::error::Error;

use object::Endianness;
use object::macho::{self, MachHeader64};
use object::read::macho::{MachHeader as _, MachOFile64};
use sha2::{Digest as _, Sha256};

use crate::Outcome;

/// The oldest macOS.
const MACOS: u32 = 13;
/// What may be asked of macOS. Rust's std asks for libiconv, which gives on what libcharset has.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/libSystem.B.dylib",
    "/usr/lib/libcharset.1.dylib",
    "/usr/lib/libiconv.2.dylib",
];

/// For arm64 and the oldest macOS, with no library but the system's, and signed.
pub fn mach_o(data: &[u8]) -> Outcome {
    let file = MachOFile64::<Endianness>::parse(data)?;
    let (header, endian): (&MachHeader64<_>, _) = (file.macho_header(), file.endian());
    if header.cputype(endian) != macho::CPU_TYPE_ARM64 {
        return Err("not for arm64".into());
    }
    let (mut oldest, mut signature, mut libraries) = (None, None, Vec::new());
    let mut commands = file.macho_load_commands()?;
    while let Some(command) = commands.next()? {
        if let Some((version, _)) = command.build_version(endian)? {
            let platform = version.platform.get(endian);
            oldest = Some((platform, version.minos.get(endian).0 >> 16));
        }
        if let Some(library) = command.dylib()? {
            let name = command.string(endian, library.dylib.name)?;
            let name = String::from_utf8_lossy(name).into_owned();
            // A library's own name stands among those that it asks for.
            if command.cmd() != macho::LC_ID_DYLIB {
                libraries.push(name);
            }
        }
        if command.cmd() == macho::LC_CODE_SIGNATURE {
            let found: &macho::LinkeditDataCommand<Endianness> = command.data()?;
            signature = Some((found.dataoff.get(endian), found.datasize.get(endian)));
        }
    }
    if oldest != Some((macho::PLATFORM_MACOS, MACOS)) {
        return Err(format!("platform and oldest system are {oldest:?}").into());
    }
    let foreign = libraries
        .iter()
        .find(|it| !LIBRARIES.contains(&it.as_str()));
    if let Some(foreign) = foreign {
        return Err(format!("it asks for {foreign}").into());
    }
    let (start, size) = signature.ok_or("it is not signed, so no Mac with arm64 would run it")?;
    let pages = signed(data, start as usize, size as usize)?;
    println!(
        "macos-arm64: for macOS {MACOS} on, its {pages} pages signed, asks for {}",
        libraries.join(" ")
    );
    Ok(())
}

/// Whether a signature is that of the file as it is: how many pages it has digests of.
fn signed(data: &[u8], start: usize, size: usize) -> Result<usize, Box<dyn Error>> {
    let short = "its signature is cut short";
    let signature = data
        .get(start..)
        .and_then(|it| it.get(..size))
        .ok_or(short)?;
    let number = |at: usize| -> Result<usize, Box<dyn Error>> {
        let rest = signature.get(at..).and_then(|it| it.first_chunk());
        Ok(u32::from_be_bytes(*rest.ok_or(short)?) as usize)
    };
    // A superblob: a list of kinds and places; of kind 0 is the directory of the code.
    if number(0)? != 0xfade_0cc0 {
        return Err("its signature is of no known kind".into());
    }
    let mut directory = None;
    for entry in 0..number(8)? {
        if number(12 + 8 * entry)? == 0 {
            directory = Some(number(16 + 8 * entry)?);
        }
    }
    let at = directory.ok_or("its signature has no directory of the code")?;
    let (hashes, count, end) = (number(at + 16)?, number(at + 28)?, number(at + 32)?);
    let kinds = signature.get(at + 36..at + 40).ok_or(short)?;
    let (length, kind, page) = (kinds[0] as usize, kinds[1], 1 << (kinds[3] & 15));
    if number(at)? != 0xfade_0c02 || length != 32 || kind != 2 || end != start {
        return Err("its signature is not of all that stands before it, by SHA-256".into());
    }
    let pages: Vec<&[u8]> = data[..end].chunks(page).collect();
    if pages.len() != count {
        return Err(format!("{} pages, of which {count} are signed", pages.len()).into());
    }
    for (number, page) in pages.into_iter().enumerate() {
        let from = at + hashes + number * length;
        let expected = signature.get(from..from + length).ok_or(short)?;
        if Sha256::digest(page).as_slice() != expected {
            return Err(format!("page {number} is not what was signed").into());
        }
    }
    Ok(count)
}
