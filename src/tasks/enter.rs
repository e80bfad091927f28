//! Commands in the container of a running instance. They have no row: they end with their caller, or with the instance.

use std::time::Duration;

use futures_util::StreamExt as _;
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use super::{
    command::{self, Launch},
    error::TaskError,
    execution::feed,
    streams::{TaskStreams, follow_size},
    tasks::Tasks,
};
use crate::{
    engine::{Attached, ContainerId, Executed, Execution},
    model::TaskCommand,
    store::{Instance, Release},
};

/// How long a command has to end after its caller has disconnected.
const GRACE: Duration = Duration::from_secs(5);
/// Interval at which it is asked whether a command has ended whose streams are closed.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

impl Tasks {
    /// Runs a command, or a shell, in the container of an instance, connected to the caller's streams. Returns its exit
    /// status; `hangup` ends it.
    pub async fn enter(
        &self,
        instance: &Instance,
        release: &Release,
        command: Option<TaskCommand>,
        streams: TaskStreams,
        hangup: &CancellationToken,
    ) -> Result<i64, TaskError> {
        let TaskStreams { stdin, output, terminal } = streams;
        let command = command.unwrap_or_else(|| command::shell_of(release));
        let Launch { entrypoint, arguments, mut env } = command::launch(&command, release);
        env.extend(terminal.as_ref().map(|terminal| format!("TERM={}", terminal.name)));
        let execution = Execution {
            command: [entrypoint, arguments].concat(),
            env,
            terminal: terminal.is_some(),
            own_user: release.processes.iter().any(|spec| spec.own_user),
        };
        let container = ContainerId::from(&instance.id);
        let (Attached { stdin: to, output: mut printed }, executed) =
            self.runtime().execute(&container, execution).await?;
        let input = feed(stdin, to);
        let forward = async {
            while let Some(Ok(piece)) = printed.next().await {
                if output.send(piece).await.is_err() {
                    return false;
                }
            }
            true
        };
        let resizes = follow_size(terminal, |size| executed.resize(size));
        let serve_input = async {
            tokio::join!(input, resizes);
            std::future::pending::<std::convert::Infallible>().await
        };
        let ended = tokio::select! {
            complete = forward => complete,
            () = hangup.cancelled() => false,
            () = self.shutdown().cancelled() => false,
            never = serve_input => match never {},
        };
        if !ended {
            end(&executed).await?;
        }
        status(&executed).await
    }
}

/// Ends a command whose caller has disconnected: asked first, killed after the grace period.
async fn end(executed: &Executed) -> Result<(), TaskError> {
    for signal in [Signal::HUP, Signal::TERM] {
        executed.signal(signal).await?;
    }
    if tokio::time::timeout(GRACE, status(executed)).await.is_err() {
        executed.signal(Signal::KILL).await?;
    }
    Ok(())
}

/// Waits for the exit status of a command whose streams are closed.
async fn status(executed: &Executed) -> Result<i64, TaskError> {
    loop {
        if let Some(status) = executed.status().await? {
            return Ok(status);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
