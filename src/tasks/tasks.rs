//! The handle on tasks: the public interface of this module.

use std::{sync::Arc, time::Duration};

use futures_util::stream::BoxStream;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    adopt,
    error::TaskError,
    execution::{End, RETRY_DELAY, Shared},
    identity::new_id,
    output::{OutputLine, Outputs},
    running::{Control, DISCONNECTED, INTERRUPTED, Running, RunningTask},
    streams::TaskStreams,
};
use crate::{
    config::{self, Config},
    engine::ContainerId,
    model::{Concurrency, ReleaseNumber, TaskCommand, TaskId, TaskKind},
    periodic::Waker,
    store::{AddedRun, App, AppId, JobTimes, NewTask, Placement, Store, Task, TaskState, UserId},
    turns::Turns,
    workload::Runtime,
};

/// Message of a run of a job that gave way to the next one.
pub const REPLACED: &str = "replaced by the next run";
/// Number of tasks that are started at a time: at midnight many jobs are due.
const MAX_STARTING: usize = 8;
/// Number of volumes that are packed or unpacked at a time.
const MAX_ARCHIVING: usize = 8;

/// Runs tasks; cheap to clone.
#[derive(Clone)]
pub struct Tasks {
    shared: Arc<Shared>,
    tracker: TaskTracker,
}

/// What is to be run.
#[derive(Debug, Clone)]
pub struct TaskRequest {
    /// What it is run for.
    pub kind: TaskKind,
    /// The scheduled job that it is a run of.
    pub job: Option<String>,
    /// Number of the release.
    pub release: ReleaseNumber,
    /// What it runs.
    pub command: TaskCommand,
    /// How long it may run; at most the configured limit.
    pub limit: Option<Duration>,
    /// Name of the caller.
    pub by: String,
}

/// Stops the task of a caller who does not wait for it any more.
struct StopOnDrop(Control);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop(DISCONNECTED);
    }
}

impl Tasks {
    /// Runs tasks on `tracker` until `shutdown`. The end of a run of a job wakes `schedule`.
    pub fn new(
        config: Arc<Config>,
        store: Store,
        runtime: Runtime,
        schedule: Waker,
        tracker: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        let outputs = Outputs::new(&config.data_dir);
        let (running, adopted) = (Running::default(), watch::Sender::new(false));
        let (starting, archiving) = (Turns::new(MAX_STARTING), Turns::new(MAX_ARCHIVING));
        let shared =
            Shared { config, store, runtime, outputs, running, adopted, schedule, starting, archiving, shutdown };
        Self { shared: Arc::new(shared), tracker }
    }

    /// Takes over the tasks that an earlier server has left, in the background.
    pub fn adopt(&self) {
        let (shared, tracker) = (Arc::clone(&self.shared), self.tracker.clone());
        self.tracker.spawn(async move {
            let adopted = async {
                while let Err(error) = adopt::adopt(&shared, &tracker).await {
                    tracing::warn!(%error, "cannot take over the tasks of the previous server yet; retrying");
                    tokio::time::sleep(RETRY_DELAY).await;
                }
            };
            if shared.shutdown.run_until_cancelled(adopted).await.is_some() {
                shared.adopted.send_replace(true);
            }
        });
    }

    /// Waits until the tasks of an earlier server are taken over.
    pub async fn adopted(&self) {
        // The sender lives as long as `self`.
        let _ = self.shared.adopted.subscribe().wait_for(|adopted| *adopted).await;
    }

    /// Has the schedule look for jobs that are due: those of an app have changed.
    pub fn wake_schedule(&self) {
        self.shared.schedule.wake();
    }

    /// The control of a task that has not ended. A task of an earlier server has none until it is taken over.
    async fn control(&self, task: &Task) -> Option<Control> {
        let registered = || self.shared.running.get(&task.id);
        if let Some(control) = registered() {
            return Some(control);
        }
        self.shared.shutdown.run_until_cancelled(self.adopted()).await?;
        registered()
    }

