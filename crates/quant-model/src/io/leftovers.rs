//! Temporary names say whose they are, so that what a killed process left can be told from what
//! another one is writing.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::process::{Pid, geteuid, test_kill_process};
use xxhash_rust::xxh64::xxh64;

/// How far what stands under a temporary name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Of use to nobody but its process.
    Writing,
    /// A whole model, or the one that it replaces.
    Whole,
}

const WRITING: &str = ".quant-tmp-";
const WHOLE: &str = ".quant-whole-";

/// Process and the time when it began, where the system tells: numbers come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    process: u32,
    began: u64,
}

impl Owner {
    fn this() -> Self {
        let process = std::process::id();
        Self {
            process,
            began: Seen::process(process).map_or(0, |seen| seen.began),
        }
    }

    fn is_alive(self) -> bool {
        let this = Seen::process(std::process::id());
        if let Some(now) = this.and(Seen::process(self.process)) {
            return now.began == self.began && !now.ended;
        }
        let pid = i32::try_from(self.process).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
    }
}

/// What the system tells of a process.
#[derive(Clone, Copy)]
struct Seen {
    /// The start of the system and of the process in it, as one number.
    began: u64,
    /// It has its number only until its parent has asked how it ended, which may be never.
    ended: bool,
}

impl Seen {
    fn process(process: u32) -> Option<Self> {
        let boot = fs::read("/proc/sys/kernel/random/boot_id").ok()?;
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name of the program may hold anything, also spaces and brackets.
        let (_, fields) = stat.rsplit_once(')')?;
        let state = fields.split_whitespace().next()?;
        let start = fields.split_whitespace().nth(19)?;
        Some(Self {
            began: xxh64(start.as_bytes(), xxh64(&boot, 0)),
            ended: matches!(state, "Z" | "X" | "x"),
        })
    }
}

pub fn prefix(stage: Stage) -> String {
    let Owner { process, began } = Owner::this();
    let kind = match stage {
        Stage::Writing => WRITING,
        Stage::Whole => WHOLE,
    };
    format!("{kind}{process}-{began:016x}-")
}

/// An unused name beside `path` for a whole model.
pub(crate) fn spare(path: &Path) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!("{}{count}", prefix(Stage::Whole)))
}

fn parse(name: &str) -> Option<(Stage, Owner)> {
    let (stage, rest) = match (name.strip_prefix(WRITING), name.strip_prefix(WHOLE)) {
        (Some(rest), _) => (Stage::Writing, rest),
        (_, Some(rest)) => (Stage::Whole, rest),
        _ => return None,
    };
    let mut parts = rest.splitn(3, '-');
    let process = parts.next()?.parse().ok()?;
    let began = u64::from_str_radix(parts.next()?, 16).ok()?;
    parts.next()?;
    Some((stage, Owner { process, began }))
}

/// Removes what processes that are gone were writing in `folder`, and returns a line for each. A
/// model that such a process has left whole is not removed: the line says where it is.
pub fn clean(folder: &Path) -> Vec<String> {
    let mut said = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return said;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some((stage, owner)) = name.to_str().and_then(parse) else {
            continue;
        };
        let path = entry.path();
        if owner.is_alive() || !is_abandoned(&path) {
            continue;
        }
        let shown = path.display();
        said.push(match stage {
            Stage::Whole => format!(
                "{shown}: a run that was ended while it replaced a model has left this, the new model or the old one; keep it or remove it"
            ),
            Stage::Writing => match remove(&path) {
                Ok(()) => format!("{shown}: removed; a run that was ended had left it"),
                Err(error) => format!(
                    "{shown}: a run that was ended has left this, and it cannot be removed: {error}"
                ),
            },
        });
    }
    said.sort();
    said
}

/// A process elsewhere, in a container or on another machine, cannot be seen, but its lock can.
fn is_abandoned(path: &Path) -> bool {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path);
    let Ok(file) = file else {
        return false;
    };
    let own = file.metadata().is_ok_and(|found| {
        found.uid() == geteuid().as_raw() && (found.is_file() || found.is_dir())
    });
    own && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that has ended.
    fn gone() -> Owner {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = child.id();
        child.wait().unwrap();
        Owner { process, began: 7 }
    }

    fn name(kind: &str, owner: Owner, end: &str) -> String {
        format!("{kind}{}-{:016x}-{end}", owner.process, owner.began)
    }

    #[test]
    fn only_what_nobody_writes_any_more_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let file = |name: &str| fs::write(path(name), "x").unwrap();
        let (gone, this) = (gone(), Owner::this());
        let dead = name(WRITING, gone, "a");
        file(&dead);
        let dead_folder = name(WRITING, gone, "b");
        fs::create_dir(path(&dead_folder)).unwrap();
        file(&format!("{dead_folder}/model.safetensors"));
        let whole = name(WHOLE, gone, "0");
        fs::create_dir(path(&whole)).unwrap();
        let alive = name(WRITING, this, "a");
        file(&alive);
        // Of a process that cannot be seen from here.
        let locked = name(WRITING, gone, "locked");
        file(&locked);
        let lock = File::open(path(&locked)).unwrap();
        flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
        let link = name(WRITING, gone, "link");
        std::os::unix::fs::symlink(&alive, path(&link)).unwrap();
        file("model");
        file(".quant-tmp-notes");

        let said = clean(folder.path());
        assert_eq!(said.len(), 3, "{said:?}");
        let said = said.join("\n");
        assert!(said.contains(&format!("{dead}: removed")), "{said}");
        assert!(said.contains(&format!("{dead_folder}: removed")), "{said}");
        assert!(said.contains(&format!("{whole}: a run")), "{said}");
        for removed in [&dead, &dead_folder] {
            assert!(fs::symlink_metadata(path(removed)).is_err(), "{removed}");
        }
        for kept in [&whole, &alive, &locked, &link] {
            assert!(fs::symlink_metadata(path(kept)).is_ok(), "{kept}");
        }
        drop(lock);
        assert!(clean(folder.path()).join("\n").contains("locked: removed"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_killed_process_that_nobody_waits_for_is_gone() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let process = child.id();
        let began = Seen::process(process).unwrap().began;
        let owner = Owner { process, began };
        let alive = owner.is_alive();
        child.kill().unwrap();
        // Until it has ended; this does not take its number from it.
        while !Seen::process(process).unwrap().ended {
            std::thread::yield_now();
        }
        assert!(alive && !owner.is_alive());
        child.wait().unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_number_that_came_again_is_another_process() {
        let this = Owner::this();
        assert_ne!(this.began, 0);
        assert!(this.is_alive());
        let earlier = Owner { began: 1, ..this };
        assert!(!earlier.is_alive());
        let name = spare(Path::new("somewhere/x"));
        let name = name.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(parse(&name), Some((Stage::Whole, this)));
        assert_eq!(parse(".quant-tmp-12-zz-a"), None);
    }
}
