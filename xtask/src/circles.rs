//! `cargo xtask circles`: no module needs, by whatever way, one beside it that needs it; nor does a
//! crate, tests included.
//!
//! A small reader is enough for that: it looks at `use` and at paths that begin with `crate` or
//! `super`, and follows the names that a module takes over from those in its folder. Modules are
//! compared with their neighbours, at the top of a crate and in each folder; a module and those in its
//! own folder may need each other. Tests in modules are not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

use crate::Outcome;
use crate::lengths;
use crate::toolchain::{cargo, root, stdout};

/// Which modules a module needs, and the file that says so.
type Graph = BTreeMap<String, BTreeMap<String, PathBuf>>;

/// Per folder of modules, theirs.
type Graphs = Vec<(Vec<String>, Graph)>;

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
                let mut files = Vec::new();
                list(&sources, &mut files)?;
                for file in &files {
                    found.extend(lengths::too_long(file)?);
                }
                for (folder, graph) in graphs(&sources)? {
                    let place = sources.join(folder.join("/"));
                    found.extend(circle(&graph).map(|circle| told(&place, &circle)));
                }
            }
        }
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
    let graphs = folders.into_iter().map(|folder| {
        let graph = graph(sources, folder, &files);
        (folder.to_vec(), graph)
    });
    Ok(graphs.collect())
}

/// The modules of a folder and what they need.
fn graph(sources: &Path, folder: &[String], files: &[(Vec<String>, PathBuf, String)]) -> Graph {
    let below = |path: &[String]| match path.starts_with(folder) {
        true => path.get(folder.len()).cloned(),
        false => None,
    };
    let modules: BTreeSet<_> = files
        .iter()
        .filter_map(|(parts, ..)| below(parts))
        .collect();
    let of_folder = files.iter().filter(|(parts, ..)| parts == folder);
    let given = given_away(
        &of_folder
            .map(|(.., text)| text.as_str())
            .collect::<String>(),
    );
    let mut graph = Graph::new();
    for (parts, file, text) in files {
        let Some(own) = below(parts) else {
            continue;
        };
        let needs = graph.entry(own.clone()).or_default();
        for path in paths(text) {
            let Some(first) = from_top(&path, parts).as_deref().and_then(below) else {
                continue;
            };
            let needed = match modules.contains(&first) {
                true => Some(first),
                false => given
                    .get(&first)
                    .filter(|it| modules.contains(*it))
                    .cloned(),
            };
            if let Some(needed) = needed.filter(|needed| *needed != own) {
                let shown = file.strip_prefix(sources).unwrap_or(file);
                needs.entry(needed).or_insert_with(|| shown.to_owned());
            }
        }
    }
    graph
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
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

/// All paths that begin at the crate or above, those of `use` taken apart.
fn paths(text: &str) -> Vec<Vec<String>> {
    let uses = Regex::new(r"\buse\s+((?:crate|super)\b[^;]*);").expect("a pattern of our own");
    let others = Regex::new(r"\b(?:crate|super)(?:::\w+)+").expect("a pattern of our own");
    let mut found = Vec::new();
    for capture in uses.captures_iter(text) {
        expand(&capture[1], &[], &mut found);
    }
    for plain in others.find_iter(&uses.replace_all(text, "")) {
        expand(plain.as_str(), &[], &mut found);
    }
    found
}

/// `a::{b, c::d}` as `a::b` and `a::c::d`.
fn expand(tree: &str, before: &[String], found: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let (plain, inner) = match tree.split_once('{') {
        Some((plain, rest)) => (plain, rest.trim_end().strip_suffix('}')),
        None => (tree, None),
    };
    let plain = plain.split(" as ").next().unwrap_or(plain);
    let names = plain.split("::").map(str::trim);
    let names = names.filter(|name| !name.is_empty()).map(str::to_owned);
    let path: Vec<String> = before.iter().cloned().chain(names).collect();
    let Some(inner) = inner else {
        found.push(path);
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

/// The names that a module has from those in its folder, and the modules that they come from.
fn given_away(root: &str) -> BTreeMap<String, String> {
    let pattern = Regex::new(r"\buse\s+([^;]*);").expect("a pattern of our own");
    let mut found = BTreeMap::new();
    for capture in pattern.captures_iter(root) {
        let mut paths = Vec::new();
        expand(&capture[1], &[], &mut paths);
        for mut path in paths {
            path.retain(|name| name != "self");
            if let [module, .., name] = &path[..] {
                found.insert(name.clone(), module.clone());
            }
        }
    }
    found
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
    fn the_workspace_has_none() {
        circles().unwrap();
    }
}
