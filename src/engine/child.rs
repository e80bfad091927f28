//! Commands of the operating system that run as child processes.

use std::{ffi::OsStr, process::Stdio};

use tokio::{io::AsyncWriteExt, process::Command};

use crate::oom_score::OomScore;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The command is not installed, or cannot be run.
    #[error("cannot run {program}: {source}; is it installed?")]
    CannotRun {
        /// Command.
        program: &'static str,
        /// Cause.
        source: std::io::Error,
    },
    /// The command ended with a non-zero exit code.
    #[error("{program} failed ({status}): {message}")]
    Failed {
        /// Command.
        program: &'static str,
        /// Exit code; 255 if a signal ended the command.
        status: i32,
        /// Output of the command, on one line.
        message: String,
    },
    /// The command succeeded, but what it changed is not as it should be.
    #[error(
        "{program} set the rules {times} times, and they were changed again each time: find the program on this machine \
         that changes the packet filters all the time, such as a firewall service, and stop it"
    )]
    NoEffect {
        /// Command.
        program: &'static str,
        /// How often it ran.
        times: u32,
    },
}

impl ChildError {
    /// Whether the command is not installed.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::CannotRun { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }

    /// Exit code, if the command ran.
    pub(super) fn status(&self) -> Option<i32> {
        match self {
            Self::Failed { status, .. } => Some(*status),
            Self::CannotRun { .. } | Self::NoEffect { .. } => None,
        }
    }
}

/// Runs a command until it ends; returns its standard output.
pub(super) async fn run<A: AsRef<OsStr>>(
    program: &'static str,
    arguments: impl IntoIterator<Item = A>,
    input: Option<&str>,
) -> Result<String, ChildError> {
    let cannot_run = |source| ChildError::CannotRun { program, source };
    let mut child = Command::new(program)
        .args(arguments)
        // The PATH of a service may lack the sbin folders.
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(cannot_run)?;
    OomScore::Ordinary.apply_to(child.id());
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // A command that ends before it reads its input reports the cause itself.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(cannot_run)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let both = text(&output.stderr) + &text(&output.stdout);
    let message = both.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(500).collect();
    Err(ChildError::Failed { program, status: output.status.code().unwrap_or(255), message })
}
