//! No file that is given to others names a folder of the machine that built it: such names tell who
//! built it, and make two builds of the same sources differ.

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::toolchain::{root, sysroot, target_dir};

/// Separates flags in `CARGO_ENCODED_RUSTFLAGS`: a path may hold spaces.
const SEPARATOR: &str = "\x1f";

/// Lets rustc write other names for this machine's folders; `flags` are for it, too.
///
/// # Errors
/// If a folder's name is not UTF-8.
pub fn hide(cargo: &mut Command, flags: &[&str]) -> Outcome {
    let mut all: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    for (from, to) in renamed() {
        let from = from.to_str();
        let from = from.ok_or("the path of this folder, or of cargo's, is not UTF-8")?;
        all.push(format!("--remap-path-prefix={from}={to}"));
    }
    cargo.env_remove("RUSTFLAGS");
    cargo.env("CARGO_ENCODED_RUSTFLAGS", all.join(SEPARATOR));
    Ok(())
}

/// Folders of this machine, and what they are called instead. The last that fits counts.
fn renamed() -> Vec<(PathBuf, &'static str)> {
    let mut renamed = vec![(target_dir(), "/target"), (root().to_owned(), "/quant")];
    let sources = cargo_home().join("registry/src");
    renamed.push((sources.clone(), "/crates"));
    // Below it is a folder for each registry, named after its host.
    for registry in fs::read_dir(sources).into_iter().flatten().flatten() {
        renamed.push((registry.path(), "/crates"));
    }
    // Debian's rustc is named whether it is installed or not: other flags build everything again.
    let sysroots = [sysroot(&OsString::from("rustc")), Some("/usr".into())];
    for sysroot in sysroots.into_iter().flatten() {
        renamed.push((sysroot.join("lib/rustlib/src/rust"), "/rustc"));
    }
    renamed
}

fn cargo_home() -> PathBuf {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    home.unwrap_or_else(|| std::env::home_dir().unwrap_or_default().join(".cargo"))
}

/// No file of a folder holds the name of this workspace, of cargo's folder or of the user's.
///
/// # Errors
/// Which file names which folder.
pub fn check(folder: &Path) -> Outcome {
    let mut private = vec![root().to_owned(), target_dir(), cargo_home()];
    private.extend(std::env::home_dir());
    private.extend(sysroot(&OsString::from("rustc")));
    // `/` and `/root` alone are parts of other words.
    let private: Vec<Vec<u8>> = private
        .iter()
        .filter(|it| it.parent().is_some())
        .map(|it| [it.as_os_str().as_encoded_bytes(), b"/"].concat())
        .collect();
    let mut count = 0;
    look(folder, &private, &mut count)?;
    println!("{count} files, none of which names a folder of this machine");
    Ok(())
}

fn look(folder: &Path, private: &[Vec<u8>], count: &mut usize) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            look(&path, private, count)?;
            continue;
        }
        *count += 1;
        if let Some(found) = found_in(&fs::read(&path)?, private) {
            let found = String::from_utf8_lossy(found).into_owned();
            return Err(format!("{}: names {found}, of this machine", path.display()).into());
        }
    }
    Ok(())
}

fn found_in<'a>(data: &[u8], private: &'a [Vec<u8>]) -> Option<&'a [u8]> {
    let holds = |name: &&Vec<u8>| data.windows(name.len()).any(|part| part == name.as_slice());
    private.iter().find(holds).map(Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::{check, found_in, root};

    #[test]
    fn names_of_folders_are_found_anywhere() {
        let private = [b"/home/anna/".to_vec(), b"/quant of mine/".to_vec()];
        assert_eq!(
            found_in(b"\0\x7f/home/anna/x.rs\0", &private),
            Some(&b"/home/anna/"[..])
        );
        assert_eq!(
            found_in(b"at /quant of mine/", &private),
            Some(&b"/quant of mine/"[..])
        );
        assert_eq!(found_in(b"/home/annabelle/x.rs", &private), None);
        assert_eq!(found_in(b"", &private), None);
    }

    #[test]
    fn a_file_that_names_this_workspace_is_refused() {
        let folder = std::env::temp_dir().join(format!("quant-paths-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("lib")).unwrap();
        std::fs::write(folder.join("lib/fine.so"), b"/quant/crates").unwrap();
        check(&folder).unwrap();
        let text = format!("\0{}/crates/x.rs", root().display());
        std::fs::write(folder.join("lib/bad.so"), text).unwrap();
        let refused = check(&folder).unwrap_err().to_string();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(refused.contains("bad.so"), "{refused}");
    }
}
