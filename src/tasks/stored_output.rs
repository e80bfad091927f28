//! Copies what a task prints from the runtime into its file.

use futures_util::StreamExt as _;

use super::{
    output::{OutputLine, OutputWriter, Outputs},
    running::RunningTask,
};
use crate::{
    engine::{ContainerId, LogOptions, ReadUntil},
    store::Task,
    workload::Runtime,
};

/// Number of lines that are written at a time.
const MAX_BATCH: usize = 64;

/// How much of what a container prints was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copied {
    /// All: it has closed its output.
    All,
    /// A part: the engine ended the output early.
    Part,
    /// As much as is kept.
    Enough,
}

/// The output of a task that runs.
pub(super) struct StoredOutput<'a> {
    running: &'a RunningTask,
    /// None once nothing more is kept: the file is full, or it cannot be written, and what the task does is worth more.
    writer: Option<OutputWriter>,
    read_until: ReadUntil,
}

impl<'a> StoredOutput<'a> {
    pub(super) async fn begin(outputs: &Outputs, task: &Task, running: &'a RunningTask) -> Self {
        let writer = match outputs.begin(task.app, task.name).await {
            Ok(writer) => Some(writer),
            Err(error) => {
                tracing::error!(%error, task = %task.id, "the output of a task is lost");
                None
            }
        };
        Self { running, writer, read_until: ReadUntil::default() }
    }

    /// Copies what is printed after the last line that was copied, until the container has closed its output.
    pub(super) async fn copy(&mut self, runtime: &Runtime, container: &ContainerId) -> Copied {
        if self.writer.is_none() {
            return Copied::Enough;
        }
        let options = LogOptions { after: self.read_until, follow: true, tail: None };
        let mut batches = runtime.logs(container, options).ready_chunks(MAX_BATCH);
        while let Some(batch) = batches.next().await {
            let mut lines = Vec::with_capacity(batch.len());
            let mut failed = None;
            for line in batch {
                match line {
                    Ok(line) => {
                        self.read_until.read(line.stderr, line.time);
                        lines.push(OutputLine::from(line));
                    }
                    Err(error) => failed = Some(error),
                }
            }
            self.write(&lines).await;
            if self.writer.is_none() {
                return Copied::Enough;
            }
            if let Some(error) = failed {
                tracing::debug!(%error, %container, "cannot read the output of a task; retrying");
                return Copied::Part;
            }
        }
        Copied::All
    }

    async fn write(&mut self, lines: &[OutputLine]) {
        let Some(writer) = &mut self.writer else { return };
        match writer.append(lines).await {
            Ok(true) => {}
            Ok(false) => self.writer = None,
            Err(error) => {
                tracing::error!(%error, "the rest of the output of a task is lost");
                self.writer = None;
            }
        }
        self.running.wrote();
    }
}
