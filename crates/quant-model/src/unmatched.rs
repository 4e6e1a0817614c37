//! Names and patterns of the options that match nothing in the model, and the nearest names there are.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::fmt;

use regex::Regex;

use crate::error::{command, one_line, option, shortened};
use crate::{Error, HintCommand, Note};

/// Names that a message suggests at most.
const SUGGESTED: usize = 3;
/// Unmatched names of one option that are told one by one.
const TOLD: usize = 8;
/// Longer names are compared by their beginnings only: the comparison takes time by the square.
const COMPARED: usize = 96;
/// Names that are compared at most; the rest of a larger model is not suggested.
const CANDIDATES: usize = 200_000;
/// From 0, the same, to 1: what is farther away is no help.
const FARTHEST: f64 = 0.5;

/// The names that a model has of one kind of thing.
pub struct Known<'m> {
    /// What they name, such as `tensor`.
    what: &'static str,
    /// What lists them.
    listed_by: HintCommand,
    names: BTreeSet<&'m str>,
}

impl<'m> Known<'m> {
    /// These names; `what` is what they name, such as `tensor`, which [`inspect`](HintCommand::Inspect)
    /// lists.
    pub fn new(what: &'static str, names: impl IntoIterator<Item = &'m str>) -> Self {
        Self {
            what,
            listed_by: HintCommand::Inspect,
            names: names.into_iter().collect(),
        }
    }

    /// The same, which another command lists.
    pub fn with_listed_by(self, listed_by: HintCommand) -> Self {
        Self { listed_by, ..self }
    }

    /// Whether a name is among them.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether one of them matches.
    pub fn any(&self, matches: impl Fn(&str) -> bool) -> bool {
        self.names.iter().any(|name| matches(name))
    }

    /// Patterns of an option, by its name, that match no name.
    pub fn patterns(&self, name: &str, patterns: &[Regex]) -> Vec<Unmatched> {
        let missing = patterns
            .iter()
            .filter(|pattern| !self.any(|name| pattern.is_match(name)));
        let missing: Vec<_> = missing.map(Regex::as_str).collect();
        self.tell(&option(name), &missing)
    }

    /// Keys of a table that are no name.
    pub fn keys<'k>(&self, table: &str, keys: impl Iterator<Item = &'k str>) -> Vec<Unmatched> {
        let missing: Vec<_> = keys.filter(|key| !self.contains(key)).collect();
        self.tell(table, &missing)
    }

    /// Describes names or patterns that match nothing; `whose` they are, such as an option.
    pub fn tell(&self, whose: &str, missing: &[&str]) -> Vec<Unmatched> {
        let told = missing.iter().take(TOLD).map(|name| {
            let nearest = self.nearest(&literals(name));
            let nearest = nearest.iter().map(|name| format!("`{}`", shortened(name)));
            let nearest = match nearest.collect::<Vec<_>>().join(", ") {
                _ if self.names.is_empty() => "the model has none".into(),
                none if none.is_empty() => {
                    format!("no name is near it; {} lists them", command(self.listed_by))
                }
                some => format!("near it: {some}"),
            };
            let name = shortened(name);
            format!("{whose} `{name}` matches no {}; {nearest}", self.what)
        });
        let more = missing.len().saturating_sub(TOLD);
        let more = (more > 0).then(|| format!("{whose}: {more} more match no {}", self.what));
        told.chain(more).map(Unmatched::new).collect()
    }

    fn nearest(&self, wanted: &str) -> Vec<&'m str> {
        let mut distance = Distance::new(wanted);
        let names = self.names.iter().take(CANDIDATES);
        let mut found: Vec<(f64, &str)> = names
            .map(|name| (distance.to(name), *name))
            .filter(|(distance, _)| *distance <= FARTHEST)
            .collect();
        found.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal));
        found
            .into_iter()
            .map(|(_, name)| name)
            .take(SUGGESTED)
            .collect()
    }
}

/// A name or pattern that matches nothing, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched(String);

impl Unmatched {
    /// A sentence that says so.
    pub(crate) fn new(text: String) -> Self {
        Self(one_line(text))
    }
}

impl fmt::Display for Unmatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What to warn of.
///
/// # Errors
/// With `strict`, the first of these.
pub fn warnings(strict: bool, unmatched: &[Unmatched]) -> Result<Vec<Note>, Error> {
    match unmatched {
        [one] if strict => Err(Error::strict(one.to_string())),
        [one, rest @ ..] if strict => Err(Error::strict(format!(
            "{one}; and {} more like it",
            rest.len()
        ))),
        all => Ok(all.iter().map(|one| Note::from(one.to_string())).collect()),
    }
}

/// How far names are from a wanted one: by letters, by the words that they share, or because one holds
/// the other. Names of a model share their parts, so that each part is compared once.
struct Distance<'m> {
    wanted: String,
    words: BTreeSet<String>,
    by_part: HashMap<&'m str, f64>,
}

impl<'m> Distance<'m> {
    fn new(wanted: &str) -> Self {
        let wanted = beginning(wanted).to_lowercase();
        Self {
            words: words(&wanted).map(str::to_owned).collect(),
            wanted,
            by_part: HashMap::new(),
        }
    }

