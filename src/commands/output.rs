//! The output of commands: lines, tables, JSON. It is no error if the client stops reading.

use std::sync::Arc;

use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::Mutex,
};

use crate::{model::Line, store::Millis};

/// How tables and facts are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Aligned columns.
    #[default]
    Text,
    /// JSON, for programs.
    Json,
}

type Writer = Arc<Mutex<Box<dyn AsyncWrite + Send + Unpin>>>;

#[derive(Clone)]
pub(super) struct Output {
    stdout: Writer,
    stderr: Writer,
}

impl Output {
    pub(super) fn new(stdout: Box<dyn AsyncWrite + Send + Unpin>, stderr: Box<dyn AsyncWrite + Send + Unpin>) -> Self {
        Self { stdout: Arc::new(Mutex::new(stdout)), stderr: Arc::new(Mutex::new(stderr)) }
    }

    /// Writes text unchanged; returns whether the client still reads.
    pub(super) async fn text(&self, text: &str) -> bool {
        write(&self.stdout, text).await
    }

    pub(super) async fn line(&self, text: &str) {
        write(&self.stdout, &format!("{text}\n")).await;
    }

    pub(super) async fn trouble(&self, text: &str) {
        write(&self.stderr, &format!("{}\n", Line::Trouble(text.to_owned()))).await;
    }

    pub(super) async fn json(&self, value: &impl serde::Serialize) {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        self.line(&text).await;
    }

    /// Writes rows as aligned columns, or as a JSON array of objects.
    pub(super) async fn table<R: Row>(&self, rows: &[R], format: Format) {
        match format {
            Format::Json => self.json(&rows).await,
            Format::Text => {
                let mut lines = vec![R::HEADER.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()];
                lines.extend(rows.iter().map(Row::cells));
                self.text(&aligned(&lines)).await;
            }
        }
    }

    /// Writes facts as lines of a name and a value, or as a JSON object.
    pub(super) async fn facts(&self, facts: &serde_json::Map<String, serde_json::Value>, format: Format) {
        match format {
            Format::Json => self.json(facts).await,
            Format::Text => {
                let show = |value: &serde_json::Value| match value {
                    serde_json::Value::Null => "-".to_owned(),
                    serde_json::Value::String(text) => text.clone(),
                    serde_json::Value::Array(items) => items
                        .iter()
                        .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                        .collect::<Vec<_>>()
                        .join(", "),
                    other => other.to_string(),
                };
                let lines: Vec<_> = facts
                    .iter()
                    .map(|(name, value)| vec![format!("{}:", name.replace('_', " ")), show(value)])
                    .collect();
                self.text(&aligned(&lines)).await;
            }
        }
    }
}

async fn write(to: &Writer, text: &str) -> bool {
    let mut to = to.lock().await;
    to.write_all(text.as_bytes()).await.is_ok() && to.flush().await.is_ok()
}

/// A row of a table.
pub(super) trait Row: serde::Serialize {
    const HEADER: &'static [&'static str];
    fn cells(&self) -> Vec<String>;
}

fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        lines.iter().filter_map(|cells| cells.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for cells in lines {
        let padded: Vec<_> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A time, as in RFC 3339.
pub(super) fn time(millis: Millis) -> String {
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| "-".to_owned(), |time| format!("{time:.0}"))
}
