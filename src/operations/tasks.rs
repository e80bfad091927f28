//! Operations that show and stop tasks.

use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    context::{Context, Requirement},
    failure::{Failure, Result},
    operation::{Follow, Operation},
    program::without_arguments,
    time::Time,
};
use crate::{
    model::{AppName, ReleaseNumber, Right, TaskKind, TaskName},
    store::{App, Effect, Task, TaskState},
    tasks::OutputLine,
};

/// Number of tasks that are listed unless the caller says how many.
const DEFAULT_TASKS: u32 = 20;

/// The names of tasks, for schemas.
const TASK_NAME: &str = r"^(run|release|cron)\.[1-9][0-9]{0,8}$";

/// A task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TaskInfo {
    /// App.
    pub app: AppName,
    /// Name within the app: `run.7`.
    pub task: String,
    /// What it is run for.
    pub purpose: TaskKind,
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
            purpose: task.name.kind,
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
        Ok(tasks.into_iter().map(|task| seen(context.held, &app, task)).collect())
    }
}

/// A task as a caller sees it who holds this right on the app: what a user typed may hold secrets.
fn seen(held: Right, app: &App, task: Task) -> TaskInfo {
    let command = (!may_read(held, task.name.kind)).then(|| without_arguments(&task.command));
    let info = TaskInfo::new(app, task);
    TaskInfo { command: command.unwrap_or(info.command), ..info }
}

/// Whether a right suffices to read the arguments and the output of tasks of this kind.
fn may_read(held: Right, kind: TaskKind) -> bool {
    match kind {
        TaskKind::Run => held >= Right::Operate,
        TaskKind::Cron | TaskKind::Predeploy | TaskKind::Release | TaskKind::FirstDeploy | TaskKind::Postdeploy => true,
    }
}

/// Shows what a task printed to which nobody is connected.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ShowTaskOutput {
    /// App.
    pub app: AppName,
    /// Name of the task, such as run.7; without it, the newest whose output is kept and that you may read.
    #[schemars(regex(pattern = TASK_NAME))]
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
    /// Whether it is a part of a line over 64 KiB, which goes on in the next one of the same stream.
    pub partial: bool,
}

impl From<OutputLine> for TaskLine {
    fn from(OutputLine { time, stderr, text, partial }: OutputLine) -> Self {
        Self { time: Time(time), stderr, text, partial }
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

    async fn requirement(&self, _: &Context<'_>, app: &App) -> Result<Option<Requirement>> {
        let name = self.task.as_deref().map(name).transpose()?;
        Ok(name.and_then(|name| reader_of(&app.name, name)))
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Follow<TaskLine>> {
        let task = if let Some(name) = &self.task {
            find(context, &app, name).await?
        } else {
            let tasks = context.store.tasks(app.id, None, u32::MAX).await?;
            let newest = tasks.into_iter().find(|task| !task.attached && may_read(context.held, task.name.kind));
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

/// The right that reading a task's output needs, if it is a higher one than that of the operation.
fn reader_of(app: &AppName, task: TaskName) -> Option<Requirement> {
    let right = Right::Operate;
    let reason = || {
        let role = right.least_role();
        format!(
            "{task} was run by a user, and reading what it printed needs the role {role}; an owner of {app} gives it with access:add"
        )
    };
    (!may_read(Right::View, task.kind)).then(|| Requirement { right, reason: reason() })
}

/// Stops a task.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct StopTask {
    /// App.
    pub app: AppName,
    /// Name of the task, such as run.7.
    #[schemars(regex(pattern = TASK_NAME))]
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

fn name(text: &str) -> Result<TaskName> {
    text.parse().map_err(Failure::invalid)
}

/// The task of this name.
async fn find(context: &Context<'_>, app: &App, name: &str) -> Result<Task> {
    let parsed = self::name(name)?;
    let found = context.store.find_task(app.id, parsed).await?;
    found.ok_or_else(|| {
        Failure::not_found(format!("{} has no task {parsed}; run:list {} shows them", app.name, app.name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_operators_read_what_users_ran() {
        let app: AppName = "shop".parse().unwrap();
        for kind in TaskKind::ALL {
            assert!(may_read(Right::Operate, kind));
            assert_eq!(may_read(Right::Deploy, kind), kind != TaskKind::Run);
            assert_eq!(reader_of(&app, TaskName { kind, number: 7 }).is_some(), kind == TaskKind::Run);
        }
        let Requirement { right, reason } = reader_of(&app, "run.7".parse().unwrap()).unwrap();
        assert_eq!(right, Right::Operate);
        assert_eq!(
            reason,
            "run.7 was run by a user, and reading what it printed needs the role operator; an owner of shop gives it with access:add"
        );
    }
}
