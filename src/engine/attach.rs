//! The standard streams of containers, and commands that are run in a running container.

use std::{io, pin::Pin};

use bollard::{
    container::LogOutput,
    errors::Error as DockerError,
    exec::{StartExecOptions, StartExecResults},
    models::ExecConfig,
    query_parameters::{
        AttachContainerOptionsBuilder, ResizeContainerTTYOptionsBuilder, ResizeExecOptionsBuilder,
        WaitContainerOptionsBuilder,
    },
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream::BoxStream};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::AsyncWrite;

use super::{
    container::USER,
    error::{Act, EngineError, Result, status},
    handle::Containers,
    id::ContainerId,
};
use crate::model::TerminalSize;

/// What a process printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Printed {
    /// On standard output, or on its terminal.
    Stdout(Bytes),
    /// On standard error.
    Stderr(Bytes),
}

/// The standard streams of a container, or of a command that runs in it.
pub struct Attached {
    /// Standard input. It ends when this is dropped or shut down.
    pub stdin: Pin<Box<dyn AsyncWrite + Send>>,
    /// What is printed, from the first byte to the last.
    pub output: BoxStream<'static, Result<Printed>>,
}

/// A command that is to be run in a running container. Not `Debug`: its environment may hold secrets.
#[derive(Clone)]
pub struct Execution {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Environment variables in addition to the container's, as `NAME=value`.
    pub env: Vec<String>,
    /// The size of its terminal, if it gets one.
    pub terminal: Option<TerminalSize>,
    /// Whether it runs as the user of the image instead of the app's.
    pub own_user: bool,
}

/// A command that was started in a container. When it is dropped the command goes on, unless it was
/// [signalled](Self::signal).
pub struct Executed {
    containers: Containers,
    id: String,
}

impl Attached {
    fn new(
        what: String,
        stdin: Pin<Box<dyn AsyncWrite + Send>>,
        output: impl Stream<Item = Result<LogOutput, DockerError>> + Send + 'static,
    ) -> Self {
        let output = output.filter_map(move |output| {
            std::future::ready(match output {
                Ok(LogOutput::StdOut { message } | LogOutput::Console { message }) => {
                    Some(Ok(Printed::Stdout(message)))
                }
                Ok(LogOutput::StdErr { message }) => Some(Ok(Printed::Stderr(message))),
                Ok(LogOutput::StdIn { .. }) => None,
                Err(e) => Some(Err(EngineError::docker(Act::Attach, what.as_str())(e))),
            })
        });
        Self { stdin, output: output.boxed() }
    }
}

impl Containers {
    /// Connects to the standard streams of a container. Before its start, so that no output is lost.
    pub async fn attach(&self, id: &ContainerId) -> Result<Attached> {
        let options = AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).stderr(true).build();
        let what = format!("container {id}");
        let attached = self.0.docker().attach_container(id.as_str(), Some(options)).await;
        let attached = attached.map_err(EngineError::docker(Act::Attach, what.as_str()))?;
        Ok(Attached::new(what, attached.input, attached.output))
    }

    /// Waits until a container has ended; returns its exit code, and `None` if it does not exist any more.
    ///
    /// # Errors
    ///
    /// [`EngineError::StillRuns`] if the engine ended the wait early.
    pub async fn wait(&self, id: &ContainerId) -> Result<Option<i64>> {
        let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
        let mut waited = Box::pin(self.0.docker().wait_container(id.as_str(), Some(options)));
        match waited.next().await {
            None | Some(Ok(_) | Err(DockerError::DockerContainerWaitError { .. })) => {}
            Some(Err(e)) if status(&e) == Some(404) => return Ok(None),
            Some(Err(e)) => return Err(EngineError::docker(Act::Wait, format!("container {id}"))(e)),
        }
        match self.inspect(id.as_str()).await? {
            None => Ok(None),
            // An engine that is being restarted ends all requests.
            Some(container) if container.state.is_alive() => Err(EngineError::StillRuns(id.0.clone())),
            Some(container) => Ok(Some(container.exit_code.unwrap_or(255))),
        }
    }

    /// Sets the size of the terminal of a running container.
    pub async fn resize(&self, id: &ContainerId, TerminalSize { columns, rows }: TerminalSize) -> Result<()> {
        let options = ResizeContainerTTYOptionsBuilder::new().w(columns.into()).h(rows.into()).build();
        let resized = self.0.docker().resize_container_tty(id.as_str(), options).await;
        resized.map_err(EngineError::docker(Act::Resize, format!("the terminal of container {id}")))
    }

    /// Starts a command in a running container; returns its standard streams, too.
    pub async fn execute(&self, id: &ContainerId, execution: Execution) -> Result<(Attached, Executed)> {
        let what = format!("container {id}");
        let config = ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(execution.terminal.is_some()),
            console_size: execution.terminal.and_then(console_size),
            env: Some(execution.env),
            cmd: Some(execution.command),
            user: (!execution.own_user).then(|| USER.to_owned()),
            ..ExecConfig::default()
        };
        let created = self.0.docker().create_exec(id.as_str(), config).await;
        let created = created.map_err(EngineError::docker(Act::Execute, what.as_str()))?.id;
        let options = StartExecOptions { detach: false, tty: execution.terminal.is_some(), output_capacity: None };
        let started = self.0.docker().start_exec(&created, Some(options)).await;
        match started.map_err(EngineError::docker(Act::Execute, what.as_str()))? {
            StartExecResults::Attached { output, input } => {
                Ok((Attached::new(what, input, output), Executed { containers: self.clone(), id: created }))
            }
            StartExecResults::Detached => Err(EngineError::Incomplete("the streams of a command")),
        }
    }
}

