//! Commands of the operating system, run as children.

use std::{ffi::OsStr, process::Stdio};

use tokio::{io::AsyncWriteExt, process::Command};

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It is not installed, or cannot be run.
    #[error("cannot run {program}: {source}; is it installed?")]
    CannotRun {
        /// The command.
        program: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// It says that it failed.
    #[error("{program} failed ({status}): {message}")]
    Failed {
        /// The command.
        program: &'static str,
        /// Its exit code, or 255 after a signal.
        status: i32,
        /// What it printed, in one line.
        message: String,
    },
}

impl ChildError {
    /// Whether the command does not exist on this machine.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::CannotRun { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }

    pub(super) fn status(&self) -> Option<i32> {
        match self {
            Self::Failed { status, .. } => Some(*status),
            Self::CannotRun { .. } => None,
        }
    }
}

/// Runs a command to its end and gives back what it printed.
pub(super) async fn run<A: AsRef<OsStr>>(
    program: &'static str,
    arguments: impl IntoIterator<Item = A>,
    input: Option<&str>,
) -> Result<String, ChildError> {
    let cannot_run = |source| ChildError::CannotRun { program, source };
    let mut child = Command::new(program)
        .args(arguments)
        // A service's PATH may lack the folders of the administrator's commands.
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
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // One that fails before it reads says why by itself.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(cannot_run)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let printed = text(&output.stderr) + &text(&output.stdout);
    let message = printed.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(500).collect();
    Err(ChildError::Failed { program, status: output.status.code().unwrap_or(255), message })
}