    /// The row of a new task of this app, which must be added to the store.
    pub fn new_task(&self, app: &App, request: TaskRequest, attached: bool) -> Result<NewTask, TaskError> {
        let limits = &self.shared.config.tasks;
        let max = match request.kind {
            TaskKind::Run => limits.run_seconds,
            TaskKind::Cron => limits.cron_seconds,
            TaskKind::Predeploy | TaskKind::Release | TaskKind::FirstDeploy | TaskKind::Postdeploy => {
                limits.release_seconds
            }
        };
        Ok(NewTask {
            id: new_id(&app.name, request.kind)?,
            app: app.id,
            kind: request.kind,
            job: request.job,
            release: request.release,
            command: request.command,
            attached,
            limit_seconds: request.limit.map_or(max, |limit| limit.as_secs().min(max)),
            created_by: request.by,
        })
    }

    /// How the store places new tasks.
    pub fn placement(&self) -> Placement {
        self.shared.runtime.placement()
    }

    pub(super) fn store(&self) -> &Store {
        &self.shared.store
    }

    pub(super) fn archiving(&self) -> &Turns<Option<UserId>> {
        &self.shared.archiving
    }

    /// What brings tasks up.
    pub fn runtime(&self) -> &Runtime {
        &self.shared.runtime
    }

    /// The tasks that this server runs.
    pub(super) fn running(&self) -> &Running {
        &self.shared.running
    }

    pub(super) fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    pub(super) fn limits(&self) -> &config::Tasks {
        &self.shared.config.tasks
    }

    pub(super) fn shutdown(&self) -> &CancellationToken {
        &self.shared.shutdown
    }

    /// Adds a task and runs it in the background; nobody is connected to it.
    pub async fn spawn(&self, app: &App, request: TaskRequest) -> Result<Task, TaskError> {
        let new = self.new_task(app, request, false)?;
        let running = self.register(&new)?;
        let task = self.shared.store.add_task(new, self.placement()).await?;
        self.spawn_registered(task.clone(), running, None);
        Ok(task)
    }

    /// Adds the run of a scheduled job, and runs it in the background, after it has stopped the tasks that it replaces.
    pub async fn spawn_job(&self, app: &App, request: TaskRequest, times: JobTimes) -> Result<AddedRun, TaskError> {
        let concurrency = times.concurrency;
        let new = self.new_task(app, request, false)?;
        let running = self.register(&new)?;
        let (task, replaces) = match self.shared.store.add_job_run(new, times, self.placement()).await? {
            AddedRun::Overlaps(task) => return Ok(AddedRun::Overlaps(task)),
            AddedRun::Added(task, others) if concurrency == Concurrency::Replace => (task, others),
            AddedRun::Added(task, _) => (task, Vec::new()),
        };
        let (tasks, added) = (self.clone(), task.clone());
        self.tracker.spawn(async move {
            for old in replaces {
                // One that cannot be asked runs no longer than its limit.
                if let Err(error) = tasks.stop(&old, REPLACED).await {
                    tracing::warn!(%error, task = %old.id, "cannot stop a task that is replaced");
                }
            }
            tasks.shared.run(added, running, None).await;
        });
        Ok(AddedRun::Added(task, Vec::new()))
    }

    /// Adds a task and runs it, connected to the caller's streams. Returns it when it has ended; `hangup` ends it.
    pub async fn attend(
        &self,
        app: &App,
        request: TaskRequest,
        streams: TaskStreams,
        hangup: &CancellationToken,
    ) -> Result<Task, TaskError> {
        let new = self.new_task(app, request, true)?;
        let running = self.register(&new)?;
        let control = running.control().clone();
        let _stop = StopOnDrop(control.clone());
        let task = self.shared.store.add_task(new, self.placement()).await?;
        let id = task.id.clone();
        self.spawn_registered(task, running, Some(streams));
        let ended = tokio::select! {
            ended = control.ended() => ended,
            () = hangup.cancelled() => {
                control.stop(DISCONNECTED);
                control.ended().await
            }
            () = self.shared.shutdown.cancelled() => {
                control.stop(INTERRUPTED);
                control.ended().await
            }
        };
        self.recorded(&id, ended).await
    }

