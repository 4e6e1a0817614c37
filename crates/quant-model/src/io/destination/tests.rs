use super::*;

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

    fn names(&self) -> Vec<String> {
        let found = entries(self.0.path()).unwrap();
        found
            .iter()
            .map(|path| path.display().to_string())
            .collect()
    }

    /// A folder that is ready, and has one file.
    fn made(&self, target: &Path) -> TemporaryFolder {
        let made = TemporaryFolder::new(target, 0o055).unwrap();
        fs::write(made.path().join("new"), "new").unwrap();
        made
    }
}

/// `a` is the model's own.
fn own(_: &Path) -> Result<BTreeSet<PathBuf>, Error> {
    Ok(BTreeSet::from(["a".into(), "data/weights".into()]))
}

fn kinds() -> [Renames; 2] {
    let without = Renames {
        flags: false,
        links: false,
        over_empty: false,
        sync: false,
    };
    [ANY, without]
}

#[test]
fn a_folder_that_changes_meanwhile_is_not_replaced() {
    for renames in kinds() {
        let folder = Folder::new();
        folder.file("m/a");
        folder.file("m/data/weights");
        let target = folder.path("m");
        let begin = || {
            let found = Destination::folder(&target, true, &Inputs::new(), own).unwrap();
            Destination { renames, ..found }
        };
        // A file that somebody puts there while the work is done.
        let destination = begin();
        folder.file("m/NOTES.md");
        let refused = destination.put_folder(folder.made(&target)).unwrap_err();
        assert!(refused.to_string().contains("NOTES.md"), "{refused}");
        let names = ["m", "m/NOTES.md", "m/a", "m/data", "m/data/weights"];
        assert_eq!(folder.names(), names, "{renames:?}");
        fs::remove_file(folder.path("m/NOTES.md")).unwrap();
        // Another folder of the same files.
        let destination = begin();
        fs::rename(&target, folder.path("kept")).unwrap();
        folder.file("m/a");
        folder.file("m/data/weights");
        let refused = destination.put_folder(folder.made(&target)).unwrap_err();
        assert!(refused.to_string().contains("meanwhile"), "{refused}");
        assert_eq!(folder.names().len(), 8, "{renames:?}");

        begin().put_folder(folder.made(&target)).unwrap();
        let names = [
            "kept",
            "kept/a",
            "kept/data",
            "kept/data/weights",
            "m",
            "m/new",
        ];
        assert_eq!(folder.names(), names, "{renames:?}");
    }
}

#[test]
fn a_file_that_changes_meanwhile_is_not_replaced() {
    for renames in kinds() {
        let folder = Folder::new();
        let target = folder.file("f");
        let begin = |force| {
            let found = Destination::file(&target, "output", force, &Inputs::new()).unwrap();
            Destination { renames, ..found }
        };
        let made = || {
            let file = TemporaryFile::new(folder.0.path(), &target, 0).unwrap();
            fs::write(file.path(), "new").unwrap();
            file
        };
        let destination = begin(true);
        fs::remove_file(&target).unwrap();
        folder.file("f");
        let refused = destination.put_file(made()).unwrap_err();
        assert!(refused.to_string().contains("meanwhile"), "{refused}");
        assert_eq!(fs::read(&target).unwrap(), b"f");
        // With force, too: what was checked was that nothing is there.
        fs::remove_file(&target).unwrap();
        for force in [false, true] {
            let destination = begin(force);
            folder.file("f");
            let refused = destination.put_file(made()).unwrap_err();
            assert!(refused.to_string().contains("meanwhile"), "{refused}");
            assert_eq!(fs::read(&target).unwrap(), b"f");
            fs::remove_file(&target).unwrap();
        }
        folder.file("f");
        begin(true).put_file(made()).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(folder.names(), ["f"], "{renames:?}");
    }
}

#[test]
fn strange_files_stand_in_the_way() {
    for strange in ["NOTES.md", "data/NOTES.md", "src/", ".git/", "photo.jpg"] {
        let folder = Folder::new();
        folder.file("m/a");
        folder.file("m/.DS_Store");
        match strange.strip_suffix('/') {
            Some(name) => fs::create_dir(folder.path("m").join(name)).unwrap(),
            None => drop(folder.file(&format!("m/{strange}"))),
        }
        let found = Destination::folder(&folder.path("m"), true, &Inputs::new(), own);
        let said = found.unwrap_err().to_string();
        assert!(said.contains(strange.trim_end_matches('/')), "{said}");
    }
}

#[test]
fn places_that_cannot_be_are_refused_at_once() {
    let folder = Folder::new();
    folder.file("f");
    folder.file("m/a");
    std::os::unix::fs::symlink("m", folder.path("link")).unwrap();
    for (name, words) in [
        (".", "names no new file or folder"),
        ("..", "names no new file or folder"),
        ("m/..", "names no new file or folder"),
        ("none/x", "none"),
        ("f/x", "is no folder"),
        ("link/", "is a link"),
        ("link", "is a link"),
        ("f", "is a file"),
    ] {
        let path = match name {
            "." | ".." => PathBuf::from(name),
            name => PathBuf::from(format!("{}/{name}", folder.0.path().display())),
        };
        let said = Destination::folder(&path, true, &Inputs::new(), own);
        let said = said.unwrap_err().to_string();
        assert!(said.contains(words), "{name}: {said}");
    }
}

/// A folder of the right permissions: those of its input at most, and what the umask leaves.
#[test]
fn nobody_looks_into_a_folder_that_is_not_whole() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let target = folder.path("m");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for (others, at_most) in [(0o077, 0o777), (0o055, 0o755), (0, 0o700)] {
        let made = TemporaryFolder::new(&target, others).unwrap();
        assert_eq!(mode(made.path()), 0o700);
        Destination::folder(&target, false, &Inputs::new(), own)
            .unwrap()
            .put_folder(made)
            .unwrap();
        assert_eq!(mode(&target) & !at_most, 0);
        assert_eq!(mode(&target) & 0o700, 0o700);
        fs::remove_dir(&target).unwrap();
    }
}
