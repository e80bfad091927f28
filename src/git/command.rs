//! Results of git commands.

use std::process::{Output, Stdio};

use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{
    error::{GitError, Result},
    groups::Group,
};
use crate::{model::Line, oom_score::OomScore};

/// Runs a command until it ends; returns its standard output.
pub(super) async fn output(mut command: Command) -> Result<String> {
    let child = command.spawn().map_err(GitError::Start)?;
    OomScore::Ordinary.apply_to(child.id());
    let output = child.wait_with_output().await.map_err(GitError::Start)?;
    text_of(&first_argument(&command), output)
}

/// The same for a command behind the gate of a group ([`Group::run`]); `name` is git's command.
pub(super) async fn output_in(group: &Group, name: &str, gated: Command) -> Result<String> {
    let output = group.run(gated).await.map_err(GitError::Start)?;
    match group.exceeded() {
        Some(limit) if !output.status.success() => {
            Err(GitError::Command { command: name.to_owned(), message: limit.to_string() })
        }
        _ => text_of(name, output),
    }
}

/// The same for a command that reads `input`.
pub(super) async fn output_of_input(mut command: Command, input: Vec<u8>) -> Result<String> {
    let mut child = command.stdin(Stdio::piped()).spawn().map_err(GitError::Start)?;
    OomScore::Ordinary.apply_to(child.id());
    let stdin = child.stdin.take();
    let write = async move {
        if let Some(mut stdin) = stdin {
            // A command that fails reads no further; its message tells why.
            let _ = stdin.write_all(&input).await;
        }
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), write);
    text_of(&first_argument(&command), output.map_err(GitError::Start)?)
}

fn text_of(name: &str, output: Output) -> Result<String> {
    if !output.status.success() {
        return Err(command_failed(name, &output.stderr));
    }
    String::from_utf8(output.stdout).map_err(|_| GitError::Unexpected("not UTF-8".to_owned()))
}

fn first_argument(command: &Command) -> String {
    command.as_std().get_args().next().map_or_else(String::new, |word| word.to_string_lossy().into_owned())
}

/// Makes the error of a failed git command from its standard error.
fn command_failed(name: &str, stderr: &[u8]) -> GitError {
    let text = String::from_utf8_lossy(stderr);
    // The lines after the one with the reason are advice or repetition.
    let fatal = text.lines().find_map(|line| line.strip_prefix("fatal: "));
    let last = || text.lines().rfind(|line| !line.trim().is_empty());
    let message = fatal.or_else(last).unwrap_or("no error message");
    GitError::Command { command: name.to_owned(), message: Line::sanitize(message) }
}
