//! Commands in the container of a running instance. They have no row: they end with their caller, or with the instance.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    attended::attended,
    error::TaskError,
    streams::{TaskStreams, Terminal},
    tasks::Tasks,
};
use crate::{
    engine::{ContainerId, Executed, Execution},
    model::TaskCommand,
    store::{Instance, Release},
    workload::command::{self, Launch},
};

/// How long a command has to end after its caller has disconnected.
const GRACE: Duration = Duration::from_secs(5);
/// Number of errors in a row after which the engine is not asked again.
const MAX_ERRORS: u32 = 100;
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
        mut streams: TaskStreams,
        hangup: &CancellationToken,
    ) -> Result<i64, TaskError> {
        let command = command.unwrap_or_else(|| command::shell_of(release));
        let Launch { entrypoint, arguments, mut env } = command::launch(&command, release);
        env.extend(streams.terminal.as_ref().map(|terminal| format!("TERM={}", terminal.name)));
        let execution = Execution {
            command: [entrypoint, arguments].concat(),
            env,
            terminal: streams.terminal.as_ref().map(Terminal::size),
            own_user: release.own_user(),
        };
        let container = ContainerId::from(&instance.id);
        let (attached, executed) = self.runtime().execute(&container, execution).await?;
        streams.begin();
        let executed = Arc::new(executed);
        let guard = EndOnDrop { executed: Arc::clone(&executed), tracker: self.tracker().clone() };
        let ends = attended(attached, streams, |size| executed.resize(size), status(&executed));
        let limit = Duration::from_secs(self.limits().run_seconds);
        let ended = tokio::select! {
            ended = ends => ended.ok(),
            () = hangup.cancelled() => None,
            () = self.shutdown().cancelled() => None,
            () = tokio::time::sleep(limit) => None,
        };
        // The guard ends it, and what it has left behind.
        drop(guard);
        ended.ok_or(TaskError::Disconnected)?
    }
}

/// A command in an instance. When it is dropped, the command and what it has started are ended in the background.
struct EndOnDrop {
    executed: Arc<Executed>,
    tracker: TaskTracker,
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let executed = Arc::clone(&self.executed);
        self.tracker.spawn(async move {
            if let Err(error) = end(&executed).await {
                tracing::warn!(%error, "cannot end a command in an instance");
            }
        });
    }
}

/// Ends a command and what it has started: asked first, killed after the grace period.
async fn end(executed: &Executed) -> Result<(), TaskError> {
    executed.signal(Signal::HUP).await?;
    executed.signal(Signal::TERM).await?;
    let until = Instant::now() + GRACE;
    while executed.is_alive().await? {
        if Instant::now() >= until {
            executed.signal(Signal::KILL).await?;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// Waits for the exit status of a command.
async fn status(executed: &Executed) -> Result<i64, TaskError> {
    let mut errors = 0;
    loop {
        match executed.status().await {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => errors = 0,
            Err(error) => {
                errors += 1;
                if errors == MAX_ERRORS {
                    return Err(error.into());
                }
            }
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
