//! What a model consists of beside its tensors, so that two models can be compared.

use std::collections::{BTreeMap, BTreeSet};

/// Operations in order, by the function that they are of; none in a format without programs.
#[derive(Default)]
pub struct Structure {
    /// By the name of the function.
    pub functions: BTreeMap<String, Vec<Signature>>,
}

/// What makes two operations the same one.
#[derive(PartialEq)]
pub struct Signature {
    /// Its type and name.
    pub title: String,
    /// Inputs and attributes by name.
    pub parts: BTreeMap<String, Vec<String>>,
}

impl Structure {
    /// Where two differ first.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let (a, b) = (&self.functions, &other.functions);
        let functions: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for function in functions {
            let (Some(a), Some(b)) = (a.get(function), b.get(function)) else {
                return Some(format!("function `{function}` is only in one of them"));
            };
            if let Some((a, b)) = a.iter().zip(b).find(|(a, b)| a != b) {
                return Some(a.difference(b));
            }
            if a.len() != b.len() {
                return Some(format!(
                    "{} operations in the first, {} in the second",
                    a.len(),
                    b.len()
                ));
            }
        }
        None
    }
}

impl Signature {
    /// What differs first.
    fn difference(&self, other: &Self) -> String {
        let title = &self.title;
        if *title != other.title {
            return format!("{title} in the first, {} in the second", other.title);
        }
        let mut keys = self.parts.keys().chain(other.parts.keys());
        let differs = keys.find(|key| self.parts.get(*key) != other.parts.get(*key));
        match differs {
            Some(key) => format!("{title} differs in its {key}"),
            None => format!("{title} differs"),
        }
    }
}
