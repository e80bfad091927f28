//! The output of commands: text for people, or JSON for programs. It is no error if the client stops reading.

use std::sync::Arc;

use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::Mutex,
};

use crate::{
    engine::Printed,
    model::Line,
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

/// The text of a result, as people read it; each line ends with a line end. Empty, unless a type says otherwise, because
/// the lines of progress have told everything.
pub(super) trait Text {
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
}

impl Output {
    pub(super) fn new(
        stdout: Box<dyn AsyncWrite + Send + Unpin>,
        stderr: Box<dyn AsyncWrite + Send + Unpin>,
        format: Format,
    ) -> Self {
        Self { stdout: Arc::new(Mutex::new(stdout)), stderr: Arc::new(Mutex::new(stderr)), format }
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// Writes text unchanged, in either format; returns whether the client still reads.
    pub(super) async fn text(&self, text: &str) -> bool {
        write(&self.stdout, text).await
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
            Format::Text => self.text(text).await,
            Format::Json => self.json(&serde_json::json!({ "help": text })).await,
        }
    }

    /// Writes a line of progress; warnings and errors go to standard error in the text format.
    pub(super) async fn progress(&self, line: Line) {
        match (self.format, line) {
            (Format::Json, line) => self.json_line(&line).await,
            (Format::Text, line @ Line::Trouble(_)) => write(&self.stderr, &format!("{line}\n")).await,
            (Format::Text, line) => write(&self.stdout, &format!("{line}\n")).await,
        };
    }

    /// Writes a result as one line of JSON, which follows lines of progress.
    pub(super) async fn json_line(&self, value: &impl serde::Serialize) -> bool {
        let text = serde_json::to_string(value).unwrap_or_else(|error| not_serializable(&error));
        write(&self.stdout, &format!("{text}\n")).await
    }

    /// Writes a report as JSON.
    pub(super) async fn json(&self, value: &impl serde::Serialize) -> bool {
        let text = serde_json::to_string_pretty(value).unwrap_or_else(|error| not_serializable(&error));
        write(&self.stdout, &format!("{text}\n")).await
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

/// The whole text, safe for a terminal.
pub(super) fn printable(text: &str) -> String {
    Line::printable(text)
}

/// What is printed in place of a result that has no JSON form.
fn not_serializable(error: &serde_json::Error) -> String {
    tracing::error!(%error, "a result cannot be written as JSON");
    let failure = Failure::new(FailureKind::Internal, "the result cannot be written as JSON");
    serde_json::json!({ "error": failure }).to_string()
}

async fn write(to: &Writer, text: &str) -> bool {
    let mut to = to.lock().await;
    to.write_all(text.as_bytes()).await.is_ok() && to.flush().await.is_ok()
}
