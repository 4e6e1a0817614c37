//! Which layers a `quantization_config` speaks of.

use std::collections::{HashMap, HashSet};

use regex::{RegexSet, RegexSetBuilder};
use serde_json::Value;

/// Bounds of patterns, which a stranger may have written: bytes of a list, compiled, and a quarter of it
/// for those of groups, of which there are more; its characters; and how many lists have any.
const LARGEST: usize = 1 << 20;
const LONGEST: usize = 65_536;
const MOST_LISTS: usize = 16;

/// Which groups a layer may belong to, by their numbers: there may be many groups and many layers.
#[derive(Default)]
pub(super) struct Targets {
    named: HashMap<String, Vec<usize>>,
    patterns: Vec<(usize, RegexSet)>,
    classes: Vec<usize>,
    /// Those of patterns that cannot be told.
    untold: Vec<usize>,
}

impl Targets {
    /// Adds a group by the list of its targets.
    pub fn add(&mut self, group: usize, list: Names) {
        for name in list.names {
            self.named.entry(name).or_default().push(group);
        }
        match list.patterns {
            Some(patterns) if patterns.is_empty() => {}
            Some(patterns) => self.patterns.push((group, patterns)),
            None => self.untold.push(group),
        }
        if list.has_class {
            self.classes.push(group);
        }
    }

    /// The groups whose targets a layer may be among. A name counts more than a pattern, and this more
    /// than a class, as there; which class a layer is of, no file says. Patterns that cannot be told may
    /// match anything.
    pub fn groups(&self, module: &str) -> Vec<usize> {
        if let Some(named) = self.named.get(module) {
            return named.clone();
        }
        let patterns = self.patterns.iter();
        let found = patterns.filter(|(_, patterns)| patterns.is_match(module));
        let mut found: Vec<usize> = found.map(|(group, _)| *group).collect();
        if found.is_empty() {
            found.clone_from(&self.classes);
        }
        found.extend(&self.untold);
        found
    }
}

/// Names of modules, patterns of them, and classes.
pub(super) struct Names {
    names: HashSet<String>,
    /// None where they cannot be told here: such as look ahead, or take too much.
    patterns: Option<RegexSet>,
    has_class: bool,
}

impl Names {
    /// Those of a list, the `index`-th of a configuration.
    pub fn from_list(list: Option<&Value>, index: usize) -> Self {
        let list = list.and_then(Value::as_array).into_iter().flatten();
        let list: Vec<&str> = list.filter_map(Value::as_str).collect();
        let patterns = list.iter().filter_map(|it| it.strip_prefix("re:"));
        let patterns: Vec<String> = patterns.map(|it| format!("^(?:{it})")).collect();
        let characters: usize = patterns.iter().map(String::len).sum();
        let is_small = characters <= LONGEST && (index < MOST_LISTS || patterns.is_empty());
        let compile = || {
            let mut builder = RegexSetBuilder::new(&patterns);
            let largest = if index == 0 { LARGEST } else { LARGEST / 4 };
            builder.size_limit(largest).dfa_size_limit(2 * largest);
            builder.build().ok()
        };
        let is_class = |it: &&str| it.starts_with(|first: char| first.is_ascii_uppercase());
        Self {
            patterns: is_small.then(compile).flatten(),
            has_class: list.iter().any(is_class),
            names: list.into_iter().map(str::to_owned).collect(),
        }
    }

    /// Whether a name is among them for sure.
    pub fn has(&self, module: &str) -> bool {
        let patterns = self.patterns.as_ref();
        self.names.contains(module) || patterns.is_some_and(|it| it.is_match(module))
    }
}
