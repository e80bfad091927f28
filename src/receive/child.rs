//! One of git's server programs, run between a client's streams.

use std::{io, os::unix::process::ExitStatusExt as _, process::ExitStatus, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    process::{Child, ChildStdin, Command},
};
use tokio_util::sync::CancellationToken;

use super::shallow;
use crate::{
    git::{Group, Joining, Reader},
    model::Line,
};

/// Grace period of git, in which it removes unfinished files.
const GRACE_PERIOD: Duration = Duration::from_secs(2);

/// The exit status if git has none; git itself uses it as well.
pub(super) const FAILED: u32 = 128;

/// The streams of a client's channel.
pub struct Streams {
    /// Input from the client; its end does not mean that the client disconnected.
    pub stdin: Box<dyn AsyncRead + Send + Unpin>,
    /// Output to the client.
    pub stdout: Box<dyn AsyncWrite + Send + Unpin>,
    /// Error output to the client.
    pub stderr: Box<dyn AsyncWrite + Send + Unpin>,
}

/// How the child ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Exit status for the client.
    pub status: u32,
    /// Number of bytes that the client sent.
    pub received: u64,
}

/// Runs the child to its end. The client counts as disconnected when `disconnected` is cancelled, or when a read or
/// write fails, but not at its end-of-file. Then the child's whole process group is ended, and `disconnected` is
/// cancelled. For a push, `pushed_to` is the reader of its repository. If the processes of the control group exceed a limit of it,
/// the client is told.
pub(super) async fn serve(
    mut command: Command,
    group: &Group,
    git_protocol: Option<String>,
    streams: &mut Streams,
    pushed_to: Option<&Reader>,
    disconnected: &CancellationToken,
) -> Ended {
    let Streams { stdin, stdout, stderr } = streams;
    if let Some(protocol) = git_protocol.filter(|p| matches!(p.as_str(), "version=0" | "version=1" | "version=2")) {
        command.env("GIT_PROTOCOL", protocol);
    }
    let (mut child, joining) = match group.spawn(&mut command) {
        Ok(started) => started,
        Err(error) => {
            tracing::error!(%error, "git does not start");
            report(stderr, "git does not start on the server: tell its operator").await;
            return Ended { status: FAILED, received: 0 };
        }
    };
    let processes = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let (mut received, mut refused) = (0, None);
    let (child_in, child_out, child_err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let ended = {
        let answering = async {
            // The first that fails ends both.
            tokio::try_join!(copy_output(child_out, stdout), copy_output(child_err, &mut *stderr))?;
            child.wait().await
        };
        tokio::select! {
            ended = answering => ended.ok(),
            () = copy_input(stdin, (child_in, joining), pushed_to, &mut received, &mut refused) => None,
            () = disconnected.cancelled() => None,
        }
    };
    if let Some(refused) = refused {
        report(stderr, &refused).await;
    }
    let status = if ended.is_some() {
        ended
    } else {
        disconnected.cancel();
        end(&mut child, processes).await
    };
    if let Some(exceeded) = group.exceeded() {
        tracing::warn!("{exceeded}");
        report(stderr, &exceeded.to_string()).await;
    }
    let code = |status: ExitStatus| status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Ended { status: status.and_then(code).and_then(|code| u32::try_from(code).ok()).unwrap_or(FAILED), received }
}

/// Copies the client's input to the child; returns only when the client has certainly disconnected. After the child has
/// closed its stdin, the input is still read, so that the client goes on to read the output. `refused` gets the reason for
/// which git will refuse a shallow clone. The child gets no input before it is in its control group.
async fn copy_input(
    from: &mut (impl AsyncRead + Unpin),
    (to, mut joining): (Option<ChildStdin>, Joining),
    pushed_to: Option<&Reader>,
    received: &mut u64,
    refused: &mut Option<String>,
) {
    joining.wait().await;
    let mut to = to;
    let mut buffer = vec![0; 64 * 1024];
    if let Some(reader) = pushed_to {
        let Ok(begun) = shallow::begin(from, reader).await else { return };
        *received += begun.bytes.len() as u64;
        *refused = begun.refused;
        if let Some(pipe) = &mut to
            && pipe.write_all(&begun.bytes).await.is_err()
        {
            to = None;
        }
    }
    loop {
        let length = match from.read(&mut buffer).await {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) => {
                tracing::debug!(%error, "cannot read from the client");
                return;
            }
        };
        *received += length as u64;
        if let Some(pipe) = &mut to
            && pipe.write_all(&buffer[..length]).await.is_err()
        {
            to = None;
        }
    }
    drop(to);
    std::future::pending::<()>().await;
}

/// Copies the child's output to its end.
async fn copy_output(from: Option<impl AsyncRead + Unpin>, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
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

/// Ends the whole process group: TERM, then KILL.
async fn end(child: &mut Child, group: Option<Pid>) -> Option<ExitStatus> {
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::TERM);
    }
    let ended = tokio::time::timeout(GRACE_PERIOD, child.wait()).await;
    if let Some(group) = group {
        // Even if the group leader has ended: its hook or index-pack may still run.
        let _ = kill_process_group(group, Signal::KILL);
    }
    match ended {
        Ok(status) => status.ok(),
        Err(_) => child.wait().await.ok(),
    }
}

/// Reports a failure to the client.
pub(super) async fn report(to: &mut (impl AsyncWrite + Unpin), text: &str) {
    write(to, &format!("{}\n", Line::Trouble(text.to_owned()))).await;
}

/// Writes text for the client. It is no error if the client has disconnected.
pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), text: &str) {
    let _ = to.write_all(text.as_bytes()).await;
    let _ = to.flush().await;
}
