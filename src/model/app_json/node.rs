//! A value of an `app.json`, read with its path, which error messages name.

use std::{ops::RangeInclusive, time::Duration};

use serde_json::Value;

use crate::model::{Line, ProcessType, ignored_keys::shown_key};

/// Largest number of header fields, or words of a command, of a health check.
pub(super) const MAX_WORDS: usize = 64;

/// Why an `app.json` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("app.json: {0}")]
pub struct InvalidAppJson(pub String);

/// A value of the document, and its path for error messages.
pub(super) struct Node<'a> {
    pub(super) path: String,
    pub(super) value: &'a Value,
}

impl<'a> Node<'a> {
    pub(super) fn must(&self, rule: &str) -> InvalidAppJson {
        let path = if self.path.is_empty() { "the file" } else { &self.path };
        let value = Line::excerpt(&self.value.to_string());
        InvalidAppJson(format!("{path} must be {rule}, not {value}"))
    }

    /// The value of an object's key; `null` counts as absent.
    pub(super) fn get(&self, key: &str) -> Result<Option<Node<'a>>, InvalidAppJson> {
        let object = self.value.as_object().ok_or_else(|| self.must("an object, in braces"))?;
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Ok(object.get(key).filter(|value| !value.is_null()).map(|value| Node { path, value }))
    }

    /// Refuses keys of an object that are not among these.
    pub(super) fn has_only(&self, known: &[&str]) -> Result<(), InvalidAppJson> {
        let object = self.value.as_object().ok_or_else(|| self.must("an object, in braces"))?;
        let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
        let (path, key) = (&self.path, shown_key(key));
        Err(InvalidAppJson(format!("{path}.{key} is not known; the keys of {path} are {}", known.join(", "))))
    }

    pub(super) fn by_process_type(&self, key: &str) -> Result<Vec<(ProcessType, Node<'a>)>, InvalidAppJson> {
        let Some(section) = self.get(key)? else { return Ok(Vec::new()) };
        let object =
            section.value.as_object().ok_or_else(|| section.must("an object with a key for each process type"))?;
        let entry = |(name, value): (&String, &'a Value)| {
            let process_type: ProcessType = name.parse().map_err(|e| InvalidAppJson(format!("{key}: {e}")))?;
            let path = format!("{key}.{process_type}");
            Ok((process_type, Node { path, value }))
        };
        object.iter().filter(|(_, value)| !value.is_null()).map(entry).collect()
    }

    pub(super) fn items(&self) -> Result<Vec<Node<'a>>, InvalidAppJson> {
        let items = self.value.as_array().ok_or_else(|| self.must("a list, in square brackets"))?;
        let item = |(i, value)| Node { path: format!("{}[{i}]", self.path), value };
        Ok(items.iter().enumerate().map(item).collect())
    }

    pub(super) fn string(&self) -> Result<&'a str, InvalidAppJson> {
        self.value.as_str().ok_or_else(|| self.must("a string, in quotes"))
    }

    pub(super) fn boolean(&self) -> Result<bool, InvalidAppJson> {
        self.value.as_bool().ok_or_else(|| self.must("true or false"))
    }

    /// A line for the shell.
    pub(super) fn command(&self) -> Result<String, InvalidAppJson> {
        let text = self.string()?.trim();
        if text.is_empty() || text.contains('\0') {
            return Err(self.must("a command"));
        }
        Ok(text.to_owned())
    }

    pub(super) fn integer(&self, range: RangeInclusive<u32>) -> Result<u32, InvalidAppJson> {
        let number = self.value.as_u64().and_then(|number| u32::try_from(number).ok());
        let (from, to) = (range.start(), range.end());
        let rule = || self.must(&format!("a whole number from {from} to {to}"));
        number.filter(|number| range.contains(number)).ok_or_else(rule)
    }

    pub(super) fn port(&self) -> Result<u16, InvalidAppJson> {
        let port = self.value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        port.ok_or_else(|| self.must("a port from 1 to 65535"))
    }

    /// The words of a command that is run without a shell.
    pub(super) fn words(&self) -> Result<Vec<String>, InvalidAppJson> {
        let rule = "a list of words, such as [\"curl\", \"-f\", \"http://localhost\"]";
        let words = self.value.as_array().filter(|words| words.len() <= MAX_WORDS).ok_or_else(|| self.must(rule))?;
        let word = |word: &Value| {
            let text = word.as_str().filter(|text| !text.contains('\0')).ok_or_else(|| self.must(rule))?;
            Ok(text.to_owned())
        };
        if words.first().is_some_and(|program| program == "") {
            return Err(self.must(rule));
        }
        words.iter().map(word).collect()
    }

    pub(super) fn seconds(&self) -> Result<Duration, InvalidAppJson> {
        let seconds = self.value.as_f64().filter(|seconds| (0.0..=3600.0).contains(seconds));
        seconds.map(Duration::from_secs_f64).ok_or_else(|| self.must("a number of seconds from 0 to 3600"))
    }
}
