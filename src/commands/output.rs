//! The output of commands: text for people, or JSON for programs. It is no error if the client stops reading.
//!
//! This is where text leaves for a terminal: whatever a user wrote, it moves no cursor and sets no title. Only what a program
//! reads, and the output of a command of the user's, is unchanged.

use std::{fmt::Write as _, sync::Arc};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::Mutex,
};

use crate::{
    engine::Printed,
    model::{Line, is_unsafe},
    operations::{Failure, FailureKind},
};

/// How results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Text for people.
    #[default]
    Text,
    /// JSON for programs: each line of progress, the result, and a failure.
    Json,
}

/// What of a text reaches the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rendering {
    /// What is printable.
    Plain,
    /// The same with its colours, if the client has a terminal.
    Coloured,
    /// All of it: a program reads it.
    Exact,
}

/// The text of a result, as people read it; each line ends with a line end. Empty, unless a type says otherwise, because
/// the lines of progress have told everything.
pub(super) trait Text {
    /// What of the text reaches the client.
    const RENDERING: Rendering = Rendering::Plain;

    fn text(&self) -> String {
        String::new()
    }
}

type Writer = Arc<Mutex<Box<dyn AsyncWrite + Send + Unpin>>>;

#[derive(Clone)]
pub(super) struct Output {
    stdout: Writer,
    stderr: Writer,
    format: Format,
    /// Whether the client has a terminal.
    terminal: bool,
}

impl Output {
    pub(super) fn new(
        stdout: Box<dyn AsyncWrite + Send + Unpin>,
        stderr: Box<dyn AsyncWrite + Send + Unpin>,
        format: Format,
        terminal: bool,
    ) -> Self {
        Self { stdout: Arc::new(Mutex::new(stdout)), stderr: Arc::new(Mutex::new(stderr)), format, terminal }
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Writes text, in either format; returns whether the client still reads.
    pub(super) async fn text(&self, text: &str, rendering: Rendering) -> bool {
        match rendering {
            Rendering::Exact => send(&self.stdout, text).await,
            Rendering::Coloured if self.terminal => send(&self.stdout, &each_line(text, Line::coloured)).await,
            Rendering::Coloured | Rendering::Plain => send(&self.stdout, &each_line(text, Line::printable)).await,
        }
    }

    /// Writes what a task printed, unchanged; returns whether the client still reads.
    pub(super) async fn piece(&self, piece: Printed) -> bool {
        let (to, bytes) = match piece {
            Printed::Stdout(bytes) => (&self.stdout, bytes),
            Printed::Stderr(bytes) => (&self.stderr, bytes),
        };
        let mut to = to.lock().await;
        to.write_all(&bytes).await.is_ok() && to.flush().await.is_ok()
    }

    /// Writes a help text.
    pub(super) async fn help(&self, text: &str) -> bool {
        match self.format {
            Format::Text => self.text(text, Rendering::Plain).await,
            Format::Json => self.json(&serde_json::json!({ "help": text })).await,
        }
    }

    /// Writes a line of progress; warnings and errors go to standard error in the text format.
    pub(super) async fn progress(&self, line: Line) {
        match (self.format, line) {
            (Format::Json, line) => self.json_line(&line).await,
            (Format::Text, line @ Line::Trouble(_)) => send(&self.stderr, &format!("{line}\n")).await,
            (Format::Text, line) => send(&self.stdout, &format!("{line}\n")).await,
        };
    }

    /// Writes a result as one line of JSON, which follows lines of progress.
    pub(super) async fn json_line(&self, value: &impl serde::Serialize) -> bool {
        let text = serde_json::to_string(value).unwrap_or_else(|error| not_serializable(&error));
        send(&self.stdout, &format!("{}\n", escaped(&text))).await
    }

    /// Writes a report as JSON.
    pub(super) async fn json(&self, value: &impl serde::Serialize) -> bool {
        let text = serde_json::to_string_pretty(value).unwrap_or_else(|error| not_serializable(&error));
        send(&self.stdout, &format!("{}\n", escaped(&text))).await
    }

    /// Writes why a command failed.
    pub(super) async fn failure(&self, failure: &Failure) {
        if self.format == Format::Json {
            self.json_line(&serde_json::json!({ "error": failure })).await;
            return;
        }
        if failure.reported {
            return;
        }
        if let Some(last) = &failure.last_output {
            self.progress(Line::Trouble(format!("last output of {}:", last.instance))).await;
            for line in &last.lines {
                self.progress(Line::Trouble(format!("  {line}"))).await;
            }
        }
        self.progress(Line::Trouble(failure.to_string())).await;
    }
}

/// Renders each line of a text.
fn each_line(text: &str, render: fn(&str) -> String) -> String {
    text.split('\n').map(render).collect::<Vec<_>>().join("\n")
}

/// Escapes what `serde_json` leaves as it is in strings although a terminal obeys it.
fn escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unsafe(c) && c != '\n' {
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// What is printed in place of a result that has no JSON form.
fn not_serializable(error: &serde_json::Error) -> String {
    tracing::error!(%error, "a result cannot be written as JSON");
    let failure = Failure::new(FailureKind::Internal, "the result cannot be written as JSON");
    serde_json::json!({ "error": failure }).to_string()
}

async fn send(to: &Writer, text: &str) -> bool {
    let mut to = to.lock().await;
    to.write_all(text.as_bytes()).await.is_ok() && to.flush().await.is_ok()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    const HOSTILE: &str = "a\u{1b}]0;title\u{7}\u{1b}[31mred\u{9b}2J\u{202e}\n\u{1b}[2Jb\n";

    /// What an output sends for this text.
    async fn sent(terminal: bool, rendering: Rendering) -> String {
        let (out, mut read) = tokio::io::duplex(4096);
        let output = Output::new(Box::new(out), Box::new(tokio::io::sink()), Format::Text, terminal);
        assert!(output.text(HOSTILE, rendering).await);
        drop(output);
        let mut text = String::new();
        read.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn text_of_users_is_safe_for_a_terminal_unless_a_program_reads_it() {
        assert_eq!(sent(true, Rendering::Plain).await, "ared2J\nb\n");
        assert_eq!(sent(false, Rendering::Coloured).await, "ared2J\nb\n");
        assert_eq!(sent(true, Rendering::Coloured).await, "a\u{1b}[31mred2J\u{1b}[0m\nb\n");
        assert_eq!(sent(false, Rendering::Exact).await, HOSTILE);
    }

    #[test]
    fn json_keeps_every_character_and_sends_none_that_a_terminal_obeys() {
        let json = escaped(&serde_json::to_string_pretty(&[HOSTILE]).unwrap());
        assert!(json.chars().all(|c| !is_unsafe(c) || c == '\n'), "{json:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), [HOSTILE]);
    }
}
