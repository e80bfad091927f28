//! One attempt of a command check: a command in the instance's container, limited in time and output.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use rustix::process::Signal;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_util::task::TaskTracker;

use super::{check_target::CheckTarget, unhealthy::CommandFault};
use crate::{
    engine::{Attached, ContainerId, EngineError, Executed, Execution, Printed},
    model::Line,
    workload::command::{self, Launch},
};

/// Interval at which it is asked whether a command has ended that left its output open.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Longest wait for the engine, besides the command's own limit.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(10);
/// Length of the last line that is kept, in bytes.
const MAX_LINE_LEN: usize = 200;

/// The last line of an output, of any length.
#[derive(Debug, Default)]
struct LastLine {
    current: Vec<u8>,
    last: Vec<u8>,
}

impl LastLine {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' | b'\r' if self.current.is_empty() => {}
                b'\n' | b'\r' => self.last = std::mem::take(&mut self.current),
                _ if self.current.len() < MAX_LINE_LEN => self.current.push(*byte),
                _ => {}
            }
        }
    }

    fn text(&self) -> Option<String> {
        let line = if self.current.is_empty() { &self.last } else { &self.current };
        Some(Line::sanitize(String::from_utf8_lossy(line).trim())).filter(|line| !line.is_empty())
    }
}

/// A command that runs. It is killed when this is dropped before it has ended.
struct Running {
    executed: Arc<Executed>,
    has_ended: bool,
    container: ContainerId,
    tracker: TaskTracker,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let (executed, container) = (Arc::clone(&self.executed), self.container.clone());
        self.tracker.spawn(async move {
            let killed = timeout(ENGINE_TIMEOUT, executed.signal(Signal::KILL)).await;
            if !matches!(killed, Ok(Ok(()))) {
                tracing::warn!(?killed, %container, "cannot kill the command of a health check");
            }
        });
    }
}

/// Starts a command in a container. The engine may do so when nobody waits for it any more: it is then killed.
async fn start(target: &CheckTarget, execution: Execution) -> Result<(Attached, Running), CommandFault> {
    let (sender, started) = oneshot::channel();
    let CheckTarget { runtime, container, tracker, .. } = target.clone();
    target.tracker.spawn(async move {
        let executed = runtime.execute(&container, execution).await;
        let running = executed.map(|(attached, executed)| {
            (attached, Running { executed: Arc::new(executed), has_ended: false, container, tracker })
        });
        let _ = sender.send(running);
    });
    match timeout(ENGINE_TIMEOUT, started).await {
        Ok(Ok(started)) => started.map_err(|error| not_run(&error.to_string())),
        Ok(Err(_)) => Err(not_run("the server is shutting down")),
        Err(_) => Err(not_run("Docker does not respond")),
    }
}

fn not_run(why: &str) -> CommandFault {
    CommandFault::NotRun(Line::sanitize(why))
}

/// Runs a command in the container of an instance, with the environment of its processes.
pub(super) async fn attempt(target: &CheckTarget, command: &[String], limit: Duration) -> Result<(), CommandFault> {
    let release = &target.release;
    let Launch { entrypoint, arguments, env } = command::program(command, release);
    let execution =
        Execution { command: [entrypoint, arguments].concat(), env, terminal: None, own_user: release.own_user() };
    let (attached, mut running) = start(target, execution).await?;
    let mut last = LastLine::default();
    let ended = timeout(limit, ended(attached, &running.executed, &mut last)).await;
    running.has_ended = matches!(ended, Ok(Ok(_)));
    match ended {
        Ok(Ok(0)) => Ok(()),
        Ok(Ok(status)) => Err(CommandFault::Status { status, last_line: last.text() }),
        Ok(Err(error)) => Err(not_run(&error.to_string())),
        Err(_) => Err(CommandFault::TimedOut { limit, last_line: last.text() }),
    }
}

/// Reads what a command prints until it has ended. Returns its exit status.
async fn ended(attached: Attached, executed: &Executed, last: &mut LastLine) -> Result<i64, EngineError> {
    let Attached { stdin, mut output } = attached;
    drop(stdin);
    loop {
        tokio::select! {
            printed = output.next() => match printed {
                Some(Ok(Printed::Stdout(bytes) | Printed::Stderr(bytes))) => last.add(&bytes),
                Some(Err(error)) => return Err(error),
                None => break,
            },
            // What it started may keep the output open.
            () = sleep(POLL_INTERVAL) => {
                if let Some(status) = executed.status().await? {
                    return Ok(status);
                }
            }
        }
    }
    loop {
        if let Some(status) = executed.status().await? {
            return Ok(status);
        }
        sleep(POLL_INTERVAL / 10).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_kept_whatever_is_printed() {
        let last = |pieces: &[&str]| {
            let mut last = LastLine::default();
            for piece in pieces {
                last.add(piece.as_bytes());
            }
            last.text()
        };
        assert_eq!(last(&[]), None);
        assert_eq!(last(&["\n\n"]), None);
        assert_eq!(last(&["one\ntw", "o\n\n"]).as_deref(), Some("two"));
        assert_eq!(last(&["one\r\ntwo"]).as_deref(), Some("two"));
        assert_eq!(last(&[&"x".repeat(1_000_000)]).map(|line| line.len()), Some(MAX_LINE_LEN));
    }
}
