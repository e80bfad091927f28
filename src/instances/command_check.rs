//! One attempt of a command check: a command in the instance's container, limited in time and output.

use std::time::Duration;

use futures_util::StreamExt as _;
use rustix::process::Signal;
use tokio::time::{sleep, timeout};

use super::unhealthy::CommandFault;
use crate::{
    engine::{Attached, ContainerId, Executed, Execution, Printed},
    model::Line,
    store::Release,
    workload::{
        Runtime,
        command::{self, Launch},
    },
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

/// Runs a command in the container of an instance of a release, with the environment of its processes.
pub(super) async fn attempt(
    runtime: &Runtime,
    container: &ContainerId,
    release: &Release,
    command: &[String],
    limit: Duration,
) -> Result<(), CommandFault> {
    let Launch { entrypoint, arguments, env } = command::program(command, release);
    let execution =
        Execution { command: [entrypoint, arguments].concat(), env, terminal: None, own_user: release.own_user() };
    let not_run = |why: String| CommandFault::NotRun(Line::sanitize(&why));
    let started = timeout(ENGINE_TIMEOUT, runtime.execute(container, execution)).await;
    let (attached, executed) = started
        .map_err(|_| not_run("Docker does not respond".to_owned()))?
        .map_err(|error| not_run(error.to_string()))?;
    let mut last = LastLine::default();
    match timeout(limit, ended(attached, &executed, &mut last)).await {
        Ok(Ok(0)) => Ok(()),
        Ok(Ok(status)) => Err(CommandFault::Status { status, last_line: last.text() }),
        Ok(Err(error)) => Err(not_run(error.to_string())),
        Err(_) => {
            if let Err(error) = executed.signal(Signal::KILL).await {
                tracing::warn!(%error, %container, "cannot kill the command of a health check");
            }
            Err(CommandFault::TimedOut { limit, last_line: last.text() })
        }
    }
}

/// Reads what a command prints until it has ended. Returns its exit status.
async fn ended(
    attached: Attached,
    executed: &Executed,
    last: &mut LastLine,
) -> Result<i64, crate::engine::EngineError> {
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
