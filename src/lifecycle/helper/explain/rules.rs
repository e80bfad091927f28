//! Rules by which the log of a failed tool is explained: the first one that fits says why it failed and what to do.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::pattern::{Found, Log, Pattern},
    sentence::{Filter, Reference, Sentence},
};

/// The rules of a file, in order.
#[derive(Default)]
pub(super) struct Rules {
    /// Variables that the caller passes, with the values that the examples have.
    pub(super) variables: BTreeMap<String, String>,
    /// Values that sentences and conditions may look up in the log.
    pub(super) find: BTreeMap<String, Vec<Pattern>>,
    pub(super) list: Vec<Rule>,
    /// Debian packages, with the names of the headers, libraries and programs that each has.
    pub(super) debian: Vec<(String, Pattern)>,
}

/// One cause of a failure.
pub(super) struct Rule {
    /// Tried in order; a rule without any fits every log.
    pub(super) patterns: Vec<Pattern>,
    /// Each is in the log, too.
    pub(super) and: Vec<Pattern>,
    /// None of them is in the log.
    pub(super) not: Vec<Pattern>,
    /// Values that have to match.
    pub(super) when: Vec<(Reference, Pattern)>,
    pub(super) say: Sentence,
    /// Status that `bp explain` exits with.
    pub(super) status: u8,
    /// Whether all of its patterns come from the shared rules, which have examples of their own.
    pub(super) is_shared: bool,
    pub(super) examples: Vec<Example>,
}

/// A log, and what has to be said of it.
pub(super) struct Example {
    pub(super) log: Log,
    pub(super) says: String,
    pub(super) variables: BTreeMap<String, String>,
}

/// What is said of a log.
pub(super) struct Explanation {
    pub(super) sentence: String,
    pub(super) status: u8,
    /// Place of the rule that fits.
    pub(super) rule: usize,
    /// Place of its pattern that matches; `None` for a rule without patterns.
    pub(super) pattern: Option<usize>,
}

impl Rules {
    /// Explains a log by the first rule that fits it.
    pub(super) fn explain(&self, log: &Log, variables: &BTreeMap<String, String>) -> Option<Explanation> {
        self.list.iter().enumerate().find_map(|(place, rule)| {
            let (pattern, found) = if rule.patterns.is_empty() {
                (None, Found::default())
            } else {
                let mut tried = rule.patterns.iter().enumerate();
                let (pattern, found) = tried.find_map(|(number, pattern)| Some((number, pattern.find(log)?)))?;
                (Some(pattern), found)
            };
            let is_in_log = |pattern: &Pattern| pattern.find(log).is_some();
            let value = |reference: &Reference| self.value(reference, &found, log, variables);
            let fits = rule.and.iter().all(is_in_log)
                && !rule.not.iter().any(is_in_log)
                && rule.when.iter().all(|(reference, pattern)| pattern.matches(&value(reference)));
            fits.then(|| Explanation { sentence: rule.say.render(&value), status: rule.status, rule: place, pattern })
        })
    }

    fn value(&self, reference: &Reference, found: &Found, log: &Log, variables: &BTreeMap<String, String>) -> String {
        let name = reference.name.as_str();
        let text = if name == "it" {
            found.it.clone()
        } else if let Some(group) = found.groups.get(name) {
            group.clone()
        } else if let Some(patterns) = self.find.get(name) {
            let mut values = patterns.iter().flat_map(|pattern| pattern.find_all(log)).map(|found| found.it);
            match reference.filter {
                Some(Filter::All) => Vec::from_iter(values.collect::<BTreeSet<_>>()).join(", "),
                Some(Filter::Last) => values.last().unwrap_or_default(),
                None | Some(Filter::Lower | Filter::Debian) => values.next().unwrap_or_default(),
            }
        } else {
            variables.get(name).cloned().unwrap_or_default()
        };
        match reference.filter {
            None | Some(Filter::All | Filter::Last) => text,
            Some(Filter::Lower) => text.to_lowercase(),
            Some(Filter::Debian) => {
                let package = self.debian.iter().find(|(_, pattern)| pattern.matches(&text));
                package.map(|(package, _)| package.clone()).unwrap_or_default()
            }
        }
    }
}
