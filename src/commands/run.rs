//! The commands `run…` and `enter`.

use std::fmt::Write as _;

use clap::Subcommand;

use super::{
    output::{Rendering, Text},
    session::{ExitStatus, Session},
    table::{or_hyphen, table},
};
use crate::{
    model::Line,
    operations::{
        EnterInstance, Entered, ListTasks, Result, RunDetached, RunTask, ShowTaskOutput, StopTask, TaskInfo, TaskLine,
    },
};

/// The commands of tasks.
#[derive(Debug, Subcommand)]
pub(super) enum RunCommand {
    /// Run a command in the image of the current release, with its config vars; connected to it until it ends.
    #[command(
        name = "run",
        after_help = "Examples: run my-app python manage.py migrate\n          run my-app console            (a process type of the \
                      Procfile)\n          run my-app -- ls -l /workspace\n          run my-app pg_restore -d app < dump\n\
                      One word is a process type or a line for the shell ('\"echo $HOME; ls\"', quoted for both shells); several are a \
                      program and its arguments, as they are.\n\
                      With a terminal: ssh -t paas@HOST run my-app bash. The exit status is that of the command; 125 if paas \
                      could not run it, or stopped it."
    )]
    Run(RunTask),
    /// Run a command in the background; run:logs shows what it prints.
    #[command(name = "run:detached", after_help = "Example: run:detached my-app python import.py")]
    Detached(RunDetached),
    /// List tasks, newest first: commands, the release phase, scheduled jobs.
    #[command(name = "run:list", after_help = "Example: run:list my-app")]
    List(ListTasks),
    /// Print what a task printed.
    #[command(
        name = "run:logs",
        after_help = "Examples: run:logs my-app run.7\n          run:logs my-app release.12 -t"
    )]
    Logs(ShowTaskOutput),
    /// Stop a task.
    #[command(name = "run:stop", after_help = "Example: run:stop my-app run.7")]
    Stop(StopTask),
    /// Run a command in the container of a running instance; without one, a shell.
    #[command(
        name = "enter",
        after_help = "Examples: enter my-app web.1\n          enter my-app worker.2 ps aux\n          \
                      enter my-app web.1 '\"ps aux | wc -l\"'\n\
                      One word is a line for the shell, quoted for both shells; several are a program and its arguments, as they are."
    )]
    Enter(EnterInstance),
}

/// Exit status of `run` and `enter` if paas itself failed, as `docker run` has it.
pub(super) const OWN_FAILURE: u8 = 125;

/// Runs a command; returns its exit status.
pub(super) async fn run(session: &Session<'_>, command: RunCommand) -> Result<u8> {
    use RunCommand as C;
    match command {
        C::Run(run) => session.attach(run).await,
        C::Enter(enter) => session.attach(enter).await,
        C::Detached(run) => session.answer(run).await.map(|()| 0),
        C::List(list) => session.answer(list).await.map(|()| 0),
        C::Logs(show) => session.follow(show).await.map(|()| 0),
        C::Stop(stop) => session.answer(stop).await.map(|()| 0),
    }
}

impl RunCommand {
    /// Whether the exit status is that of a command of the user's.
    pub(super) fn passes_status(&self) -> bool {
        match self {
            Self::Run(_) | Self::Enter(_) => true,
            Self::Detached(_) | Self::List(_) | Self::Logs(_) | Self::Stop(_) => false,
        }
    }
}

/// A command on one line of a table.
pub(super) fn shortened(command: &str) -> String {
    const MAX_CHARS: usize = 80;
    beginning(command, MAX_CHARS)
}

/// How a task ended, in a column of a table: a long reason has no room there.
pub(super) fn short_outcome(task: &TaskInfo) -> String {
    const MAX_CHARS: usize = 32;
    beginning(&outcome(task), MAX_CHARS)
}

/// Lines below a table with the outcomes that [`short_outcome`] cuts, each with its name.
pub(super) fn long_outcomes<'a>(tasks: impl Iterator<Item = (&'a str, &'a TaskInfo)>) -> String {
    let mut text = String::new();
    for (name, task) in tasks.filter(|(_, task)| short_outcome(task).ends_with('…')) {
        let _ = writeln!(text, "       {name}: {}", Line::printable(&outcome(task)));
    }
    text
}

/// At most so many characters of a text, on one line.
fn beginning(text: &str, max: usize) -> String {
    let text = Line::printable(text);
    let mut short: String = text.chars().take(max).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// How a task ended, or that it has not.
pub(super) fn outcome(task: &TaskInfo) -> String {
    match (&task.message, task.status) {
        (Some(message), _) => message.clone(),
        (None, Some(status)) => format!("exit status {status}"),
        (None, None) => task.state.as_str().to_owned(),
    }
}

impl ExitStatus for TaskInfo {
    fn exit_status(&self) -> i64 {
        self.status.unwrap_or(i64::from(OWN_FAILURE))
    }
}

impl ExitStatus for Entered {
    fn exit_status(&self) -> i64 {
        self.status
    }
}

impl Text for TaskInfo {
    fn text(&self) -> String {
        match self.state {
            crate::store::TaskState::Ended => format!("-----> {}: {}\n", self.task, outcome(self)),
            crate::store::TaskState::Queued | crate::store::TaskState::Running => {
                format!(
                    "-----> {} runs {}\n       run:logs {} {} -t shows its output\n",
                    self.task,
                    shortened(&self.command),
                    self.app,
                    self.task
                )
            }
        }
    }
}

impl Text for Vec<TaskInfo> {
    fn text(&self) -> String {
        let rows = self.iter().map(|task| {
            [
                task.task.clone(),
                task.state.as_str().to_owned(),
                format!("v{}", task.release),
                or_hyphen(task.started_at.map(|time| time.to_string())),
                task.created_by.clone(),
                short_outcome(task),
                shortened(&task.command),
            ]
        });
        let text = table(["TASK", "STATE", "RELEASE", "STARTED", "BY", "OUTCOME", "COMMAND"], rows);
        text + &long_outcomes(self.iter().map(|task| (task.task.as_str(), task)))
    }
}

impl Text for TaskLine {
    const RENDERING: Rendering = Rendering::Coloured;

    fn text(&self) -> String {
        format!("{}{}", self.text, if self.partial { "" } else { "\n" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::TaskKind, operations::Time, store::TaskState};

    #[test]
    fn a_long_reason_stands_below_the_table() {
        let reason = "stopped: it wrote 70 MiB of files, more than its limit of 64 MiB (instances.disk_mib)";
        let task = |number: u64, status, message: Option<&str>| TaskInfo {
            app: "shop".parse().unwrap(),
            task: format!("run.{number}"),
            purpose: TaskKind::Run,
            job: None,
            command: "sh".into(),
            release: 1,
            state: TaskState::Ended,
            status,
            message: message.map(str::to_owned),
            attached: false,
            created_by: "ann".into(),
            created_at: Time(0),
            started_at: None,
            ended_at: None,
        };
        let expected = format!(
            "TASK   STATE  RELEASE  STARTED  BY   OUTCOME                            COMMAND\n\
             run.2  ended  v1       -        ann  stopped: it wrote 70 MiB of file…  sh\n\
             run.1  ended  v1       -        ann  exit status 3                      sh\n       run.2: {reason}\n"
        );
        assert_eq!(vec![task(2, None, Some(reason)), task(1, Some(3), None)].text(), expected);
    }
}
