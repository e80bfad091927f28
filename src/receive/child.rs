//! One of git's server programs between a client's streams.

use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
};
use tokio_util::sync::CancellationToken;

use super::Streams;
use crate::model::Line;

/// How long git has between TERM and KILL, to remove what it has not finished.
const GRACE: Duration = Duration::from_secs(2);

/// The exit status when there is none of git's own; git uses it, too.
pub(super) const FAILED: u32 = 128;

/// How it went.
#[derive(Debug)]
pub(super) struct Ended {
    /// The exit status for the client.
    pub status: u32,
    /// Bytes that the client sent.
    pub fed: u64,
}

/// Runs the child to its end. A client's end-of-file is no hang-up; `gone`, and a read or a write that fails, are: then
/// the child's whole process group is ended, and `gone` is cancelled.
pub(super) async fn serve(
    mut command: Command,
    git_protocol: Option<String>,
    streams: &mut Streams,
    gone: &CancellationToken,
) -> Ended {
    let Streams { stdin, stdout, stderr } = streams;
    if let Some(protocol) = git_protocol.filter(|p| matches!(p.as_str(), "version=0" | "version=1" | "version=2")) {
        command.env("GIT_PROTOCOL", protocol);
    }
    let mut child = match command.stdin(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            tracing::error!(%error, "git does not start");
            say(stderr, "git does not start on the server: tell its operator").await;
            return Ended { status: FAILED, fed: 0 };
        }
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let mut fed = 0;
    let (child_in, child_out, child_err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let ended = {
        let answering = async {
            // The first that fails ends both.
            tokio::try_join!(pump(child_out, stdout), pump(child_err, stderr))?;
            child.wait().await
        };
        tokio::select! {
            ended = answering => ended.ok(),
            () = feed(stdin, child_in, &mut fed) => None,
            () = gone.cancelled() => None,
        }
    };
    let status = if ended.is_some() {
        ended
    } else {
        gone.cancel();
        end(&mut child, group).await
    };
    let code = |status: ExitStatus| status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Ended { status: status.and_then(code).and_then(|code| u32::try_from(code).ok()).unwrap_or(FAILED), fed }
}

/// Carries what the client sends; returns only when the client is gone for certain. After the child has closed its end,
/// the client's bytes are still taken, so that it comes to read the answer.
async fn feed(from: &mut (impl AsyncRead + Unpin), to: Option<ChildStdin>, fed: &mut u64) {
    let mut to = to;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = match from.read(&mut buffer).await {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) => {
                tracing::debug!(%error, "the client's stream broke");
                return;
            }
        };
        *fed += length as u64;
        if let Some(pipe) = &mut to
            && pipe.write_all(&buffer[..length]).await.is_err()
        {
            to = None;
        }
    }
    drop(to);
    std::future::pending::<()>().await;
}

/// Carries the child's output to its end.
async fn pump(from: Option<impl AsyncRead + Unpin>, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
    }
}

/// TERM to the whole group, then KILL.
async fn end(child: &mut Child, group: Option<Pid>) -> Option<ExitStatus> {
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::TERM);
    }
    let ended = tokio::time::timeout(GRACE, child.wait()).await;
    if let Some(group) = group {
        // Also when the leader ended in time: its hook or index-pack may not have.
        let _ = kill_process_group(group, Signal::KILL);
    }
    match ended {
        Ok(status) => status.ok(),
        Err(_) => child.wait().await.ok(),
    }
}

/// Tells the client about trouble.
pub(super) async fn say(to: &mut (impl AsyncWrite + Unpin), text: &str) {
    let line = format!("{}\n", Line::Trouble(text.to_owned()));
    let _ = to.write_all(line.as_bytes()).await;
    let _ = to.flush().await;
}
