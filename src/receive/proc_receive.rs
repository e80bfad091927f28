//! The server's side of the `proc-receive` hook: githooks(5), in frames, since the hook has two outputs.

use std::{
    collections::HashSet,
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
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::{
    handler::{Decided, DynPushHandler, RefUpdate, Rejection, RequestedPush},
    hook,
    pkt_line::{self, invalid},
    push::Push,
};
use crate::{
    git::QuotaExceeded,
    model::{CommitId, InvalidName, Line, RefName},
    progress::Progress,
};

/// Maximum number of refs that one push may update.
const MAX_UPDATES: usize = 10_000;

/// Maximum number of push options.
const MAX_OPTIONS: usize = 1000;

/// Time that git has to send the updates, which it does at once.
const UPDATES_TIMEOUT: Duration = Duration::from_secs(20);

/// A hook that reads no line for this long counts as disconnected.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);

/// Maximum length of the reason of a rejection, in characters.
const MAX_REASON_LEN: usize = 1000;

/// The connection to a hook.
pub(super) struct HookStream {
    from: BufReader<OwnedReadHalf>,
    to: OwnedWriteHalf,
}

impl HookStream {
    pub(super) fn new(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Self { from: BufReader::new(read), to: write }
    }

    pub(super) async fn read_nonce(&mut self) -> io::Result<[u8; 33]> {
        let mut nonce = [0; 33];
        self.from.read_exact(&mut nonce).await?;
        Ok(nonce)
    }

    /// Reports a failure to the pusher and ends the hook, if it is still there.
    pub(super) async fn reject(&mut self, reason: &str) {
        let text = format!("{}\n", Line::Trouble(reason.to_owned()));
        let _ = self.frame(hook::ERR, text.as_bytes()).await;
        let _ = self.frame(hook::VERDICT, &[1]).await;
    }

    async fn frame(&mut self, tag: u8, payload: &[u8]) -> io::Result<()> {
        write_frame(&mut self.to, tag, payload).await
    }
}

async fn write_frame(to: &mut OwnedWriteHalf, tag: u8, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(|_| invalid("the frame is too long"))?;
    let mut bytes = Vec::with_capacity(payload.len() + 5);
    bytes.push(tag);
    bytes.extend(length.to_be_bytes());
    bytes.extend(payload);
    timeout(WRITE_TIMEOUT, to.write_all(&bytes)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Reads the updates of a push, has each decided, and reports the decisions to git.
pub(super) async fn serve_updates(
    handler: &Arc<dyn DynPushHandler>,
    tracker: &TaskTracker,
    push: &Arc<Push>,
    hook: &mut HookStream,
) -> io::Result<()> {
    let requested = timeout(UPDATES_TIMEOUT, read_updates(hook)).await;
    let requested = requested.map_err(|_| invalid("git did not send the updates in time"))??;
    if requested.has_options {
        let line = format!("{}\n", Line::Trouble("push options (-o) have no effect".to_owned()));
        hook.frame(hook::ERR, line.as_bytes()).await?;
    }
    let mut asked = Vec::with_capacity(requested.commands.len());
    for command in &requested.commands {
        asked.push(command.update(push).await);
    }
    refuse_beyond_quota(push, &mut asked).await;
    let first_refused = requested.commands.iter().zip(&asked).find(|(_, asked)| asked.is_err());
    let updates: Vec<_> = asked.iter().filter_map(|asked| asked.as_ref().ok()).cloned().collect();
    let decided = match first_refused {
        Some((command, _)) if requested.atomic => vec![Err(Rejection::atomic(&command.shown_name())); updates.len()],
        _ if updates.is_empty() => Vec::new(),
        _ => decide(handler, tracker, push, updates, requested.atomic, hook).await?,
    };
    let mut decided = decided.into_iter();
    let mut report = Vec::new();
    for (command, asked) in requested.commands.iter().zip(asked) {
        let decided = match &asked {
            Err(rejection) => Err(rejection.clone()),
            Ok(_) => decided.next().unwrap_or_else(|| Err(Rejection::failed())),
        };
        if decided.is_ok() && asked.is_ok_and(|update| update.new.is_none()) {
            push.deleted.store(true, Ordering::Release);
        }
        let answer = match decided {
            Ok(()) => [b"ok ", &command.name[..]].concat(),
            Err(Rejection(reason)) => {
                push.rejected.store(true, Ordering::Release);
                let reason: String = Line::sanitize(&reason).chars().take(MAX_REASON_LEN).collect();
                [b"ng ", &command.name[..], b" ", reason.as_bytes()].concat()
            }
        };
        pkt_line::write(&mut report, &answer);
    }
    report.extend(pkt_line::FLUSH);
    for part in report.chunks(hook::MAX_PAYLOAD_LEN) {
        hook.frame(hook::OUT, part).await?;
    }
    hook.frame(hook::VERDICT, &[0]).await
}

/// Refuses the updates for which the repository is too large, or has too many refs: not deletions, which help.
async fn refuse_beyond_quota(push: &Push, asked: &mut [Result<RefUpdate, Rejection>]) {
    let is_set = |update: &RefUpdate| update.new.is_some();
    let is_created = |update: &RefUpdate| update.new.is_some() && update.old.is_none();
    let count = |which: fn(&RefUpdate) -> bool| asked.iter().flatten().filter(|update| which(update)).count() as u64;
    if count(is_set) == 0 {
        return;
    }
    let created = count(is_created).saturating_sub(count(|update| update.new.is_none()));
    let (which, reason): (fn(&RefUpdate) -> bool, _) = match push.repository.check_quota(&push.reader, created).await {
        Ok(Ok(())) => return,
        Ok(Err(exceeded @ QuotaExceeded::Refs { .. })) => (is_created, exceeded.to_string()),
        Ok(Err(exceeded)) => (is_set, exceeded.to_string()),
        Err(error) => (is_set, error.to_string()),
    };
    for asked in asked.iter_mut().filter(|asked| asked.as_ref().is_ok_and(which)) {
        *asked = Err(Rejection(reason.clone()));
    }
}

/// The updates that a push asks for, as git sends them to its hook.
struct RequestedUpdates {
    commands: Vec<UpdateCommand>,
    atomic: bool,
    has_options: bool,
}

/// `old new name`; the name is arbitrary bytes from the client.
#[derive(Debug)]
struct UpdateCommand {
    old: CommitId,
    new: CommitId,
    name: Vec<u8>,
}

async fn read_updates(hook: &mut HookStream) -> io::Result<RequestedUpdates> {
    let hello = pkt_line::section(&mut hook.from, 1, "versions of the hook protocol").await?;
    let hello = hello.first().ok_or_else(|| invalid("git sent no version of the hook protocol"))?;
    let mut parts = hello.splitn(2, |byte| *byte == 0);
    if parts.next() != Some(b"version=1") {
        return Err(invalid("this version of git uses an unknown version of the hook protocol"));
    }
    let features: Vec<_> = parts.next().unwrap_or_default().split(|byte| *byte == b' ').collect();
    let offered = |feature: &[u8]| features.contains(&feature);
    let (push_options, atomic) = (offered(b"push-options"), offered(b"atomic"));
    let mut answer = Vec::new();
    pkt_line::write(&mut answer, if push_options { b"version=1\0push-options" } else { b"version=1" });
    answer.extend(pkt_line::FLUSH);
    hook.frame(hook::OUT, &answer).await?;

    let commands = pkt_line::section(&mut hook.from, MAX_UPDATES, "refs in one push: push them in parts").await?;
    let commands = commands.iter().map(|line| UpdateCommand::parse(line)).collect::<io::Result<Vec<_>>>()?;
    let mut names = HashSet::new();
    if !commands.iter().all(|command| names.insert(&command.name)) {
        return Err(invalid("it updates one ref twice"));
    }
    let has_options = push_options && !pkt_line::section(&mut hook.from, MAX_OPTIONS, "push options").await?.is_empty();
    Ok(RequestedUpdates { commands, atomic, has_options })
}

impl UpdateCommand {
    fn parse(line: &[u8]) -> io::Result<Self> {
        let wrong = || invalid("git sent an invalid command");
        let mut words = line.splitn(3, |byte| *byte == b' ');
        let mut id = || {
            let word = words.next().and_then(|word| std::str::from_utf8(word).ok()).ok_or_else(wrong)?;
            word.parse::<CommitId>().map_err(|_| wrong())
        };
        let (old, new) = (id()?, id()?);
        let name = words.next().filter(|name| !name.is_empty()).ok_or_else(wrong)?.to_vec();
        Ok(Self { old, new, name })
    }

    /// The name for a message, also if it is none of a ref.
    fn shown_name(&self) -> String {
        let name = String::from_utf8_lossy(&self.name);
        RefName::parse(&name).map_or_else(|_| Line::excerpt(&name), |name| name.to_string())
    }

    /// The update that the command asks for.
    async fn update(&self, push: &Push) -> Result<RefUpdate, Rejection> {
        let name = std::str::from_utf8(&self.name).map_err(|_| Rejection("the name of a ref must be UTF-8".into()))?;
        let name = RefName::parse(name).map_err(|e: InvalidName| Rejection(e.to_string()))?;
        if let (RefName::Other(other), false) = (&name, CommitId::is_zero(&self.new))
            && name.tag().is_none()
        {
            return Err(Rejection(format!(
                "{} is neither a branch nor a tag; push to refs/heads/NAME or refs/tags/NAME",
                Line::excerpt(other.as_str())
            )));
        }
        let not_zero = |id: &CommitId| Some(id.clone()).filter(|id| !id.is_zero());
        let (old, new) = (not_zero(&self.old), not_zero(&self.new));
        if old.is_none() && new.is_none() {
            return Err(Rejection(format!("there is no {name}")));
        }
        if let (RefName::Branch(_), Some(new)) = (&name, &new) {
            match push.reader.commit_exists(new).await {
                Ok(true) => {}
                Ok(false) => {
                    let text = format!(
                        "a branch must point to a commit; git push REMOTE 'TAG^{{commit}}:{}' pushes that of a tag",
                        name.full()
                    );
                    return Err(Rejection(text));
                }
                Err(error) => return Err(Rejection(error.to_string())),
            }
        }
        Ok(RefUpdate { name, old, new })
    }
}

/// Has the handler decide the updates, and sends its lines to the pusher. The handler runs in a task of its own, so that
/// a push past its commit point completes even if the client or the hook disconnects.
async fn decide(
    handler: &Arc<dyn DynPushHandler>,
    tracker: &TaskTracker,
    push: &Arc<Push>,
    updates: Vec<RefUpdate>,
    atomic: bool,
    hook: &mut HookStream,
) -> io::Result<Vec<Decided>> {
    push.asked.store(true, Ordering::Release);
    let count = updates.len();
    let requested = RequestedPush { app: push.app.clone(), pusher: push.pusher.clone(), updates, atomic };
    // Not a `progress::relay`: once the hook disconnects, lines are dropped and the handler goes on.
    let (progress, mut lines) = Progress::channel();
    let (handler, owner) = (Arc::clone(handler), Arc::clone(push));
    let deciding = push.tasks.track_future(async move {
        let decided = handler.boxed_push(requested, &owner.reader, &progress, owner.cancel.clone()).await;
        drop(owner);
        decided
    });
    let deciding = tracker.spawn(deciding);
    let forward = async {
        while let Some(line) = lines.recv().await {
            let line = format!("{line}\n");
            write_frame(&mut hook.to, hook::ERR, line.as_bytes()).await?;
        }
        Ok(())
    };
    let forwarded = tokio::select! {
        forwarded = forward => forwarded,
        error = until_disconnected(&mut hook.from) => Err(error),
    };
    if forwarded.is_err() {
        push.cancel.cancel();
    }
    // Lines that nobody reads must not block the handler.
    drop(lines);
    let decided = deciding.await.unwrap_or_else(|error| {
        tracing::error!(%error, "the handler of a push failed");
        vec![Err(Rejection::failed()); count]
    });
    forwarded.map(|()| decided)
}

/// Returns when the hook disconnects, as it does when git ends; it has nothing more to send.
async fn until_disconnected(from: &mut BufReader<OwnedReadHalf>) -> io::Error {
    match from.read_u8().await {
        Ok(_) => invalid("the hook sent unexpected data"),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_commands_are_parsed_and_others_refused() {
        let (old, new) = ("0".repeat(40), "1".repeat(40));
        let command = UpdateCommand::parse(format!("{old} {new} refs/heads/a b").as_bytes()).unwrap();
        assert!(command.old.is_zero());
        assert_eq!(command.name, b"refs/heads/a b");
        for bad in ["", " ", "x y z", &old, &format!("{old} {new}"), &format!("{old} {new} "), &format!("{old}  x")] {
            assert!(UpdateCommand::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}

#[cfg(test)]
mod properties {
    use super::*;
    use crate::properties::{assert_line, bytes_near, check};

    #[test]
    fn commands_are_parts_of_their_lines() {
        let id = "1".repeat(40);
        let samples = [format!("{id} {id} refs/heads/main"), format!("{id} {} refs/tags/a b", "0".repeat(40))];
        check(bytes_near(&samples), |line| {
            let Ok(command) = UpdateCommand::parse(&line) else { return };
            let written = [command.old.as_str().as_bytes(), command.new.as_str().as_bytes(), &command.name].join(&b' ');
            assert_eq!(written, line);
            assert_line(&command.shown_name());
        });
    }
}
