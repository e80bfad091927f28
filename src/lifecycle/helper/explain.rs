//! `bp explain`: says in one sentence why a tool failed, by rules that are data (`docs/buildpacks.md`, "Explain a
//! failure").

mod check;
mod file;
#[cfg(test)]
mod properties;
mod rules;
mod sentence;

use std::{collections::BTreeMap, fs, path::Path};

use self::rules::Rules;
use super::{
    answer::{Refusal, no, wrong},
    pattern::Log,
};
use crate::model::Line;

/// Rules that a caller has as text: they say in one sentence why a program failed.
pub struct FailureRules(Rules);

impl FailureRules {
    /// Parses rules (`docs/buildpacks.md`, "Explain a failure").
    ///
    /// # Errors
    /// The text is no valid file of rules; the message is one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        file::parse(text).map(Self)
    }

    /// The sentence of the first rule that fits the lines; `None` if none does.
    #[must_use]
    pub fn explain(&self, lines: &[String], variables: &[(&str, &str)]) -> Option<String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let explanation = self.0.explain(&Log::new(lines.join("\n").as_bytes()), &variables)?;
        Some(Line::sanitize(&explanation.sentence))
    }
}

/// What the verb prints, and the status that it exits with.
pub(super) struct Explained {
    pub(super) text: String,
    pub(super) status: u8,
}

/// Explains the log of a failed tool, or checks files of rules.
pub(super) fn explain(words: &[&str]) -> Result<Explained, Refusal> {
    match words {
        ["--check", files @ ..] if !files.is_empty() => check(files),
        [log, file, variables @ ..] if !log.starts_with("--") => explain_log(log, file, variables),
        _ => Err(wrong("bp explain: write LOG RULES [NAME=VALUE…], or --check RULES…")),
    }
}

fn explain_log(log: &str, file: &str, words: &[&str]) -> Result<Explained, Refusal> {
    let rules = file::read(Path::new(file)).map_err(wrong)?;
    let variables = variables(words, &rules).map_err(|e| wrong(format!("bp explain: {e} ({file})")))?;
    let log = fs::read(log).map_err(|e| wrong(format!("cannot read {log}: {e}")))?;
    let explanation = rules.explain(&Log::new(&log), &variables).ok_or_else(no)?;
    let line = Line::Trouble(Line::sanitize(&explanation.sentence));
    Ok(Explained { text: line.to_string(), status: explanation.status })
}

/// Variables that the caller passes as NAME=VALUE: exactly those that the rules name.
fn variables(words: &[&str], rules: &Rules) -> Result<BTreeMap<String, String>, String> {
    let mut variables = BTreeMap::new();
    for word in words {
        let (name, value) = word.split_once('=').ok_or_else(|| format!("{word:?} is not NAME=VALUE"))?;
        if !rules.variables.contains_key(name) {
            return Err(format!("the rules have no variable {name}"));
        }
        variables.insert(name.to_owned(), value.to_owned());
    }
    match rules.variables.keys().find(|name| !variables.contains_key(*name)) {
        Some(missing) => Err(format!("the variable {missing} is missing")),
        None => Ok(variables),
    }
}

/// Runs the examples of files of rules.
fn check(files: &[&str]) -> Result<Explained, Refusal> {
    for name in files {
        let rules = file::read(Path::new(name)).map_err(wrong)?;
        if let Some(first) = check::check(&rules).first() {
            return Err(wrong(format!("{name}, {first}")));
        }
    }
    Ok(Explained { text: String::new(), status: 0 })
}

#[cfg(test)]
mod tests;
