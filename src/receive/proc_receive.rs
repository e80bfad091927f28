//! The server's side of the `proc-receive` hook: githooks(5), with frames around it, since the hook has two outputs.

use std::io;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixStream, unix::OwnedWriteHalf},
    sync::Mutex,
};

use super::{
    Expected, Receiver, RefUpdate, Rejection, hook,
    pkt_line::{self, Packet},
};
use crate::{
    model::{BranchName, CommitId},
    progress::Progress,
};

/// The most branches that one push may update.
const MOST_COMMANDS: usize = 1000;

/// One hook: its nonce, then its conversation.
pub(super) async fn session(receiver: Receiver, stream: UnixStream) {
    let (read, write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut nonce = String::new();
    let limit = 64;
    if (&mut read).take(limit).read_line(&mut nonce).await.is_err() {
        return;
    }
    let Some(expected) = receiver.lock().remove(nonce.trim_end()) else {
        tracing::warn!("a hook came with a nonce that no push has");
        return;
    };
    let sessions = expected.sessions.clone();
    let talked = sessions.track_future(converse(&receiver, &expected, &mut read, &Mutex::new(write))).await;
    if let Err(error) = talked {
        tracing::warn!(app = %expected.app, %error, "the hook's conversation broke off");
    }
}

struct Command {
    old: String,
    new: String,
    name: String,
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

async fn converse(
    receiver: &Receiver,
    expected: &Expected,
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    to: &Mutex<OwnedWriteHalf>,
) -> io::Result<()> {
    let mut push_options = false;
    loop {
        match pkt_line::read(from).await? {
            Packet::Flush => break,
            Packet::Line(line) => {
                let (version, features) = match line.iter().position(|byte| *byte == 0) {
                    Some(end) => (&line[..end], &line[end + 1..]),
                    None => (&line[..], &[][..]),
                };
                if version != b"version=1" {
                    return Err(invalid("a version other than 1"));
                }
                push_options = features.split(|byte| *byte == b' ').any(|feature| feature == b"push-options");
            }
        }
    }
    let mut hello = pkt_line::line(if push_options { "version=1\0push-options" } else { "version=1" });
    hello.extend(pkt_line::FLUSH);
    frame(to, hook::OUT, &hello).await?;

    let commands = read_commands(from).await?;
    if push_options {
        // They mean nothing to us, but must be read.
        while pkt_line::read(from).await? != Packet::Flush {}
    }
    let mut report = Vec::new();
    for command in commands {
        let answer = match handle(receiver, expected, &command, to).await {
            Ok(()) => format!("ok {}", command.name),
            Err(Rejection(reason)) => format!("ng {} {}", command.name, crate::model::Line::sanitize(&reason)),
        };
        report.extend(pkt_line::line(&answer));
    }
    report.extend(pkt_line::FLUSH);
    frame(to, hook::OUT, &report).await?;
    frame(to, hook::VERDICT, b"").await
}

async fn read_commands(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<Vec<Command>> {
    let mut commands = Vec::new();
    loop {
        let line = match pkt_line::read(from).await? {
            Packet::Flush => return Ok(commands),
            Packet::Line(line) => String::from_utf8(line).map_err(|_| invalid("a branch name that is not UTF-8"))?,
        };
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        let (Some(old), Some(new), Some(name)) = (words.next(), words.next(), words.next()) else {
            return Err(invalid("a command that is none"));
        };
        if commands.len() >= MOST_COMMANDS {
            return Err(invalid("too many branches in one push"));
        }
        commands.push(Command { old, new, name });
    }
}

async fn handle(
    receiver: &Receiver,
    expected: &Expected,
    command: &Command,
    to: &Mutex<OwnedWriteHalf>,
) -> Result<(), Rejection> {
    let wrong = |error: &dyn std::fmt::Display| Rejection(error.to_string());
    let short = command.name.strip_prefix("refs/heads/").ok_or_else(|| wrong(&"only branches are handled here"))?;
    let branch: BranchName = short.parse().map_err(|e| wrong(&e))?;
    let id = |text: &str| text.parse::<CommitId>().map(|id| Some(id).filter(|id| !id.is_zero())).map_err(|e| wrong(&e));
    let update = RefUpdate {
        app: expected.app.clone(),
        pusher: expected.pusher.clone(),
        branch,
        old: id(&command.old)?,
        new: id(&command.new)?,
    };
    let (progress, mut lines) = Progress::channel();
    let cancel = expected.cancel.clone();
    let deciding = async {
        let decided = receiver.0.handler.boxed(update, &progress, cancel.clone()).await;
        drop(progress);
        decided
    };
    let telling = async {
        let mut alive = true;
        while let Some(line) = lines.recv().await {
            // A hook that takes nothing any more is gone, and its push with it; the rest of the lines is only drained.
            if alive && frame(to, hook::ERR, format!("{line}\n").as_bytes()).await.is_err() {
                alive = false;
                cancel.cancel();
            }
        }
    };
    tokio::join!(deciding, telling).0
}

async fn frame(to: &Mutex<OwnedWriteHalf>, tag: u8, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(|_| invalid("a frame that is too long"))?;
    let mut bytes = Vec::with_capacity(payload.len() + 5);
    bytes.push(tag);
    bytes.extend(length.to_be_bytes());
    bytes.extend(payload);
    to.lock().await.write_all(&bytes).await
}