impl Executed {
    /// Sets the size of the terminal of a running command.
    pub async fn resize(&self, TerminalSize { columns, rows }: TerminalSize) -> Result<()> {
        let options = ResizeExecOptionsBuilder::new().w(columns.into()).h(rows.into()).build();
        let resized = self.containers.0.docker().resize_exec(&self.id, options).await;
        resized.map_err(EngineError::docker(Act::Resize, "the terminal of a command"))
    }

    /// Exit code of the command; `None` while it runs.
    pub async fn status(&self) -> Result<Option<i64>> {
        match self.containers.0.docker().inspect_exec(&self.id).await {
            Ok(found) if found.running == Some(true) => Ok(None),
            Ok(found) => Ok(Some(found.exit_code.unwrap_or(137))),
            // It went with its container.
            Err(e) if status(&e) == Some(404) => Ok(Some(137)),
            Err(e) => Err(EngineError::docker(Act::Inspect, "a command in a container")(e)),
        }
    }

    /// Sends a signal to the command and to all processes of its session: what it has started, unless that began a session of
    /// its own. The engine has no request for that.
    pub async fn signal(&self, signal: Signal) -> Result<()> {
        self.session(Some(signal)).await.map(drop)
    }

    /// Whether a process of the command's session runs.
    pub async fn is_alive(&self) -> Result<bool> {
        Ok(self.session(None).await? > 0)
    }

    async fn session(&self, signal: Option<Signal>) -> Result<usize> {
        let found = match self.containers.0.docker().inspect_exec(&self.id).await {
            Ok(found) => found,
            Err(e) if status(&e) == Some(404) => return Ok(0),
            Err(e) => return Err(EngineError::docker(Act::Inspect, "a command in a container")(e)),
        };
        let leader = found.pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let (Some(leader), Some(container)) = (leader, found.container_id) else { return Ok(0) };
        let found = tokio::task::spawn_blocking(move || signal_session(leader, &container, signal)).await;
        found
            .map_err(io::Error::from)
            .and_then(|found| found)
            .map_err(|source| EngineError::CannotRead { path: "/proc".into(), source })
    }
}

/// Finds the processes of a container that are in the session of this leader, and sends them a signal, if one is given;
/// returns their number. The leader may have ended: its number is not given to another process as long as the session
/// exists.
fn signal_session(leader: Pid, container: &str, signal: Option<Signal>) -> io::Result<usize> {
    let mut number = 0;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else { continue };
        // The descriptor keeps the process from being mistaken for a later one of the same number. Each step fails only if
        // the process has ended.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        let of_process = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", pid.as_raw_nonzero()));
        let Ok(stat) = of_process("stat") else { continue };
        let runs_in_session = session(&stat) == Some(leader);
        if runs_in_session
            && of_process("cgroup").is_ok_and(|groups| is_in_container(&groups, container))
            && signal.is_none_or(|signal| pidfd_send_signal(&process, signal).is_ok())
        {
            number += 1;
        }
    }
    Ok(number)
}

/// The session of a process, of its line in `/proc/PID/stat`; `None` if the process has ended.
fn session(stat: &str) -> Option<Pid> {
    // The name of the program, in parentheses, may contain anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    // A process that is just ending has the session -1, which is no process id.
    let session = fields.nth(2)?.parse().ok().filter(|id| *id > 0).and_then(Pid::from_raw);
    session.filter(|_| !["Z", "X"].contains(&state))
}

/// Size of a terminal at its start, as the engine wants it; `None` if the client does not know it.
pub(super) fn console_size(size: TerminalSize) -> Option<Vec<usize>> {
    (size.rows > 0 && size.columns > 0).then(|| vec![size.rows.into(), size.columns.into()])
}

/// Whether a process with these lines of `/proc/PID/cgroup` is in a container. The engine names the container's control group
/// by its id (cgroup driver `cgroupfs`), or `docker-ID.scope` (`systemd`).
pub(super) fn is_in_container(groups: &str, id: &str) -> bool {
    let mut names = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)?.rsplit('/').next());
    !id.is_empty() && names.any(|name| name == id || name == format!("docker-{id}.scope"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_of_a_process_that_runs() {
        assert_eq!(session("12 (sh) S 1 12 9 34816 0"), Pid::from_raw(9));
        for ending in ["12 (sh) X 0 -1 -1 0 -1", "12 (sh) R 0 -1 -1 0 -1", "12 (sh) S 1 12 0 0 0"] {
            assert_eq!(session(ending), None, "{ending}");
        }
        assert_eq!(session("12 (a) S 1 (b) S 7 12 8 0"), Pid::from_raw(8));
        for line in ["12 (sh) Z 1 12 9 34816 0", "12 (sh) S 1", "", "12 sh S 1 2 3"] {
            assert_eq!(session(line), None, "{line}");
        }
    }

    #[test]
    fn a_process_is_in_the_container_whose_control_group_is_its_own() {
        for groups in [
            "0::/docker/0c4f\n",
            "0::/paas.slice/docker-0c4f.scope\n",
            "0::/../0c4f",
            "12:cpu,cpuacct:/docker/0c4f\n11:name=systemd:/docker/0c4f\n0::/system.slice/docker.service\n",
        ] {
            assert!(is_in_container(groups, "0c4f"), "{groups}");
        }
        for groups in ["", "0::/", "0::/docker/0c4f0", "0::/docker/0c4f/other", "0::/docker/other-0c4f.scope", "0c4f"] {
            assert!(!is_in_container(groups, "0c4f"), "{groups}");
        }
        assert!(!is_in_container("0::/", ""));
    }
}
