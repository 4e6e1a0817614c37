//! `cargo xtask circles`: no module needs, by whatever way, one beside it that needs it; nor does a
//! crate, tests included.
//!
//! A small reader is enough for that: it looks at `use` and at paths that begin with `crate` or
//! `super`, and follows names that a module takes over from another one to where they come from, under
//! other names too; it refuses names taken over by an asterisk, which it could not follow. Modules are
//! compared with their neighbours, at the top of a crate and in each folder; a module and those in its
//! own folder may need each other. Tests in modules are not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

use crate::Outcome;
use crate::lengths;
use crate::toolchain::{cargo, root, stdout};

/// Which modules a module needs, and the file that says so.
type Graph = BTreeMap<String, BTreeMap<String, PathBuf>>;

/// Per folder of modules, theirs.
type Graphs = Vec<(Vec<String>, Graph)>;

/// Per module, the names that it takes over, and their paths from the top.
type Taken = BTreeMap<Vec<String>, BTreeMap<String, Vec<String>>>;

/// A file: its module's path, where it is, and what it says.
type Source = (Vec<String>, PathBuf, String);

/// Looks at all crates of the workspace.
pub fn circles() -> Outcome {
    let mut found = Vec::new();
    let mut crates = 0;
    for folder in ["crates", "examples", "."] {
        let entries = fs::read_dir(root().join(folder))?;
        for entry in entries {
            let sources = entry?.path().join("src");
            if sources.join("lib.rs").is_file() || sources.join("main.rs").is_file() {
                crates += 1;
                for (folder, graph) in graphs(&sources)? {
                    let place = sources.join(folder.join("/"));
                    found.extend(circle(&graph).map(|circle| told(&place, &circle)));
                }
            }
        }
    }
    for file in programs()? {
        found.extend(lengths::too_long(&file)?);
    }
    found.extend(circle(&crate_graph()?).map(|circle| told(Path::new("crates"), &circle)));
    match found.is_empty() {
        true => {
            println!("{crates} crates without a circle of modules, and nothing too long");
            Ok(())
        }
        false => Err(found.join("\n").into()),
    }
}

/// All sources but tests: of crates, benchmarks, examples and fuzz targets.
fn programs() -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root().join("crates"))? {
        let folder = entry?.path();
        for inner in ["src", "examples", "benches"] {
            let inner = folder.join(inner);
            if inner.is_dir() {
                list(&inner, &mut files)?;
            }
        }
    }
    for folder in ["xtask", "benches", "examples", "fuzz"] {
        list(&root().join(folder), &mut files)?;
    }
    Ok(files)
}

fn told(sources: &Path, circle: &[(String, PathBuf)]) -> String {
    let steps = circle
        .iter()
        .map(|(module, file)| format!("{module} ({})", file.display()));
    let steps: Vec<_> = steps.collect();
    format!(
        "{}: modules in a circle: {}",
        sources.display(),
        steps.join(" -> ")
    )
}

/// Which crates of the workspace need which, for their tests too.
fn crate_graph() -> Result<Graph, Box<dyn std::error::Error>> {
    let mut command = cargo("metadata");
    command.args(["--no-deps", "--format-version", "1"]);
    let text = stdout(&mut command).ok_or("cargo metadata did not run")?;
    let metadata: serde_json::Value = serde_json::from_str(&text)?;
    let mut graph = Graph::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let needs = graph.entry(name.to_owned()).or_default();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let other = dependency["name"].as_str().unwrap_or_default();
            // A crate that needs itself turns on its own features for its tests; inputs of tests are
            // made with the types that they are for.
            if dependency["path"].is_string() && ![name, "quant-testkit"].contains(&other) {
                needs.insert(other.to_owned(), "Cargo.toml".into());
            }
        }
    }
    Ok(graph)
}

