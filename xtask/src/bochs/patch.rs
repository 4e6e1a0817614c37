//! Puts a right function in the place of a wrong one of Bochs 2.7: see rounding.c.

use object::{Object, ObjectSegment, ObjectSymbol};

/// The function that rounds to f16. Later releases have another one.
const ROUNDING: &str = "_Z19roundAndPackFloat16istR14float_status_t";

/// Overwrites it in the emulator's program, if it is there.
///
/// # Errors
/// If the program is none, or the new function is longer.
pub fn rounding(bochs: &mut [u8], function: &[u8]) -> Result<(), String> {
    let Some(place) = find(bochs).map_err(|error| error.to_string())? else {
        return Ok(());
    };
    match bochs.get_mut(place) {
        Some(place) if place.len() >= function.len() => {
            place[..function.len()].copy_from_slice(function);
            Ok(())
        }
        _ => Err(format!("no room for {} bytes", function.len())),
    }
}

/// Where the function lies in the file.
fn find(bochs: &[u8]) -> object::Result<Option<std::ops::Range<usize>>> {
    let file = object::File::parse(bochs)?;
    let mut symbols = file.dynamic_symbols();
    let symbol = symbols.find(|it| it.is_definition() && it.name() == Ok(ROUNDING));
    let place = symbol.and_then(|symbol| {
        let (address, len) = (symbol.address(), symbol.size());
        let mut segments = file.segments();
        let segment =
            segments.find(|it| (it.address()..it.address() + it.size()).contains(&address))?;
        let start = (segment.file_range().0 + address - segment.address()) as usize;
        Some(start..start + len as usize)
    });
    Ok(place)
}
