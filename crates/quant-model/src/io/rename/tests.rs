use super::*;

/// Every kind of file system there is.
fn kinds() -> impl Iterator<Item = Renames> {
    (0..8).map(|bits| Renames {
        flags: bits & 1 != 0,
        links: bits & 2 != 0,
        over_empty: bits & 4 != 0,
        sync: true,
    })
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, name).unwrap();
        path
    }

    /// All files, and what they hold.
    fn tree(&self) -> Vec<String> {
        fn walk(path: &Path, root: &Path, found: &mut Vec<String>) {
            for entry in fs::read_dir(path).unwrap() {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(root).unwrap().display().to_string();
                match path.is_dir() {
                    true => {
                        found.push(format!("{name}/"));
                        walk(&path, root, found);
                    }
                    false => found.push(format!("{name}={}", fs::read_to_string(&path).unwrap())),
                }
            }
        }
        let mut found = Vec::new();
        walk(self.0.path(), self.0.path(), &mut found);
        found.sort();
        found
    }
}

#[test]
fn a_new_name_replaces_nothing() {
    for renames in kinds() {
        let folder = Folder::new();
        let (file, made) = (folder.file("t"), folder.file("f/x"));
        let (place, made) = (folder.path("new"), made.parent().unwrap());
        renames.place_file(&file, &place).unwrap();
        renames.place_folder(made, &folder.path("g")).unwrap();
        let tree = ["g/", "g/x=f/x", "new=t"];
        assert_eq!(folder.tree(), tree, "{renames:?}");

        let (file, made) = (folder.file("t"), folder.file("f/x"));
        folder.file("g/x");
        fs::create_dir(folder.path("empty")).unwrap();
        let made = made.parent().unwrap();
        let before = folder.tree();
        for taken in ["new", "g", "empty"] {
            let taken = folder.path(taken);
            for refused in [
                renames.place_file(&file, &taken),
                renames.place_folder(made, &taken),
            ] {
                let kind = refused.unwrap_err().kind();
                assert_eq!(kind, io::ErrorKind::AlreadyExists, "{renames:?}");
                assert_eq!(folder.tree(), before, "{renames:?}");
            }
        }
    }
}

#[test]
fn of_two_only_one_gets_the_name() {
    for renames in kinds() {
        for _ in 0..20 {
            let folder = Folder::new();
            let (target, file) = (folder.path("folder"), folder.path("file"));
            let start = std::sync::Barrier::new(2);
            let won: Vec<_> = std::thread::scope(|scope| {
                let runs = ["a", "b"].map(|name| {
                    let (folder, start) = (&folder, &start);
                    let (target, file) = (&target, &file);
                    scope.spawn(move || {
                        let made = folder.file(&format!("{name}/x"));
                        let plain = folder.file(&format!("{name}.file"));
                        start.wait();
                        let folders = renames.place_folder(made.parent().unwrap(), target);
                        (folders.is_ok(), renames.place_file(&plain, file).is_ok())
                    })
                });
                runs.map(|run| run.join().unwrap()).into()
            });
            let count = |of: fn(&(bool, bool)) -> bool| won.iter().filter(|won| of(won)).count();
            assert_eq!(count(|won| won.0), 1, "{renames:?} {won:?}");
            assert_eq!(count(|won| won.1), 1, "{renames:?} {won:?}");
            assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
        }
    }
}

fn id_of(path: &Path) -> Id {
    id(&fs::symlink_metadata(path).unwrap())
}

#[test]
fn a_file_is_replaced_if_it_is_the_one() {
    for renames in kinds() {
        let folder = Folder::new();
        let (old, new) = (folder.file("old"), folder.file("new"));
        let checked = id_of(&old);
        renames.replace_file(&new, &old, checked).unwrap();
        assert_eq!(folder.tree(), ["old=new"], "{renames:?}");

        // It is another one by now, or none.
        let new = folder.file("new");
        let other = (checked.0, u64::MAX);
        let before = folder.tree();
        for (target, checked) in [(&old, other), (&folder.path("none"), checked)] {
            let refused = renames.replace_file(&new, target, checked);
            assert!(matches!(refused, Err(Refusal::Changed(_))), "{renames:?}");
            assert_eq!(folder.tree(), before, "{renames:?}");
        }
    }
}

#[test]
fn a_folder_is_replaced_whole_or_stays() {
    for renames in kinds() {
        let folder = Folder::new();
        let target = folder.file("model/old");
        let target = target.parent().unwrap();
        let (made, spare) = (folder.file("t/new"), folder.path("spare"));
        let made = made.parent().unwrap();
        let checked = id_of(target);
        let check = |path: &Path| match id_of(path) == checked {
            true => Ok(()),
            false => Err("another".into()),
        };
        let replace = |check: &dyn Fn(&Path) -> Result<(), String>| {
            renames.replace_folder(made, target, &spare, check, |old: &Path| {
                assert!(
                    target.join("new").is_file(),
                    "the new one is in place first"
                );
                fs::remove_dir_all(old)
            })
        };
        let before = folder.tree();
        let refused = replace(&|_: &Path| Err("a file has appeared".into()));
        assert!(matches!(refused, Err(Refusal::Changed(_))), "{renames:?}");
        assert_eq!(folder.tree(), before, "{renames:?}");
        // It changes in the last moment.
        let looks = std::cell::Cell::new(0);
        let refused = replace(&|path: &Path| {
            looks.set(looks.get() + 1);
            match path == target {
                true => Ok(()),
                false => Err("a file has appeared".into()),
            }
        });
        assert!(matches!(refused, Err(Refusal::Changed(_))), "{renames:?}");
        assert_eq!(folder.tree(), before, "{renames:?}");

        replace(&check).unwrap();
        assert_eq!(folder.tree(), ["model/", "model/new=t/new"], "{renames:?}");
    }
}

/// The new one cannot be put in place: the old one comes back.
#[test]
fn a_replacement_that_fails_is_undone() {
    let renames = Renames {
        flags: false,
        ..ANY
    };
    let folder = Folder::new();
    let target = folder.file("model/old");
    let target = target.parent().unwrap();
    let before = folder.tree();
    let missing = folder.path("missing");
    let refused = renames.replace_folder(
        &missing,
        target,
        &folder.path("spare"),
        |_| Ok(()),
        |_| panic!("nothing is removed"),
    );
    assert!(matches!(refused, Err(Refusal::Io(_))), "{refused:?}");
    assert_eq!(folder.tree(), before);
}