/// Per folder of modules: these, and which of each other they need. The top is a folder without a name.
fn graphs(sources: &Path) -> Result<Graphs, Box<dyn std::error::Error>> {
    let mut files = Vec::new();
    list(sources, &mut files)?;
    let read = |path: PathBuf| -> std::io::Result<_> {
        let text = without_tests(&fs::read_to_string(&path)?);
        Ok((parts(sources, &path), path, text))
    };
    let files = files.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let inner = files.iter().filter(|(parts, ..)| !parts.is_empty());
    let folders: BTreeSet<_> = inner.map(|(parts, ..)| &parts[..parts.len() - 1]).collect();
    let taken = taken(&files)?;
    let needed: Vec<_> = files.iter().map(|file| needed(file, &taken)).collect();
    let graphs = folders.into_iter().map(|folder| {
        let graph = graph(sources, folder, &files, &needed);
        (folder.to_vec(), graph)
    });
    Ok(graphs.collect())
}

/// The paths that a file needs: those that it has, and where their names come from.
fn needed((parts, _, text): &Source, taken: &Taken) -> Vec<Vec<String>> {
    let paths = paths(text).into_iter();
    let paths = paths.filter_map(|(path, _)| from_top(&path, parts));
    let both = paths.flat_map(|path| [resolved(path.clone(), taken), path]);
    both.collect()
}

/// The modules of a folder, and which of each other they need.
fn graph(
    sources: &Path,
    folder: &[String],
    files: &[Source],
    needed: &[Vec<Vec<String>>],
) -> Graph {
    let below = |path: &[String]| match path.starts_with(folder) {
        true => path.get(folder.len()).cloned(),
        false => None,
    };
    let modules: BTreeSet<_> = files
        .iter()
        .filter_map(|(parts, ..)| below(parts))
        .collect();
    let mut graph = Graph::new();
    for ((parts, file, _), paths) in files.iter().zip(needed) {
        let Some(own) = below(parts) else {
            continue;
        };
        let needs = graph.entry(own.clone()).or_default();
        let others = paths.iter().filter_map(|path| below(path));
        for other in others.filter(|it| *it != own && modules.contains(it)) {
            let shown = file.strip_prefix(sources).unwrap_or(file);
            needs.entry(other).or_insert_with(|| shown.to_owned());
        }
    }
    graph
}

