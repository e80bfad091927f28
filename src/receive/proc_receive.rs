//! The server's side of the `proc-receive` hook: githooks(5), with frames around it, since the hook has two outputs.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::OwnedSemaphorePermit,
    time::timeout,
};

use super::{
    Push, Receiver, RefUpdate, Rejection, hook,
    pkt_line::{self, invalid},
};
use crate::{
    model::{BranchName, CommitId, Line},
    progress::Progress,
};

/// The most branches that one push may update, and the most options it may have.
const MOST_LINES: usize = 1000;

/// How long a hook has to say whose it is, and what is wanted: git says it at once.
const INTRODUCTION: Duration = Duration::from_secs(20);

/// A pusher who takes no line for so long is gone.
const STALLED: Duration = Duration::from_mins(1);

/// The longest reason that is given for a refusal, in characters.
const LONGEST_REASON: usize = 1000;

/// One hook: its nonce, then its conversation.
pub(super) async fn session(receiver: Receiver, stream: UnixStream, unknown: OwnedSemaphorePermit) {
    let user = receiver.0.repositories.user_id().unwrap_or_else(|| rustix::process::geteuid().as_raw());
    if !stream.peer_cred().is_ok_and(|peer| peer.uid() == user) {
        tracing::warn!("somebody else than git's user came to the hook's socket");
        return;
    }
    let (read, write) = stream.into_split();
    let mut hook = Hook { from: BufReader::new(read), to: write };
    let mut nonce = [0; 33];
    if !timeout(INTRODUCTION, hook.from.read_exact(&mut nonce)).await.is_ok_and(|read| read.is_ok()) {
        return;
    }
    // Under the lock, so that a push that ends at this moment either waits for this session or has none.
    let found = {
        let mut expected = receiver.lock();
        let push = std::str::from_utf8(&nonce).ok().and_then(|nonce| expected.remove(nonce.trim_end()));
        push.map(|push| (push.tasks.token(), push))
    };
    drop(unknown);
    let Some((_running, push)) = found else {
        tracing::warn!("a hook came with a nonce that no push has");
        return;
    };
    push.unpacked.store(true, Ordering::Release);
    if let Err(error) = converse(&receiver, &push, &mut hook).await {
        // Whoever pushed learns that it failed, so it must not go on.
        push.cancel.cancel();
        push.refused.store(true, Ordering::Release);
        tracing::info!(app = %push.app, %error, "the hook's conversation broke off");
        if error.kind() == io::ErrorKind::InvalidData {
            let text = format!("{}\n", Line::Trouble(format!("The push is refused: {error}")));
            let _ = hook.frame(hook::ERR, text.as_bytes()).await;
            let _ = hook.frame(hook::VERDICT, &[1]).await;
        }
    }
}

async fn converse(receiver: &Receiver, push: &Arc<Push>, hook: &mut Hook) -> io::Result<()> {
    let wanted = timeout(INTRODUCTION, introduction(hook)).await.map_err(|_| invalid("it says nothing"))??;
    let alone = wanted.commands.len() <= 1;
    let mut report = Vec::new();
    for command in &wanted.commands {
        let decided = match command.update(push) {
            Ok(_) if wanted.atomic && !alone => {
                Err(Rejection("an atomic push of several branches is not supported; push them one by one".into()))
            }
            Ok(update) => decide(receiver, push, update, hook).await?,
            Err(rejection) => Err(rejection),
        };
        let answer = match decided {
            Ok(()) => [b"ok ", &command.name[..]].concat(),
            Err(Rejection(reason)) => {
                push.refused.store(true, Ordering::Release);
                let reason: String = Line::sanitize(&reason).chars().take(LONGEST_REASON).collect();
                [b"ng ", &command.name[..], b" ", reason.as_bytes()].concat()
            }
        };
        pkt_line::write(&mut report, &answer);
    }
    report.extend(pkt_line::FLUSH);
    for part in report.chunks(hook::LONGEST) {
        hook.frame(hook::OUT, part).await?;
    }
    hook.frame(hook::VERDICT, &[0]).await
}

/// What a push wants, as git tells its hook.
struct Wanted {
    commands: Vec<Command>,
    atomic: bool,
}

/// `old new name`; the name is whatever the client made up.
#[derive(Debug)]
struct Command {
    old: CommitId,
    new: CommitId,
    name: Vec<u8>,
}

async fn introduction(hook: &mut Hook) -> io::Result<Wanted> {
    let hello = pkt_line::section(&mut hook.from, 1).await?;
    let hello = hello.first().ok_or_else(|| invalid("git names no version of its hook"))?;
    let mut parts = hello.splitn(2, |byte| *byte == 0);
    if parts.next() != Some(b"version=1") {
        return Err(invalid("this version of git talks to its hook in a way that is not known here"));
    }
    let features: Vec<_> = parts.next().unwrap_or_default().split(|byte| *byte == b' ').collect();
    let offered = |feature: &[u8]| features.contains(&feature);
    let (push_options, atomic) = (offered(b"push-options"), offered(b"atomic"));
    let mut answer = Vec::new();
    pkt_line::write(&mut answer, if push_options { b"version=1\0push-options" } else { b"version=1" });
    answer.extend(pkt_line::FLUSH);
    hook.frame(hook::OUT, &answer).await?;

    let commands = pkt_line::section(&mut hook.from, MOST_LINES).await?;
    let commands = commands.iter().map(|line| Command::parse(line)).collect::<io::Result<_>>()?;
    if push_options {
        // They mean nothing to us, but must be read.
        pkt_line::section(&mut hook.from, MOST_LINES).await?;
    }
    Ok(Wanted { commands, atomic })
}

