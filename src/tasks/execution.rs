//! The run of one task, from its row to its recorded end.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    attended::{Disconnected, attended},
    error::TaskError,
    output::Outputs,
    running::{DISCONNECTED, Running, RunningTask},
    stored_output::{Copied, StoredOutput},
    streams::{TaskStreams, Terminal},
};
use crate::{
    config::Config,
    engine::{Attached, ContainerId, Input},
    model::{Line, SizeTarget},
    periodic::Waker,
    store::{App, Release, Store, Task, UserId},
    turns::Turns,
    workload::{
        OutOfMemory, Purpose, Runtime, Workload, WorkloadBudget,
        command::{self, Launch},
    },
};

/// Delay before a container whose output has ended is looked at again.
const EXIT_DELAY: Duration = Duration::from_millis(50);
/// Delay before a retry after an error of the engine or the database.
pub(super) const RETRY_DELAY: Duration = Duration::from_secs(1);
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
    /// Whether the tasks of an earlier server are taken over.
    pub(super) adopted: watch::Sender<bool>,
    /// Wakes the schedule: a run of a job has ended.
    pub(super) schedule: Waker,
    /// Bounds the containers that are created and started at a time.
    pub(super) starting: Turns<Option<UserId>>,
    /// Bounds the volumes that are packed or unpacked at a time.
    pub(super) archiving: Turns<Option<UserId>>,
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
        self.record_of(&task, &running, end).await;
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
        let budget = WorkloadBudget::read(&self.store, app.id, &SizeTarget::Tasks).await?;
        let grace = self.config.instances.stop_grace();
        let workload = workload(task, &app, &release, streams.is_some(), terminal.as_ref(), grace, budget);
        let turn = tokio::select! {
            turn = self.starting.take(budget.owner, usize::MAX) => turn,
            reason = running.stopped() => return Ok(End::because(reason)),
        };
        let container = self.runtime.create(&workload).await?;
        // Attached before the start, so that no output is lost.
        let mut attached = match streams {
            Some(streams) => Some((self.runtime.attach(&container).await?, streams)),
            None => None,
        };
        if let Some(reason) = running.stop_requested() {
            return Ok(End::because(reason));
        }
        if !self.store.start_task(task.id.clone()).await? {
            return Err(TaskError::Gone);
        }
        if let Some((_, streams)) = &mut attached {
            streams.begin();
        }
        self.runtime.start(&container).await?;
        drop(turn);
        let ending = match attached {
            Some((attached, streams)) => Box::pin(self.attended(task, running, &container, attached, streams)).await,
            None => Box::pin(self.unattended(task, running, &container)).await,
        };
        Ok(self.end(&container, ending).await)
    }

    /// Goes on with a task whose container an earlier server started.
    pub(super) async fn resume(&self, task: Task, running: RunningTask) {
        let container = ContainerId::from(&task.id);
        let resumed = async {
            let ending = Box::pin(self.unattended(&task, &running, &container)).await;
            self.end(&container, ending).await
        };
        if let Some(end) = self.shutdown.run_until_cancelled(resumed).await {
            self.record_of(&task, &running, end).await;
        }
    }

    /// Records the end of a task, for those who wait for it, too.
    pub(super) async fn record_of(&self, task: &Task, running: &RunningTask, end: End) {
        if let Some(ended) = self.record(task, end).await {
            running.recorded(ended);
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
        let resize = |size| self.runtime.resize(container, size);
        let exit = self.wait(container);
        let ends = async {
            match attended(attached, streams, resize, exit).await {
                Ok(code) => Ending::Itself(code),
                Err(Disconnected) => Ending::Stopped(DISCONNECTED.to_owned()),
            }
        };
        Box::pin(self.ending(task, running, ends)).await
    }

    /// Waits until the container has ended, or is to be stopped, and stores what it prints.
    async fn unattended(&self, task: &Task, running: &RunningTask, container: &ContainerId) -> Ending {
        let mut output = StoredOutput::begin(&self.outputs, task, running).await;
        let ends = async {
            loop {
                let complete = match output.copy(&self.runtime, container).await {
                    Copied::All => true,
                    Copied::Part => false,
                    Copied::Enough => return Ending::Itself(self.wait(container).await),
                };
                match self.runtime.observe(task.id.as_str()).await {
                    Ok(None) => return Ending::Itself(None),
                    Ok(Some(found)) if !found.state.is_alive() => {
                        // A last look: an error, or the engine, may have cut the output short.
                        let _ = timeout(REST_TIMEOUT, output.copy(&self.runtime, container)).await;
                        return Ending::Itself(found.exit_code);
                    }
                    // The engine closes the output shortly before it reports that the container has ended.
                    Ok(Some(_)) if complete => tokio::time::sleep(EXIT_DELAY).await,
                    Ok(Some(_)) | Err(_) => tokio::time::sleep(RETRY_DELAY).await,
                }
            }
        };
        let ending = self.ending(task, running, ends).await;
        if let Ending::Stopped(_) = &ending {
            self.make_ended(container).await;
            let _ = timeout(REST_TIMEOUT, output.copy(&self.runtime, container)).await;
        }
        ending
    }

    /// The end of a task that may be stopped, and has a time limit.
    async fn ending(&self, task: &Task, running: &RunningTask, ends: impl Future<Output = Ending>) -> Ending {
        let ran = task.started_at.map_or(0, |started| crate::store::now() - started);
        let left = task.limit_seconds.saturating_sub(u64::try_from(ran / 1000).unwrap_or(0));
        tokio::select! {
            // The reason is known before the container is ended for it.
            biased;
            reason = running.stopped() => Ending::Stopped(reason),
            ending = ends => ending,
            () = tokio::time::sleep(Duration::from_secs(left)) => {
                Ending::Stopped(format!("stopped: it ran longer than its limit of {} s", task.limit_seconds))
            }
        }
    }

    async fn end(&self, container: &ContainerId, ending: Ending) -> End {
        match ending {
            Ending::Itself(Some(0)) => End { status: Some(0), message: None },
            Ending::Itself(Some(code)) => End { status: Some(code), message: self.memory_message(container).await },
            Ending::Itself(None) => End::because("its container was removed by someone else"),
            Ending::Stopped(reason) => {
                self.make_ended(container).await;
                End::because(reason)
            }
        }
    }

    /// What to tell if a process of an ended container was killed because it was out of memory.
    async fn memory_message(&self, container: &ContainerId) -> Option<String> {
        let ended = self.runtime.observe(container.as_str()).await.ok()??;
        let OutOfMemory { limit, remedy } = OutOfMemory::of(&ended, Some("--tasks"));
        ended.oom_killed.then(|| format!("it ran out of memory{limit}: use less, or have more: {remedy}"))
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
        let grace = self.config.instances.stop_grace();
        while let Err(error) = self.runtime.stop(container, grace).await {
            tracing::warn!(%error, %container, "cannot stop a task; retrying");
            if self.shutdown.run_until_cancelled(tokio::time::sleep(RETRY_DELAY)).await.is_none() {
                return;
            }
        }
    }

    /// Records the end of a task, and removes its container. If the server dies in between, the next one removes it. Returns
    /// the task; `None` if there is no such task any more, or the server stops.
    pub(super) async fn record(&self, task: &Task, End { status, message }: End) -> Option<Task> {
        let recorded = loop {
            match self.store.end_task(task.id.clone(), status, message.clone()).await {
                Ok(recorded) => break recorded,
                Err(error) => tracing::warn!(%error, task = %task.id, "cannot record the end of a task; retrying"),
            }
            self.shutdown.run_until_cancelled(tokio::time::sleep(RETRY_DELAY)).await?;
        };
        if let Err(error) = self.runtime.remove(&ContainerId::from(&task.id)).await {
            tracing::warn!(%error, task = %task.id, "cannot remove the container of a task; the next start removes it");
        }
        if task.job.is_some() {
            self.schedule.wake();
        }
        self.forget_old(task).await;
        recorded
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

fn workload(
    task: &Task,
    app: &App,
    release: &Release,
    attached: bool,
    terminal: Option<&Terminal>,
    stop_grace: Duration,
    budget: WorkloadBudget,
) -> Workload {
    let name = (task.name.kind.as_str(), task.name.number);
    let port = release.processes.first().map(|spec| ("PORT", spec.port.to_string()));
    let terminal_name = terminal.map(|terminal| ("TERM", terminal.name.clone()));
    let own_vars: Vec<_> = port.into_iter().chain(terminal_name).collect();
    let process_type = command::process_type(&task.command, release);
    let grace = process_type.map_or(stop_grace, |process_type| app.stop_grace(process_type, stop_grace));
    let workload =
        Workload::of_release(task.id.as_str(), Purpose::Task, &app.name, release, name, &own_vars, grace, budget);
    let Launch { entrypoint, arguments, env } = command::launch(&task.command, release);
    Workload {
        entrypoint,
        arguments,
        env: [workload.env, env].concat(),
        input: match (attached, terminal) {
            (false, _) => Input::None,
            (true, None) => Input::Pipe,
            (true, Some(terminal)) => Input::Terminal(terminal.size()),
        },
        address: task.endpoint,
        mounts: app.mounts.clone(),
        ..workload
    }
}
