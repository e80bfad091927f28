//! Operations of tasks: commands that are run once in the image of an app.

use std::time::Duration;

use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    attachment::no_streams,
    context::Context,
    failure::{Failure, FailureKind, Result},
    operation::{Follow, Operation},
    time::Time,
};
use crate::{
    model::{AppName, ReleaseNumber, Right, TaskCommand, TaskKind, TaskName},
    store::{App, Effect, Task, TaskState},
    tasks::{OutputLine, TaskRequest},
};

/// Number of tasks that are listed unless the caller says how many.
const DEFAULT_TASKS: u32 = 20;

/// A task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TaskInfo {
    /// App.
    pub app: AppName,
    /// Name within the app: `run.7`.
    pub task: String,
    /// What it is run for.
    pub kind: TaskKind,
    /// The scheduled job that it is a run of.
    pub job: Option<String>,
    /// What it runs.
    pub command: String,
    /// Number of the release whose image and config vars it has.
    pub release: ReleaseNumber,
    /// State.
    pub state: TaskState,
    /// Exit status, if it has ended by itself.
    pub status: Option<i64>,
    /// Why it ended, if not by itself.
    pub message: Option<String>,
    /// Whether a caller is connected to it; nothing is kept of its output then.
    pub attached: bool,
    /// Name of the caller.
    pub created_by: String,
    /// Time of creation.
    pub created_at: Time,
    /// Time of the start.
    pub started_at: Option<Time>,
    /// Time of the end.
    pub ended_at: Option<Time>,
}

impl TaskInfo {
    pub(super) fn new(app: &App, task: Task) -> Self {
        Self {
            app: app.name.clone(),
            task: task.name.to_string(),
            kind: task.name.kind,
            job: task.job,
            command: task.command.to_string(),
            release: task.release,
            state: task.state,
            status: task.status,
            message: task.message,
            attached: task.attached,
            created_by: task.created_by,
            created_at: Time(task.created_at),
            started_at: task.started_at.map(Time),
            ended_at: task.ended_at.map(Time),
        }
    }
}

/// Runs a command in the image of an app's current release, with the caller's standard streams.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct RunTask {
    /// App.
    pub app: AppName,
    /// The command and its arguments: a program, a process type, or one line for the shell.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Seconds after which it is stopped; at most the limit of the server.
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

/// What is to be run in the image of the current release.
async fn request(context: &Context<'_>, app: &App, command: Vec<String>, timeout: Option<u64>) -> Result<TaskRequest> {
    if command.iter().all(|word| word.trim().is_empty()) {
        return Err(Failure::invalid("no command is given; name a program or a process type"));
    }
    let limit = limit(timeout, context.config.tasks.run_seconds)?;
    let not_deployed = || Failure::conflict(format!("{} has no release yet; deploy one with git push", app.name));
    let release = context.current_release(app).await?.ok_or_else(not_deployed)?;
    let is_process = |name: &_| release.processes.iter().any(|spec| spec.process.process_type == *name);
    Ok(TaskRequest {
        kind: TaskKind::Run,
        job: None,
        release: release.number,
        command: TaskCommand::of_words(command, is_process),
        limit,
        by: context.caller.name().to_owned(),
    })
}

/// The limit that a caller chose, if it is one that the server allows.
fn limit(timeout: Option<u64>, max: u64) -> Result<Option<Duration>> {
    match timeout {
        Some(seconds) if !(1..=max).contains(&seconds) => {
            let range = format!("give 1 to {max} seconds (tasks.run_seconds of this server), or none for {max}");
            Err(Failure::invalid(format!("a timeout of {seconds} s is not possible; {range}")))
        }
        timeout => Ok(timeout.map(Duration::from_secs)),
    }
}

/// The program of a command: its arguments may hold secrets.
fn program(command: &[String]) -> String {
    command.first().and_then(|word| word.split_whitespace().next()).unwrap_or_default().to_owned()
}

impl Operation for RunTask {
    const NAME: &'static str = "run";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = TaskInfo;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        program(&self.command)
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<TaskInfo> {
        let request = request(context, &app, self.command, self.timeout).await?;
        let streams = context.attachment.ok_or_else(no_streams)?.take()?;
        let task = context.tasks.attend(&app, request, streams, context.hangup).await?;
        match task.message.clone() {
            Some(message) if task.status.is_none() => {
                Err(Failure::new(FailureKind::Failed, format!("{}: {message}", task.name)))
            }
            _ => Ok(TaskInfo::new(&app, task)),
        }
    }
}

