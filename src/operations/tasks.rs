//! Operations of tasks: commands that are run once in the image of an app.

use std::time::Duration;

use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    attachment::no_streams,
    context::{Context, Requirement},
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

/// What is shown in place of a command whose program cannot be told for certain.
const HIDDEN: &str = "…";

/// The program of a command, without its arguments and without variables that are set for it (`NAME=VALUE`): both may hold
/// secrets.
pub(super) fn program(command: &[String]) -> String {
    let split = match command {
        [line] => shell_words::split(line).ok(),
        words => Some(words.to_vec()),
    };
    let Some(words) = split else { return HIDDEN.to_owned() };
    let assigned = words.iter().take_while(|word| is_assignment(word)).count();
    let (assignments, rest) = words.split_at(assigned);
    // In a line for the shell, the word that follows one of these may be a part of the value.
    let is_certain = !assignments.iter().any(|word| word.contains(['$', '`', ';', '&', '|', '(', ')', '<', '>']));
    match rest.first() {
        Some(program) if is_certain && is_plain(program) => program.clone(),
        None if assignments.is_empty() => String::new(),
        Some(_) | None => HIDDEN.to_owned(),
    }
}

fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map_or("", |(name, _)| name);
    let first = name.chars().next();
    first.is_some_and(|c| !c.is_ascii_digit()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether this can be nothing but the name or path of a program.
fn is_plain(word: &str) -> bool {
    word.chars().all(|c| c.is_alphanumeric() || "._/+-".contains(c))
}

/// A command as it is shown to those who may not see its arguments.
fn without_arguments(command: &TaskCommand) -> String {
    let program = match command {
        TaskCommand::Process(process_type) => return process_type.to_string(),
        TaskCommand::Words(words) => program(words),
        TaskCommand::Script(line) => program(std::slice::from_ref(line)),
    };
    if program == HIDDEN || program == command.to_string() { program } else { format!("{program} {HIDDEN}") }
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
        match (task.message.clone(), task.status) {
            (Some(message), None) => Err(Failure::new(FailureKind::Failed, format!("{}: {message}", task.name))),
            (message, _) => {
                if let Some(message) = message {
                    context.progress.trouble(format!("{}: {message}", task.name)).await;
                }
                Ok(TaskInfo::new(&app, task))
            }
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

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn the_program_of_a_command_is_told_without_secrets() {
        for (command, expected) in [
            (&["psql"][..], "psql"),
            (&["/usr/bin/psql", "--password", "hunter2"], "/usr/bin/psql"),
            (&["PGPASSWORD=hunter2 psql -c x"], "psql"),
            (&["A=1 PGPASSWORD='hunter2 hunter2' psql"], "psql"),
            (&["PGPASSWORD=hunter2", "psql", "app"], "psql"),
            (&["curl https://ann:hunter2@host"], "curl"),
            (&["https://ann:hunter2@host"], "…"),
            (&["-- hunter2"], "--"),
            (&["PGPASSWORD=hunter2"], "…"),
            (&["PGPASSWORD=$(echo hunter2 x) psql"], "…"),
            (&["A=1;psql hunter2"], "…"),
            (&["A=`cat f` hunter2"], "…"),
            (&["(echo hunter2)"], "…"),
            (&["a-b=hunter2"], "…"),
            (&["it's hunter2"], "…"),
            (&[], ""),
            (&[" "], ""),
        ] {
            assert_eq!(program(&owned(command)), expected, "{command:?}");
        }
    }

    #[test]
    fn arguments_are_left_out_and_marked() {
        let script = |line: &str| without_arguments(&TaskCommand::Script(line.to_owned()));
        assert_eq!(script("psql"), "psql");
        assert_eq!(script("PGPASSWORD=hunter2 psql"), "psql …");
        assert_eq!(script("A=$(hunter2) psql"), "…");
        assert_eq!(without_arguments(&TaskCommand::Words(owned(&["ls", "-l"]))), "ls …");
        assert_eq!(without_arguments(&TaskCommand::Process("console".parse().unwrap())), "console");
    }

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
