//! The run of one task, from its row to its recorded end.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::{
    io::AsyncWriteExt as _,
    sync::{Semaphore, broadcast},
};
use tokio_util::sync::CancellationToken;

use super::{
    command::{self, Launch},
    error::TaskError,
    output::{OutputLine, OutputWriter, Outputs},
    running::{Running, RunningTask},
    streams::{TaskStreams, Terminal, follow_size},
};
use crate::{
    config::Config,
    engine::{Attached, ContainerId, Input, LogOptions},
    model::{AppName, Line},
    store::{Release, Store, Task},
    workload::{Purpose, Runtime, Workload},
};

/// Number of lines that are written at a time.
const MAX_BATCH: usize = 256;
/// Delay before a retry after an error of the engine or the disk.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Longest wait for the rest of the output of a task that has ended.
const REST_TIMEOUT: Duration = Duration::from_secs(10);
/// Exit status of a command that cannot be started, as in a shell.
const CANNOT_START: i64 = 126;

/// What all runs of tasks share.
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    pub(super) store: Store,
    pub(super) runtime: Runtime,
    pub(super) outputs: Outputs,
    pub(super) running: Running,
    /// Tasks whose end was recorded.
    pub(super) ends: broadcast::Sender<Task>,
    /// Bounds the containers that are created and started at a time.
    pub(super) starting: Semaphore,
    pub(super) shutdown: CancellationToken,
}

/// How a task ended.
pub(super) struct End {
    status: Option<i64>,
    message: Option<String>,
}

impl End {
    pub(super) fn because(message: impl Into<String>) -> Self {
        Self { status: None, message: Some(message.into()) }
    }
}

/// How a container came to its end.
enum Ending {
    /// By itself, with this exit code; `None` if the container was removed by someone else.
    Itself(Option<i64>),
    /// It was to be stopped, for this reason.
    Stopped(String),
}

impl Shared {
    /// Runs a task whose row exists, to its recorded end. At shutdown, a task that no caller is connected to goes on, and
    /// the next server adopts it.
    pub(super) async fn run(&self, task: Task, running: RunningTask, streams: Option<TaskStreams>) {
        let goes_on = streams.is_none();
        let run = Box::pin(self.to_end(&task, &running, streams));
        let end = if goes_on {
            match self.shutdown.run_until_cancelled(run).await {
                Some(end) => end,
                None => return,
            }
        } else {
            run.await
        };
        self.record(&task, end).await;
    }

    async fn to_end(&self, task: &Task, running: &RunningTask, streams: Option<TaskStreams>) -> End {
        match self.try_run(task, running, streams).await {
            Ok(end) => end,
            Err(TaskError::Engine(error)) if error.is_start_failure() => {
                let message = format!("it cannot be started: {}", Line::sanitize(&error.to_string()));
                End { status: Some(CANNOT_START), message: Some(message) }
            }
            Err(error) => {
                tracing::warn!(%error, task = %task.id, "a task failed");
                self.make_ended(&ContainerId::from(&task.id)).await;
                End::because(Line::sanitize(&error.to_string()))
            }
        }
    }

    async fn try_run(
        &self,
        task: &Task,
        running: &RunningTask,
        streams: Option<TaskStreams>,
    ) -> Result<End, TaskError> {
        let app = self.store.app(task.app).await?.filter(|app| !app.destroying).ok_or(TaskError::Gone)?;
        let release = self.store.release(task.app, task.release).await?.ok_or(TaskError::Gone)?;
        let prepare = self.runtime.prepare(&app.name, release.number, &release.image);
        tokio::select! {
            prepared = prepare => prepared?,
            reason = running.stopped() => return Ok(End::because(reason)),
        }
        let terminal = streams.as_ref().and_then(|streams| streams.terminal.clone());
        let workload = workload(task, &app.name, &release, streams.is_some(), terminal.as_ref());
        let permit = tokio::select! {
            permit = self.starting.acquire() => permit.map_err(|_| TaskError::ShuttingDown)?,
            reason = running.stopped() => return Ok(End::because(reason)),
        };
        let container = self.runtime.create(&workload).await?;
        // Attached before the start, so that no output is lost.
        let attached = match streams {
            Some(streams) => Some((self.runtime.attach(&container).await?, streams)),
            None => None,
        };
        if let Some(reason) = running.stop_requested() {
            return Ok(End::because(reason));
        }
        if !self.store.start_task(task.id.clone()).await? {
            return Err(TaskError::Gone);
        }
        self.runtime.start(&container).await?;
        drop(permit);
        let ending = match attached {
            Some((attached, streams)) => Box::pin(self.attended(task, running, &container, attached, streams)).await,
            None => Box::pin(self.unattended(task, running, &container)).await?,
        };
        Ok(self.end(&container, ending).await)
    }