impl Command {
    fn parse(line: &[u8]) -> io::Result<Self> {
        let wrong = || invalid("a command that is none");
        let mut words = line.splitn(3, |byte| *byte == b' ');
        let mut id = || {
            let word = words.next().and_then(|word| std::str::from_utf8(word).ok()).ok_or_else(wrong)?;
            word.parse::<CommitId>().map_err(|_| wrong())
        };
        let (old, new) = (id()?, id()?);
        let name = words.next().filter(|name| !name.is_empty()).ok_or_else(wrong)?.to_vec();
        Ok(Self { old, new, name })
    }

    fn update(&self, push: &Push) -> Result<RefUpdate, Rejection> {
        let name = self.name.strip_prefix(b"refs/heads/");
        let name = name.ok_or_else(|| Rejection("this is no branch".to_owned()))?;
        let name = std::str::from_utf8(name).map_err(|_| Rejection("a branch's name must be UTF-8".to_owned()))?;
        let branch: BranchName = name.parse().map_err(|e: crate::model::InvalidName| Rejection(e.to_string()))?;
        let some = |id: &CommitId| Some(id.clone()).filter(|id| !id.is_zero());
        let (old, new) = (some(&self.old), some(&self.new));
        if old.is_none() && new.is_none() {
            return Err(Rejection("there is no such branch".to_owned()));
        }
        Ok(RefUpdate { app: push.app.clone(), pusher: push.pusher.clone(), branch, old, new })
    }
}

/// Lets the handler decide, and carries its lines. The handler is a task of its own: past its commit point it completes,
/// whoever goes away.
async fn decide(
    receiver: &Receiver,
    push: &Arc<Push>,
    update: RefUpdate,
    hook: &mut Hook,
) -> io::Result<Result<(), Rejection>> {
    if let Some(new) = &update.new {
        match push.repository.commit_exists(new).await {
            Ok(true) => {}
            Ok(false) => return Ok(Err(Rejection("a branch must be at a commit; push tags to refs/tags".to_owned()))),
            Err(error) => return Ok(Err(Rejection(error.to_string()))),
        }
    }
    let (progress, mut lines) = Progress::channel();
    let (handler, owner) = (Arc::clone(&receiver.0.handler), Arc::clone(push));
    let deciding = push.tasks.track_future(async move {
        let decided = handler.boxed(update, &progress, owner.cancel.clone()).await;
        drop(owner);
        decided
    });
    let deciding = receiver.0.tracker.spawn(deciding);
    let telling = async {
        while let Some(line) = lines.recv().await {
            let line = format!("{}\n", Line::sanitize(&line.to_string()));
            write_frame(&mut hook.to, hook::ERR, line.as_bytes()).await?;
        }
        Ok(())
    };
    let told = tokio::select! {
        told = telling => told,
        gone = gone(&mut hook.from) => Err(gone),
    };
    if told.is_err() {
        push.cancel.cancel();
    }
    // Nobody reads the lines any more, so they no longer hold the handler up.
    drop(lines);
    let decided = deciding.await.unwrap_or_else(|error| {
        tracing::error!(%error, "the handler of a push failed");
        Err(Rejection("the server failed; push again".to_owned()))
    });
    told.map(|()| decided)
}

/// Ends when the hook, or the git that it speaks for, is gone. It has nothing more to say.
async fn gone(from: &mut BufReader<OwnedReadHalf>) -> io::Error {
    match from.read_u8().await {
        Ok(_) => invalid("it says more than it should"),
        Err(error) => error,
    }
}

struct Hook {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
}

impl Hook {
    async fn frame(&mut self, tag: u8, payload: &[u8]) -> io::Result<()> {
        write_frame(&mut self.to, tag, payload).await
    }
}

async fn write_frame(to: &mut OwnedWriteHalf, tag: u8, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(|_| invalid("a frame that is too long"))?;
    let mut bytes = Vec::with_capacity(payload.len() + 5);
    bytes.push(tag);
    bytes.extend(length.to_be_bytes());
    bytes.extend(payload);
    timeout(STALLED, to.write_all(&bytes)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_and_nonsense_refused() {
        let (old, new) = ("0".repeat(40), "1".repeat(40));
        let command = Command::parse(format!("{old} {new} refs/heads/a b").as_bytes()).unwrap();
        assert!(command.old.is_zero());
        assert_eq!(command.name, b"refs/heads/a b");
        for bad in ["", " ", "x y z", &old, &format!("{old} {new}"), &format!("{old} {new} "), &format!("{old}  x")] {
            assert!(Command::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