    fn to(&mut self, name: &'m str) -> f64 {
        let start = beginning(name);
        let lower = start.to_lowercase();
        let by_letters = apart(&self.wanted, &lower);
        let (short, long) = match lower.len() < self.wanted.len() {
            true => (lower.as_str(), self.wanted.as_str()),
            false => (self.wanted.as_str(), lower.as_str()),
        };
        let mut nearest = by_letters;
        if short.len() >= 3 && long.contains(short) {
            nearest = nearest.min(0.3 - 0.2 * short.len() as f64 / long.len() as f64);
        }
        let (mut shared, mut count) = (0, 0);
        for word in words(&lower) {
            count += 1;
            shared += usize::from(self.words.contains(word));
        }
        let most = self.words.len().max(count).max(1);
        nearest = nearest.min(1.0 - shared as f64 / most as f64);
        // A part of a long name is misspelled.
        let wanted = &self.wanted;
        let parts = wanted.split('.').count();
        for part in windows(start, parts).chain(words(start)) {
            let by_part = self.by_part.entry(part);
            let by_part = by_part.or_insert_with(|| apart(wanted, &part.to_lowercase()));
            nearest = nearest.min(0.1 + *by_part);
        }
        nearest
    }
}

/// Share of the letters that must change.
fn apart(a: &str, b: &str) -> f64 {
    1.0 - strsim::normalized_damerau_levenshtein(a, b)
}

fn words(name: &str) -> impl Iterator<Item = &str> {
    let words = name.split(|char: char| !char.is_alphanumeric());
    words.filter(|word| !word.is_empty())
}

/// So many parts of a name between its dots, from each part on.
fn windows(name: &str, count: usize) -> impl Iterator<Item = &str> {
    let dots = name.match_indices('.').map(|(dot, _)| dot);
    let starts = [0].into_iter().chain(dots.map(|dot| dot + 1));
    starts.filter_map(move |start| {
        let rest = &name[start..];
        let mut ends = rest.match_indices('.').map(|(dot, _)| dot);
        let end = ends.nth(count - 1);
        let last = rest.split('.').count() == count;
        end.or(last.then_some(rest.len())).map(|end| &rest[..end])
    })
}

fn beginning(name: &str) -> &str {
    match name.char_indices().nth(COMPARED) {
        Some((end, _)) => &name[..end],
        None => name,
    }
}

/// The text of a pattern without what has a meaning in patterns.
fn literals(pattern: &str) -> String {
    let mut text = String::new();
    let mut chars = pattern.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some(escaped) if !escaped.is_alphanumeric() => text.push(escaped),
                _ => {}
            },
            '.' if matches!(chars.peek(), Some('*' | '+' | '?')) => {}
            '^' | '$' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' => {}
            _ => text.push(char),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HintKind::Command;

    const NAMES: [&str; 6] = [
        "a",
        "conv",
        "lm_head.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.1.mlp.down_proj.weight",
        "model.embed_tokens.weight",
    ];

    fn nearest(wanted: &str) -> Vec<&'static str> {
        Known::new("tensor", NAMES).nearest(&literals(wanted))
    }

    #[test]
    fn names_are_found_near_misspelled_ones() {
        assert_eq!(nearest("a_cast")[0], "a");
        assert_eq!(nearest("convolution")[0], "conv");
        assert_eq!(nearest(r"^lm_haed\.weight$")[0], "lm_head.weight");
        assert_eq!(nearest("lm_haed")[0], "lm_head.weight");
        assert_eq!(nearest("mlp.dwon_proj")[0], NAMES[3]);
        assert_eq!(nearest("LM_HEAD")[0], "lm_head.weight");
        assert_eq!(nearest(".*embed_token$")[0], "model.embed_tokens.weight");
        assert_eq!(nearest("wieght").len(), SUGGESTED);
        assert_eq!(nearest("layers.0.mlp.down_proj")[0], NAMES[3]);
        assert_eq!(nearest("xyzzy"), [""; 0]);
    }

    #[test]
    fn what_matches_nothing_is_told() {
        let known = Known::new("tensor", NAMES);
        let patterns = ["lm_head", "embed$"].map(|pattern| Regex::new(pattern).unwrap());
        let found = known.patterns("exclude", &patterns);
        assert_eq!(found.len(), 1);
        let text = crate::Note::from(found[0].to_string()).to_string();
        assert!(
            text.starts_with("`exclude` `embed$` matches no tensor; near it: `model.embed"),
            "{text}"
        );
        let listed_by = |known: Known<'_>| {
            let text = known.keys("t", ["xyzzy"].into_iter())[0].to_string();
            crate::Note::from(text).hints()[0].kind
        };
        assert_eq!(listed_by(known), Command(HintCommand::Inspect));
        let lister = HintCommand::ListActivations;
        let known = Known::new("operation", NAMES).with_listed_by(lister);
        assert_eq!(listed_by(known), Command(lister));
        let none = Known::new("tensor", []).keys("t", ["x"].into_iter());
        assert_eq!(
            none[0].to_string(),
            "t `x` matches no tensor; the model has none"
        );
    }

    #[test]
    fn many_and_long_names_stay_few_and_short() {
        let names: Vec<String> = (0..200).map(|i| format!("{i}").repeat(20_000)).collect();
        let known = Known::new("tensor", names.iter().map(String::as_str));
        let wanted: Vec<String> = (0..1000).map(|i| format!("x{i}\n").repeat(1000)).collect();
        let told = known.keys("op_name_configs", wanted.iter().map(String::as_str));
        assert_eq!(told.len(), TOLD + 1);
        assert!(told.iter().all(|one| one.to_string().len() < 1000));
        assert!(told.iter().all(|one| !one.to_string().contains('\n')));
        assert!(told[TOLD].to_string().contains("992 more"));
    }
}
