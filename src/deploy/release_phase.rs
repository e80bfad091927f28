//! The release phase: what is run once for each release, before it becomes current or after that.

use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::{deployer::Deployer, error::DeployError};
use crate::{
    model::{ReleaseNumber, TaskCommand, TaskKind},
    progress::Progress,
    store::{App, NewRelease, NewTask, ReleaseKind, Task, TaskState},
    tasks::TaskRequest,
};

/// What is run for a new release of an app, in order. Its image and config vars decide: a restart runs nothing, and neither
/// does a rebase, which changes neither the app's code nor its configuration.
fn commands(new: &NewRelease, is_first: bool) -> Vec<(TaskKind, TaskCommand)> {
    let scripts = &new.manifest.scripts;
    let is_deployment = match new.kind {
        ReleaseKind::Push | ReleaseKind::Rebuild => true,
        ReleaseKind::Config | ReleaseKind::Rollback => false,
        ReleaseKind::Rebase => return Vec::new(),
    };
    let script = |kind, script: &Option<String>| {
        script.clone().filter(|_| is_deployment).map(|script| (kind, TaskCommand::Script(script)))
    };
    let process = new.processes.iter().find(|spec| spec.process.process_type.is_release());
    let release = process.map(|spec| (TaskKind::Release, TaskCommand::Process(spec.process.process_type.clone())));
    [
        script(TaskKind::Predeploy, &scripts.predeploy),
        release,
        script(TaskKind::FirstDeploy, &scripts.first_deploy).filter(|_| is_first),
        script(TaskKind::Postdeploy, &scripts.postdeploy),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a task of the release phase is, for the pusher.
fn title(kind: TaskKind) -> &'static str {
    match kind {
        TaskKind::Predeploy => "predeploy (app.json; files that it writes are not kept)",
        TaskKind::Release => "the release command (Procfile)",
        TaskKind::FirstDeploy => "postdeploy of the first deployment (app.json)",
        TaskKind::Postdeploy => "postdeploy (app.json)",
        TaskKind::Run => "a command",
        TaskKind::Cron => "a scheduled job",
    }
}

impl Deployer {
    /// The tasks of the release phase of a new release.
    pub(super) fn phase_tasks(&self, app: &App, new: &NewRelease) -> Result<Vec<NewTask>, DeployError> {
        let make = |(kind, command)| {
            let by = new.created_by.clone();
            let request = TaskRequest { kind, job: None, release: 0, command, limit: None, by };
            Ok(self.0.tasks.new_task(app, request, false)?)
        };
        commands(new, app.current.is_none()).into_iter().map(make).collect()
    }

    /// Runs the part of the release phase that comes before the release becomes current. If a task fails, the others are not
    /// run.
    pub(super) async fn run_before_release(
        &self,
        app: &App,
        tasks: &[Task],
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), DeployError> {
        if tasks.is_empty() {
            return Ok(());
        }
        self.wait_for_earlier(app, tasks[0].release, progress, cancel).await?;
        for task in tasks.iter().filter(|task| task.name.kind.is_before_release()) {
            let ended = self.run_phase_task(task, progress, cancel).await?;
            if let Some(reason) = ended.failure() {
                return Err(DeployError::ReleasePhase { task: task.name, app: app.name.clone(), reason });
            }
        }
        Ok(())
    }

    /// Records that the tasks which were not run will not be: their release does not become current.
    pub(super) async fn skip_phase(&self, tasks: &[Task]) -> Result<(), DeployError> {
        for task in tasks {
            let now = self.0.store.task(task.id.clone()).await?;
            if now.is_some_and(|now| now.state == TaskState::Queued) {
                let reason = "not run: the release was not deployed".to_owned();
                self.0.store.end_task(task.id.clone(), None, Some(reason)).await?;
            }
        }
        Ok(())
    }

    /// Runs the part of the release phase that comes after the release has become current. The release stays whatever fails, and
    /// the tasks go on if the caller disconnects; what a server that stops leaves, the next one runs.
    pub(super) async fn run_after_release(&self, app: &App, tasks: &[Task], progress: &Progress) {
        for task in tasks.iter().filter(|task| !task.name.kind.is_before_release()) {
            let reason = match self.run_phase_task(task, progress, &CancellationToken::new()).await {
                Ok(ended) => ended.failure(),
                Err(error) => Some(error.to_string()),
            };
            if let Some(reason) = reason {
                let text = format!(
                    "{}: {reason}; the release is live all the same, and run:logs {} {} shows the output",
                    task.name, app.name, task.name
                );
                progress.trouble(text).await;
            }
        }
    }

    /// Runs one task and shows what it prints.
    async fn run_phase_task(
        &self,
        task: &Task,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Task, DeployError> {
        let tasks = &self.0.tasks;
        progress.step(format!("Running {}: {} ({})", title(task.name.kind), task.command, task.name)).await;
        tasks.run_queued(task)?;
        let mut lines = match tasks.output(task, true).await {
            Ok(lines) => lines,
            Err(error) => {
                tasks.stop(task, "its output cannot be shown").await?;
                return Err(error.into());
            }
        };
        let show = async {
            while let Some(line) = lines.next().await {
                progress.detail(line.text).await;
            }
        };
        if cancel.run_until_cancelled(show).await.is_none() {
            tasks.stop(task, "cancelled").await?;
            return Err(DeployError::Cancelled);
        }
        Ok(tasks.ended(task).await?)
    }

    /// Waits for tasks of the release phase of earlier releases that still run, since a server died meanwhile: two migrations
    /// of a database at a time would be in each other's way.
    async fn wait_for_earlier(
        &self,
        app: &App,
        release: ReleaseNumber,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), DeployError> {
        let unended = self.0.store.unended_tasks().await?;
        let earlier = unended.iter().filter(|task| {
            task.app == app.id
                && task.release < release
                && task.name.kind.is_before_release()
                && task.state == TaskState::Running
        });
        for task in earlier {
            progress.detail(format!("waiting for {} of v{}, which still runs", task.name, task.release)).await;
            let ended = cancel.run_until_cancelled(self.0.tasks.ended(task)).await;
            ended.ok_or(DeployError::Cancelled)??;
        }
        Ok(())
    }
}