/// Runs a command in the image of an app's current release in the background; its output is kept.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct RunDetached {
    /// App.
    pub app: AppName,
    /// The command and its arguments: a program, a process type, or one line for the shell.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Seconds after which it is stopped; at most the limit of the server.
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

impl Operation for RunDetached {
    const NAME: &'static str = "run:detached";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = TaskInfo;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        program(&self.command)
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<TaskInfo> {
        let request = request(context, &app, self.command, self.timeout).await?;
        Ok(TaskInfo::new(&app, context.tasks.spawn(&app, request).await?))
    }
}

/// Lists the tasks of an app, newest first.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListTasks {
    /// App.
    pub app: AppName,
    /// Number of tasks; without it, 20.
    #[arg(short, long)]
    pub num: Option<u32>,
}

impl Operation for ListTasks {
    const NAME: &'static str = "run:list";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = Vec<TaskInfo>;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Vec<TaskInfo>> {
        let tasks = context.store.tasks(app.id, None, self.num.unwrap_or(DEFAULT_TASKS)).await?;
        Ok(tasks.into_iter().map(|task| TaskInfo::new(&app, task)).collect())
    }
}

/// Shows what a task printed to which nobody is connected.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ShowTaskOutput {
    /// App.
    pub app: AppName,
    /// Name of the task, such as run.7; without it, the newest whose output is kept.
    pub task: Option<String>,
    /// Continue with new lines until the task ends.
    #[arg(short, long)]
    #[serde(default)]
    pub tail: bool,
}

/// A line that a task printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TaskLine {
    /// Time at which it was printed.
    pub time: Time,
    /// Whether it was printed on standard error.
    pub stderr: bool,
    /// Its text, as it was printed.
    pub text: String,
}

impl From<OutputLine> for TaskLine {
    fn from(OutputLine { time, stderr, text }: OutputLine) -> Self {
        Self { time: Time(time), stderr, text }
    }
}

impl Operation for ShowTaskOutput {
    const NAME: &'static str = "run:logs";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = Follow<TaskLine>;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.task.clone().unwrap_or_default()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Follow<TaskLine>> {
        let task = if let Some(name) = &self.task {
            find(context, &app, name).await?
        } else {
            let newest = context.store.tasks(app.id, None, u32::MAX).await?.into_iter().find(|task| !task.attached);
            newest.ok_or_else(|| Failure::not_found(format!("{} has no task whose output is kept", app.name)))?
        };
        if task.attached {
            let text = format!("nothing is kept of what {} prints; run:detached keeps it", task.name);
            return Err(Failure::conflict(text));
        }
        let lines = context.tasks.output(&task, self.tail).await?;
        Ok(Follow(lines.map(TaskLine::from).boxed()))
    }
}

/// Stops a task.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct StopTask {
    /// App.
    pub app: AppName,
    /// Name of the task, such as run.7.
    pub task: String,
}

impl Operation for StopTask {
    const NAME: &'static str = "run:stop";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = TaskInfo;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.task.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<TaskInfo> {
        let task = find(context, &app, &self.task).await?;
        if task.state == TaskState::Ended {
            return Err(Failure::conflict(format!("{} has ended already", task.name)));
        }
        let reason = format!("stopped by {}", context.caller.name());
        Ok(TaskInfo::new(&app, context.tasks.stop(&task, &reason).await?))
    }
}

/// The task of this name.
async fn find(context: &Context<'_>, app: &App, name: &str) -> Result<Task> {
    let parsed: TaskName = name.parse().map_err(Failure::invalid)?;
    let found = context.store.find_task(app.id, parsed).await?;
    found.ok_or_else(|| {
        Failure::not_found(format!("{} has no task {parsed}; run:list {} shows them", app.name, app.name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_that_the_server_does_not_allow_is_refused_and_not_changed() {
        for allowed in [None, Some(1), Some(60)] {
            assert_eq!(limit(allowed, 60).unwrap(), allowed.map(Duration::from_secs));
        }
        for refused in [0, 61, u64::MAX] {
            let failure = limit(Some(refused), 60).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Invalid);
            assert_eq!(
                failure.to_string(),
                format!(
                    "a timeout of {refused} s is not possible; give 1 to 60 seconds (tasks.run_seconds of this server), or none for 60"
                )
            );
        }
    }
}