    /// Runs a task that was added before and is not started yet, in the background.
    pub fn run_queued(&self, task: &Task) -> Result<(), TaskError> {
        let running = self.shared.running.register(&task.id).ok_or(TaskError::Gone)?;
        self.spawn_registered(task.clone(), running, None);
        Ok(())
    }

    /// Registered before its row is added: a task with a row that is not registered is one of an earlier server.
    fn register(&self, new: &NewTask) -> Result<RunningTask, TaskError> {
        if self.shared.shutdown.is_cancelled() {
            return Err(TaskError::ShuttingDown);
        }
        self.shared.running.register(&new.id).ok_or(TaskError::Gone)
    }

    fn spawn_registered(&self, task: Task, running: RunningTask, streams: Option<TaskStreams>) {
        let shared = Arc::clone(&self.shared);
        self.tracker.spawn(async move { shared.run(task, running, streams).await });
    }

    /// Waits until a task has ended; returns it. At shutdown it may not have ended.
    pub async fn ended(&self, task: &Task) -> Result<Task, TaskError> {
        let ended = match self.control(task).await {
            None => None,
            Some(control) => tokio::select! {
                ended = control.ended() => ended,
                () = self.shared.shutdown.cancelled() => return Err(TaskError::ShuttingDown),
            },
        };
        self.recorded(&task.id, ended).await
    }

    /// A task as its end was recorded; otherwise, as it is in the store.
    async fn recorded(&self, id: &TaskId, ended: Option<Task>) -> Result<Task, TaskError> {
        match ended {
            Some(task) => Ok(task),
            None => self.shared.store.task(id.clone()).await?.ok_or(TaskError::Gone),
        }
    }

    /// Stops a task, for this reason, and waits until it has ended. No effect if it has ended.
    pub async fn stop(&self, task: &Task, reason: &str) -> Result<Task, TaskError> {
        if let Some(control) = self.control(task).await {
            control.stop(reason);
        }
        self.ended(task).await
    }

    /// What a task printed to which nobody is connected, and what it prints until it ends.
    pub async fn output(&self, task: &Task, follow: bool) -> Result<BoxStream<'static, OutputLine>, TaskError> {
        let written = self.shared.running.get(&task.id).filter(|_| follow).map(|control| control.written());
        self.shared.outputs.read(task.app, task.name, written).await
    }

    /// Removes containers that belong to no task: their removal failed, or their server died.
    pub(super) async fn remove_strays(&self) -> Result<(), TaskError> {
        adopt::remove_strays(&self.shared).await
    }

    /// Stops the tasks of an app that is being destroyed, and removes their rows and output.
    pub async fn remove_app(&self, app: AppId) -> Result<(), TaskError> {
        const REASON: &str = "the app was destroyed";
        let unended = self.shared.store.unended_tasks().await?;
        let stops = unended.iter().filter(|task| task.app == app).map(|task| async move {
            let ended = match self.stop(task, REASON).await {
                Err(TaskError::Gone) => return Ok(()),
                ended => ended?,
            };
            // It was never started, or its server died.
            if ended.state != TaskState::Ended {
                self.shared.make_ended(&ContainerId::from(&task.id)).await;
                self.shared.record(task, End::because(REASON)).await;
            }
            Ok::<_, TaskError>(())
        });
        for stopped in futures_util::future::join_all(stops).await {
            stopped?;
        }
        self.shared.store.forget_tasks(app, 0).await?;
        self.shared.outputs.remove_app(app).await
    }
}
