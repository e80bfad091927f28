//! One of git's server programs between a client's streams.

use std::{
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    process::Command,
};
use tokio_util::sync::CancellationToken;

use super::Streams;
use crate::model::Line;

/// What git says when a pack is larger than `receive.maxInputSize`.
const TOO_LARGE: &[u8] = b"exceeds maximum allowed size";

/// How long git has between TERM and KILL.
const GRACE: Duration = Duration::from_secs(2);

/// Runs the child to its end. A client's end-of-file is no hang-up; `hangup`, and a write that fails, are.
pub(super) async fn serve(
    mut command: Command,
    git_protocol: Option<String>,
    streams: Streams,
    hangup: &CancellationToken,
    largest: Option<u64>,
) -> u32 {
    let Streams { mut stdin, stdout, mut stderr } = streams;
    if let Some(protocol) = git_protocol {
        command.env("GIT_PROTOCOL", protocol);
    }
    let spawned = command.stdin(Stdio::piped()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            tracing::error!(%error, "git does not start");
            say(&mut stderr, "git does not start on the server; tell its operator").await;
            return 128;
        }
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let (Some(mut child_in), Some(child_out), Some(child_err)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return 128;
    };
    let feeding = async {
        let _ = tokio::io::copy(&mut stdin, &mut child_in).await;
        let _ = child_in.shutdown().await;
        drop(child_in);
        // The stream itself must live on: dropping it would look like a hang-up to the client's side.
        std::future::pending::<()>().await;
    };
    let (mut too_large_out, mut too_large_err) = (false, false);
    let answering = async {
        let (out, err) = tokio::join!(
            pump(child_out, stdout, &mut too_large_out, hangup),
            pump(child_err, &mut stderr, &mut too_large_err, hangup)
        );
        out && err
    };
    let ended = tokio::select! {
        whole = answering => whole,
        () = feeding => false,
        () = hangup.cancelled() => false,
    };
    let status = if ended { child.wait().await.ok() } else { end(&mut child, group).await };
    if let Some(limit) = largest.filter(|_| too_large_out || too_large_err) {
        let limit = limit.div_ceil(1 << 20);
        let text = format!("the push is larger than {limit} MiB; push less, or raise git.max_push_bytes in paas.toml");
        say(&mut stderr, &text).await;
    }
    status.and_then(|status| status.code()).and_then(|code| u32::try_from(code).ok()).unwrap_or(128)
}

/// Carries the child's output; `false` when the client no longer takes it.
async fn pump(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    too_large: &mut bool,
    hangup: &CancellationToken,
) -> bool {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let length = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => {
                return true;
            }
            Ok(length) => length,
        };
        let bytes = &buffer[..length];
        *too_large |= bytes.windows(TOO_LARGE.len()).any(|window| window == TOO_LARGE);
        if to.write_all(bytes).await.is_err() || to.flush().await.is_err() {
            hangup.cancel();
            return false;
        }
    }
}

/// TERM to the whole group, then KILL.
async fn end(child: &mut tokio::process::Child, group: Option<Pid>) -> Option<ExitStatus> {
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

async fn say(to: &mut (impl AsyncWrite + Unpin), text: &str) {
    let line = format!("{}\n", Line::Trouble(text.to_owned()));
    let _ = to.write_all(line.as_bytes()).await;
    let _ = to.flush().await;
}