/// Where a path leads once each name that a module takes over stands for what it is.
fn resolved(mut path: Vec<String>, taken: &Taken) -> Vec<String> {
    // As many steps as no path needs, unless names stand for each other.
    for _ in 0..32 {
        let step = (0..path.len()).find_map(|at| {
            let target = taken.get(&path[..at])?.get(&path[at])?;
            Some([target, &path[at + 1..]].concat())
        });
        match step {
            Some(next) if next != path => path = next,
            _ => break,
        }
    }
    path
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            // What cargo builds of a crate that stands apart is none of ours.
            if !path.ends_with("target") {
                list(&path, files)?;
            }
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

/// The parts of a file's module path.
fn parts(sources: &Path, file: &Path) -> Vec<String> {
    let inner = file
        .strip_prefix(sources)
        .unwrap_or(file)
        .with_extension("");
    let mut parts: Vec<String> = inner
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if matches!(
        parts.last().map(String::as_str),
        Some("mod" | "lib" | "main")
    ) {
        parts.pop();
    }
    parts
}

/// Without comments, and without the module of tests, which may need whatever it likes.
fn without_tests(text: &str) -> String {
    let text = match text.find("#[cfg(test)]\nmod tests {") {
        Some(at) => &text[..at],
        None => text,
    };
    let lines = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// All paths that begin at the crate or above, and the names that those of `use` get, taken apart.
fn paths(text: &str) -> Vec<(Vec<String>, String)> {
    static USES: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\buse\s+((?:crate|super)\b[^;]*);").expect("our own"));
    static OTHERS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b(?:crate|super)(?:::\w+)+").expect("our own"));
    let mut found = Vec::new();
    for capture in USES.captures_iter(text) {
        expand(&capture[1], &[], &mut found);
    }
    for plain in OTHERS.find_iter(&USES.replace_all(text, "")) {
        expand(plain.as_str(), &[], &mut found);
    }
    found
}

/// `a::{b, c::d as e}` as `a::b` with the name `b`, and `a::c::d` with `e`.
fn expand(tree: &str, before: &[String], found: &mut Vec<(Vec<String>, String)>) {
    let tree = tree.trim();
    let (plain, inner) = match tree.split_once('{') {
        Some((plain, rest)) => (plain, rest.trim_end().strip_suffix('}')),
        None => (tree, None),
    };
    let (plain, alias) = match plain.split_once(" as ") {
        Some((plain, alias)) => (plain, Some(alias.trim())),
        None => (plain, None),
    };
    let names = plain.split("::").map(str::trim);
    let names = names.filter(|name| !name.is_empty() && *name != "self");
    let names = names.map(str::to_owned);
    let path: Vec<String> = before.iter().cloned().chain(names).collect();
    let Some(inner) = inner else {
        let last = path.last().cloned().unwrap_or_default();
        found.push((path, alias.map_or(last, str::to_owned)));
        return;
    };
    let (mut depth, mut start) = (0, 0);
    for (at, char) in inner.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&inner[start..at], &path, found);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !inner[start..].trim().is_empty() {
        expand(&inner[start..], &path, found);
    }
}

/// A path from the root on, as a file of this module has it.
fn from_top(path: &[String], own: &[String]) -> Option<Vec<String>> {
    let up = path.iter().take_while(|name| *name == "super").count();
    match path.first().map(String::as_str) {
        Some("crate") => Some(path[1..].to_vec()),
        Some("super") if up <= own.len() => Some([&own[..own.len() - up], &path[up..]].concat()),
        _ => None,
    }
}

/// The names that modules take over, from anywhere in the crate.
fn taken(files: &[Source]) -> Result<Taken, Box<dyn std::error::Error>> {
    let pattern = Regex::new(r"\b(pub(?:\([^)]*\))?\s+)?use\s+([^;]*);")?;
    let ways = files.iter().map(|(parts, ..)| parts);
    let modules: BTreeSet<&[String]> = ways
        .flat_map(|parts| (0..=parts.len()).map(|end| &parts[..end]))
        .collect();
    let mut found = Taken::new();
    for (own, file, text) in files {
        let names = found.entry(own.clone()).or_default();
        for capture in pattern.captures_iter(text) {
            let mut paths = Vec::new();
            expand(&capture[2], &[], &mut paths);
            for (path, name) in paths {
                let Some(target) = from_here(&path, own, &modules) else {
                    continue;
                };
                if name == "*" && capture.get(1).is_some() {
                    let problem =
                        "`pub use` with an asterisk hides what needs what: name the items";
                    return Err(format!("{}: {problem}", file.display()).into());
                }
                if name != "*" && target != [&own[..], std::slice::from_ref(&name)].concat() {
                    names.insert(name, target);
                }
            }
        }
    }
    Ok(found)
}

/// A path of a `use` from the root on, which may begin in the module itself; none of another crate.
fn from_here(
    path: &[String],
    own: &[String],
    modules: &BTreeSet<&[String]>,
) -> Option<Vec<String>> {
    let inner = [own, path.get(..1)?].concat();
    match modules.contains(&inner[..]) {
        true => Some([own, path].concat()),
        false => from_top(path, own),
    }
}

/// A way from some module back to itself, the shortest there is.
fn circle(graph: &Graph) -> Option<Vec<(String, PathBuf)>> {
    let from = |start: &String| {
        let mut ways = vec![vec![(start.clone(), PathBuf::new())]];
        let mut seen = BTreeSet::new();
        while let Some(way) = (!ways.is_empty()).then(|| ways.remove(0)) {
            let (last, _) = way.last()?;
            for (next, file) in graph.get(last).into_iter().flatten() {
                let mut longer = way.clone();
                longer.push((next.clone(), file.clone()));
                if next == start {
                    return Some(longer);
                }
                if seen.insert(next.clone()) {
                    ways.push(longer);
                }
            }
        }
        None
    };
    graph.keys().filter_map(from).min_by_key(Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn found(files: &[(&str, &str)]) -> Option<Vec<String>> {
        let folder = sources(files);
        let graphs = graphs(folder.path()).unwrap();
        let circle = graphs.iter().find_map(|(_, graph)| circle(graph))?;
        Some(circle.into_iter().map(|(module, _)| module).collect())
    }

    #[test]
    fn circles_are_found_through_names_that_the_root_gives_away() {
        let root = (
            "lib.rs",
            "mod a;\nmod b;\nmod c;\npub use b::{self, Two as Other, Deep};",
        );
        let open = [
            root,
            ("a.rs", "use crate::{c::Three, Deep};"),
            ("b.rs", "pub struct Deep;"),
            (
                "c.rs",
                "// use crate::a;\n#[cfg(test)]\nmod tests {\n use crate::a;\n}",
            ),
        ];
        assert_eq!(found(&open), None);
        for closing in [
            ("b.rs", "use crate::a::One;"),
            ("b/inner.rs", "use super::super::a;"),
            ("b/inner.rs", "fn f() { crate::a::g() }"),
            ("b.rs", "use crate::{\n    c,\n    a::{x, y::{z}},\n};"),
        ] {
            let files = [&open[..2], &[closing][..], &open[3..]].concat();
            assert_eq!(
                found(&files),
                Some(["a", "b", "a"].map(String::from).to_vec())
            );
        }
    }

    #[test]
    fn circles_are_found_in_folders() {
        let open = [
            ("lib.rs", "mod top;"),
            (
                "top/mod.rs",
                "mod a;\nmod b;\nuse b::Two;\npub trait Own {}",
            ),
            ("top/a.rs", "use super::{Own, Two};"),
            ("top/b.rs", "use super::Own;"),
        ];
        assert_eq!(found(&open), None);
        for closing in ["use super::a::One;", "fn f() { crate::top::a::g() }"] {
            let files = [&open[..3], &[("top/b.rs", closing)][..]].concat();
            assert_eq!(
                found(&files),
                Some(["a", "b", "a"].map(String::from).to_vec())
            );
        }
    }

    #[test]
    fn circles_are_found_through_names_of_names() {
        let by_root = [
            ("lib.rs", "mod top;\npub use top::b::Two as Other;"),
            ("top/mod.rs", "pub mod a;\npub mod b;"),
            ("top/a.rs", "use crate::Other;"),
            ("top/b.rs", "use super::a::One;\npub struct Two;"),
        ];
        let by_neighbour = [
            ("lib.rs", "mod a;\nmod b;\nmod c;"),
            ("a.rs", "use crate::c::{self, Far};"),
            ("b.rs", "use crate::a::One;\npub struct Two;"),
            ("c.rs", "pub use crate::b::Two as Far;"),
        ];
        for (files, name) in [(by_root, "top/b.rs"), (by_neighbour, "b.rs")] {
            assert_eq!(
                found(&files),
                Some(["a", "b", "a"].map(String::from).to_vec())
            );
            let opened = files.map(|(file, text)| match file == name {
                true => (file, "pub struct Two;"),
                false => (file, text),
            });
            assert_eq!(found(&opened), None);
        }
    }

    #[test]
    fn names_taken_over_by_an_asterisk_are_refused() {
        let files = [("lib.rs", "mod a;\npub use a::*;"), ("a.rs", "")];
        let problem = graphs(sources(&files).path()).unwrap_err().to_string();
        assert!(problem.contains("asterisk"), "{problem}");
    }

    #[test]
    fn the_workspace_has_none() {
        circles().unwrap();
    }
}
