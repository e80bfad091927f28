//! Lines of an app's log: as readers get them, and as they are stored.

use crate::{
    engine::MAX_LINE_BYTES,
    model::InstanceId,
    store::{Millis, now},
};

/// Longest text that is stored, in bytes: that of a line, or of a part of a longer one. An event is cut.
pub(super) const MAX_TEXT_BYTES: usize = MAX_LINE_BYTES;

/// One line of an app's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Time at which the line was printed.
    pub time: Millis,
    /// Name of the instance that printed the line: `web.1`. For events also `release`, `router` or `logs`.
    pub source: String,
    /// Whether the line was printed on standard error.
    pub stderr: bool,
    /// Whether the line is an event that paas reports about the app, rather than output of the app.
    pub event: bool,
    /// Text of the line, as it was printed.
    pub text: String,
    /// Whether the line goes on in the next entry of the same source and stream.
    pub partial: bool,
}

/// One line that an instance printed.
pub struct PrintedLine {
    pub nanos: i64,
    pub stderr: bool,
    pub text: String,
    pub partial: bool,
}

/// One line of a log file, stored as a JSON object.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct StoredLine {
    /// Nanoseconds since 1970.
    #[serde(rename = "t")]
    pub(super) nanos: i64,
    #[serde(rename = "s")]
    pub(super) source: String,
    /// Identity of the instance that printed the line; `None` for an event.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub(super) instance: Option<String>,
    #[serde(rename = "e", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) stderr: bool,
    #[serde(rename = "m")]
    text: String,
    #[serde(rename = "p", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) partial: bool,
}

impl StoredLine {
    pub(super) fn printed(instance: &InstanceId, source: &str, line: PrintedLine) -> Self {
        let PrintedLine { nanos, stderr, text, partial } = line;
        let instance = Some(instance.to_string());
        Self { nanos, source: source.to_owned(), instance, stderr, text: bounded(text), partial }
    }

    /// An event of this moment.
    pub(super) fn event(source: &str, text: String) -> Self {
        let nanos = now().saturating_mul(1_000_000);
        Self { nanos, source: source.to_owned(), instance: None, stderr: false, text: bounded(text), partial: false }
    }

    pub(super) fn into_entry(self) -> LogEntry {
        LogEntry {
            time: self.nanos / 1_000_000,
            event: self.instance.is_none(),
            source: self.source,
            stderr: self.stderr,
            text: self.text,
            partial: self.partial,
        }
    }
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.push('…');
    }
    text
}
