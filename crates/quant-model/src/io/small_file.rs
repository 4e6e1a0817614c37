//! Documents that are read whole: never more of them than they can sensibly hold.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::Error;

/// Reads a regular file of at most `limit` bytes. `expected` says what to give instead.
pub fn read_bounded(path: &Path, limit: u64, expected: &str) -> Result<Vec<u8>, Error> {
    // Before it is opened: a pipe would wait for somebody to write.
    let found = fs::metadata(path).map_err(Error::io(path, "open it"))?;
    if !found.is_file() {
        return Err(Error::file(path, format!("not a file; {expected}")));
    }
    let file = File::open(path).map_err(Error::io(path, "open it"))?;
    let mut bytes = Vec::new();
    let too_large = || {
        let problem = format!("more than {limit} bytes; {expected}");
        Error::file(path, problem)
    };
    if found.len() > limit {
        return Err(too_large());
    }
    // The file may grow meanwhile, and some files have no length.
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(Error::io(path, "read it"))?;
    match bytes.len() as u64 > limit {
        true => Err(too_large()),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_a_sensible_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, b"four").unwrap();
        assert_eq!(read_bounded(&path, 4, "give one").unwrap(), b"four");
        let said = |path: &Path, limit| {
            read_bounded(path, limit, "give one")
                .unwrap_err()
                .to_string()
        };
        assert!(said(&path, 3).contains("more than 3 bytes; give one"));
        for device in ["/dev/zero", "/dev/null", "/dev"] {
            assert!(said(Path::new(device), 9).contains("not a file; give one"));
        }
    }
}
