//! `cargo xtask swift`: the Swift package's tests on Linux, against the static library.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::dist;
use crate::toolchain::{program, root, target_dir};

/// Debian's release that has Swift, and what its compiler needs.
const RELEASE: &str = "trixie";
const PACKAGES: &str = "swiftlang,libc6-dev,libstdc++-14-dev";

/// Runs them by the `swift` of this machine, or by Debian's in a folder of its own.
pub fn swift() -> Outcome {
    let prefix = dist::install("swift-prefix", dist::BuildKind::Checked)?;
    // Where both are, linkers take the shared one.
    let library = target_dir().join("swift/prefix");
    dist::copy_folder(&prefix.join("include"), &library.join("include"))?;
    dist::copy_folder(
        &prefix.join("lib/pkgconfig"),
        &library.join("lib/pkgconfig"),
    )?;
    fs::copy(
        prefix.join("lib/libquant.a"),
        library.join("lib/libquant.a"),
    )?;
    let status = match program("swift") {
        Some(_) => {
            let mut test = Command::new("swift");
            test.arg("test")
                .arg("--package-path")
                .arg(root().join("swift"));
            test.arg("--scratch-path")
                .arg(target_dir().join("swift/build"));
            test.env("PKG_CONFIG_PATH", library.join("lib/pkgconfig"))
                .status()?
        }
        None => in_chroot(&library)?.status()?,
    };
    match status.success() {
        true => Ok(()),
        false => Err(format!("swift test: {status}").into()),
    }
}

/// The tests, in a Debian with Swift.
fn in_chroot(library: &Path) -> Result<Command, Box<dyn Error>> {
    let chroot = chroot()?;
    for folder in ["src/swift", "src/prefix"] {
        let folder = chroot.join(folder);
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
    }
    dist::copy_folder(&root().join("swift"), &chroot.join("src/swift"))?;
    dist::copy_folder(library, &chroot.join("src/prefix"))?;
    let mut test = Command::new("unshare");
    // Swift finds its own libraries by /proc; the mount ends with the process.
    test.args(["--mount", "--fork", "sh", "-c"]);
    test.arg("mount -t proc proc \"$0/proc\" && exec chroot \"$0\" env -i \"$@\"");
    test.arg(chroot).args(["HOME=/root", "PATH=/usr/bin:/bin"]);
    test.arg("PKG_CONFIG_PATH=/src/prefix/lib/pkgconfig");
    test.args(["swift", "test", "--package-path", "/src/swift"]);
    test.args(["--scratch-path", "/src/build", "--disable-swift-testing"]);
    Ok(test)
}

/// Makes the Debian with Swift, where this machine has neither.
pub fn prepare() -> Outcome {
    match program("swift") {
        Some(_) => Ok(()),
        None => chroot().map(drop),
    }
}

/// Makes it, where it is not there yet.
fn chroot() -> Result<PathBuf, Box<dyn Error>> {
    let chroot = target_dir().join("swift/chroot");
    // A link, which leads astray from outside.
    if chroot.join("usr/bin/swift").symlink_metadata().is_ok() {
        return Ok(chroot);
    }
    println!("{RELEASE} with Swift, into {}: 3 GB", chroot.display());
    // What an interrupted run left is of no use.
    let unfinished = target_dir().join("swift/unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    fs::create_dir_all(target_dir().join("swift"))?;
    let mut bootstrap = match program("mmdebstrap") {
        Some(_) => {
            let mut command = Command::new("mmdebstrap");
            // It is made anew if the machine stops meanwhile.
            command.args(["--variant=apt", "--dpkgopt=force-unsafe-io"]);
            command.args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
            command
        }
        None => {
            let mut command = Command::new("debootstrap");
            command.arg("--variant=minbase");
            command
        }
    };
    bootstrap.args([&format!("--include={PACKAGES}"), RELEASE]);
    match bootstrap.arg(&unfinished).status()? {
        status if status.success() => fs::rename(unfinished, &chroot)?,
        status => return Err(format!("{bootstrap:?}: {status}; it must be run as root").into()),
    }
    Ok(chroot)
}

/// Of the packages, what no build reads.
const LEFT_OUT: [&str; 4] = [
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
];