    /// Goes on with a task whose container an earlier server started.
    pub(super) async fn resume(&self, task: Task, running: RunningTask) {
        let container = ContainerId::from(&task.id);
        let resumed = async {
            match self.unattended(&task, &running, &container).await {
                Ok(ending) => self.end(&container, ending).await,
                Err(error) => {
                    tracing::warn!(%error, task = %task.id, "cannot read the output of a task");
                    self.make_ended(&container).await;
                    End::because(Line::sanitize(&error.to_string()))
                }
            }
        };
        if let Some(end) = self.shutdown.run_until_cancelled(resumed).await {
            self.record(&task, end).await;
        }
    }

    /// Waits until the container has ended, or is to be stopped, while the caller's streams are connected to it.
    async fn attended(
        &self,
        task: &Task,
        running: &RunningTask,
        container: &ContainerId,
        attached: Attached,
        streams: TaskStreams,
    ) -> Ending {
        let TaskStreams { stdin, output, terminal } = streams;
        let Attached { stdin: to, output: mut printed } = attached;
        let input = feed(stdin, to);
        let forward = async {
            while let Some(piece) = printed.next().await {
                match piece {
                    Ok(piece) => {
                        if output.send(piece).await.is_err() {
                            return Some("the caller disconnected".to_owned());
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, task = %task.id, "the output of a task ended early");
                        break;
                    }
                }
            }
            None
        };
        let resizes = follow_size(terminal, |size| self.runtime.resize(container, size));
        // The end of the input is not the end of the task.
        let serve_input = async {
            tokio::join!(input, resizes);
            std::future::pending::<Infallible>().await
        };
        let ends = async {
            tokio::select! {
                lost = forward => match lost {
                    Some(reason) => Ending::Stopped(reason),
                    None => Ending::Itself(self.wait(container).await),
                },
                never = serve_input => match never {},
            }
        };
        Box::pin(self.ending(task, running, ends)).await
    }

    /// Waits until the container has ended, or is to be stopped, and stores what it prints.
    async fn unattended(
        &self,
        task: &Task,
        running: &RunningTask,
        container: &ContainerId,
    ) -> Result<Ending, TaskError> {
        let mut writer = self.outputs.begin(task.app, task.name).await?;
        let mut read_until = None;
        let ends = async {
            loop {
                let failed = self.store_output(container, &mut writer, &mut read_until, running).await.is_err();
                match self.runtime.observe(task.id.as_str()).await {
                    Ok(None) => return Ending::Itself(None),
                    Ok(Some(found)) if !found.state.is_alive() && !failed => return Ending::Itself(found.exit_code),
                    // The engine closes the output shortly before it reports that the container has ended.
                    Ok(Some(_)) if !failed => {
                        if let Some(code) = self.wait(container).await {
                            return Ending::Itself(Some(code));
                        }
                    }
                    Ok(Some(_)) | Err(_) => tokio::time::sleep(RETRY_DELAY).await,
                }
            }
        };
        let ending = self.ending(task, running, ends).await;
        if let Ending::Stopped(_) = &ending {
            self.make_ended(container).await;
            let rest = self.store_output(container, &mut writer, &mut read_until, running);
            let _ = tokio::time::timeout(REST_TIMEOUT, rest).await;
        }
        Ok(ending)
    }

