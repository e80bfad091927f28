//! Operations that run a command in the image of an app.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    attachment::no_streams,
    context::Context,
    failure::{Failure, FailureKind, Result},
    operation::Operation,
    program::program,
    tasks::TaskInfo,
};
use crate::{
    model::{AppName, Right, TaskCommand, TaskKind},
    store::{App, Effect},
    tasks::TaskRequest,
};

/// Runs a command in the image of an app's current release, with the caller's standard streams.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct RunTask {
    /// App.
    pub app: AppName,
    /// The command and its arguments: a program, a process type, or one line for the shell.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    #[schemars(length(min = 1), inner(regex(pattern = r"\S")))]
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

impl Operation for RunTask {
    const NAME: &'static str = "run";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    const TAKES_DISK: bool = true;
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
    #[schemars(length(min = 1), inner(regex(pattern = r"\S")))]
    pub command: Vec<String>,
    /// Seconds after which it is stopped; at most the limit of the server.
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

impl Operation for RunDetached {
    const NAME: &'static str = "run:detached";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    const TAKES_DISK: bool = true;
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