    /// Copies what a container prints after `read_until` into the file of its output, until the container has ended.
    async fn store_output(
        &self,
        container: &ContainerId,
        writer: &mut OutputWriter,
        read_until: &mut Option<jiff::Timestamp>,
        running: &RunningTask,
    ) -> Result<(), TaskError> {
        let options = LogOptions { since: *read_until, follow: true, tail: None };
        let mut batches = self.runtime.logs(container, options).ready_chunks(MAX_BATCH);
        while let Some(batch) = batches.next().await {
            let mut lines = Vec::with_capacity(batch.len());
            let mut failed = None;
            for line in batch {
                match line {
                    Ok(line) => {
                        *read_until = Some(line.time);
                        lines.push(OutputLine::from(line));
                    }
                    Err(error) => failed = Some(error),
                }
            }
            writer.append(&lines).await?;
            running.wrote();
            if let Some(error) = failed {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// The end of a task that may be stopped, and has a time limit.
    async fn ending(&self, task: &Task, running: &RunningTask, ends: impl Future<Output = Ending>) -> Ending {
        let ran = task.started_at.map_or(0, |started| crate::store::now() - started);
        let left = task.limit_seconds.saturating_sub(u64::try_from(ran / 1000).unwrap_or(0));
        tokio::select! {
            ending = ends => ending,
            reason = running.stopped() => Ending::Stopped(reason),
            () = tokio::time::sleep(Duration::from_secs(left)) => {
                Ending::Stopped(format!("stopped: it ran longer than its limit of {} s", task.limit_seconds))
            }
        }
    }

    async fn end(&self, container: &ContainerId, ending: Ending) -> End {
        match ending {
            Ending::Itself(Some(code)) => End { status: Some(code), message: None },
            Ending::Itself(None) => End::because("its container was removed by someone else"),
            Ending::Stopped(reason) => {
                self.make_ended(container).await;
                End::because(reason)
            }
        }
    }

    /// Waits until a container has ended; returns its exit code, and `None` if it was removed.
    async fn wait(&self, container: &ContainerId) -> Option<i64> {
        loop {
            match self.runtime.wait(container).await {
                Ok(code) => return code,
                Err(error) => {
                    tracing::debug!(%error, %container, "cannot wait for a task; retrying");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    /// Stops a container until it has ended.
    pub(super) async fn make_ended(&self, container: &ContainerId) {
        let grace = Duration::from_secs(self.config.instances.stop_grace_seconds);
        while let Err(error) = self.runtime.stop(container, grace).await {
            tracing::warn!(%error, %container, "cannot stop a task; retrying");
            if self.shutdown.run_until_cancelled(tokio::time::sleep(RETRY_DELAY)).await.is_none() {
                return;
            }
        }
    }

    /// Records the end of a task, and removes its container. If the server dies in between, the next one removes it.
    pub(super) async fn record(&self, task: &Task, End { status, message }: End) {
        loop {
            match self.store.end_task(task.id.clone(), status, message.clone()).await {
                Ok(ended) => {
                    // There may be no reader.
                    if let Some(ended) = ended {
                        let _ = self.ends.send(ended);
                    }
                    break;
                }
                Err(error) => tracing::warn!(%error, task = %task.id, "cannot record the end of a task; retrying"),
            }
            if self.shutdown.run_until_cancelled(tokio::time::sleep(RETRY_DELAY)).await.is_none() {
                return;
            }
        }
        if let Err(error) = self.runtime.remove(&ContainerId::from(&task.id)).await {
            tracing::warn!(%error, task = %task.id, "cannot remove the container of a task; the next start removes it");
        }
        self.forget_old(task).await;
    }

    async fn forget_old(&self, task: &Task) {
        match self.store.forget_tasks(task.app, self.config.tasks.keep).await {
            Ok(old) => {
                for old in old {
                    if let Err(error) = self.outputs.remove(old.app, old.name).await {
                        tracing::warn!(%error, task = %old.id, "cannot remove the output of an old task");
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "cannot remove old tasks"),
        }
    }
}

/// Copies input, and ends it when it ends.
pub(super) async fn feed(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>,
) {
    // Fails when the process does not read any more.
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

fn workload(task: &Task, app: &AppName, release: &Release, attached: bool, terminal: Option<&Terminal>) -> Workload {
    let name = (task.name.kind.as_str(), task.name.number);
    let port = release.processes.first().map(|spec| ("PORT", spec.port.to_string()));
    let terminal_name = terminal.map(|terminal| ("TERM", terminal.name.clone()));
    let own_vars: Vec<_> = port.into_iter().chain(terminal_name).collect();
    let workload = Workload::of_release(task.id.as_str(), Purpose::Task, app, release, name, &own_vars);
    let Launch { entrypoint, arguments, env } = command::launch(&task.command, release);
    Workload {
        entrypoint,
        arguments,
        env: [workload.env, env].concat(),
        input: match (attached, terminal) {
            (false, _) => Input::None,
            (true, None) => Input::Pipe,
            (true, Some(_)) => Input::Terminal,
        },
        address: task.endpoint,
        ..workload
    }
}
