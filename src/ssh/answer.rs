//! One request of a channel: run it, pass its output on, say how it ended.

use std::sync::Arc;

use bytes::Bytes;
use russh::{ChannelWriteHalf, server::Msg};
use tokio::{io::AsyncWriteExt as _, sync::mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Door, Sessions,
    connection::Link,
    flow::Stdin,
    output::{Output, Writer},
    request::{self, Act},
};
use crate::{
    commands::{Caller, Streams},
    model::{AppName, Line},
    store::{App, StoreError},
};

/// Pieces of output that may wait for the client.
const QUEUE: usize = 8;
/// The code of `SSH_MSG_CHANNEL_EXTENDED_DATA` that means standard error (RFC 4254, section 5.2).
const EXTENDED_STDERR: u32 = 1;
/// The exit status of what is refused.
const REFUSED: u8 = 1;

pub(super) struct Answer<S> {
    pub(super) door: Arc<Door<S>>,
    pub(super) caller: Caller,
    pub(super) command: Vec<u8>,
    pub(super) tty: bool,
    pub(super) git_protocol: Option<String>,
    pub(super) stdin: Stdin,
    pub(super) write: ChannelWriteHalf<Msg>,
    pub(super) hangup: CancellationToken,
    pub(super) gone: CancellationToken,
    pub(super) running: Running,
    pub(super) answered: DropGuard,
}

/// Counts what runs on a connection.
pub(super) struct Running(Arc<Link>);

impl Running {
    pub(super) fn new(link: Arc<Link>) -> Self {
        link.running.send_modify(|running| *running += 1);
        Self(link)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}

/// Why an app is not to be had.
#[derive(Debug, thiserror::Error)]
enum Denied {
    #[error("there is no app named {0}, or it is not yours")]
    NoSuchApp(AppName),
    #[error("the server failed: try again, and tell its operator if it fails again")]
    Store(#[source] StoreError),
    #[error("{0}")]
    Create(String),
}

impl<S: Sessions> Answer<S> {
    pub(super) async fn run(self) {
        let Self { door, caller, command, tty, git_protocol, stdin, write, hangup, gone, running, answered } = self;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let streams = Streams {
            stdin: Box::new(stdin),
            stdout: Box::new(Writer::new(sender.clone(), Output::Stdout, tty)),
            stderr: Box::new(Writer::new(sender, Output::Stderr, tty)),
            tty,
        };
        let done = CancellationToken::new();
        let work = async {
            let _done = done.clone().drop_guard();
            let request = Request { door: &*door, caller: &caller, git_protocol, hangup: hangup.clone() };
            request.answer(&command, streams).await
        };
        let (status, sent) = tokio::join!(work, pump(&write, receiver, &running.0, &gone, &done, &hangup));
        tracing::debug!(key = caller.name, status, "ssh request answered");
        if sent {
            let farewell = async {
                let _ = write.exit_status(status.into()).await;
                let _ = write.eof().await;
                let _ = write.close().await;
            };
            tokio::select! {
                () = gone.cancelled() => {}
                () = farewell => {}
            }
        }
        drop((running, answered));
    }
}

/// Sends what is written, in its order, until the request is done and all is sent (true) or the client is gone.
async fn pump(
    write: &ChannelWriteHalf<Msg>,
    mut queue: mpsc::Receiver<(Output, Bytes)>,
    link: &Link,
    gone: &CancellationToken,
    done: &CancellationToken,
    hangup: &CancellationToken,
) -> bool {
    let mut closed = false;
    loop {
        let (output, data) = tokio::select! {
            () = gone.cancelled() => return false,
            // Somebody may still hold a writer: what ends the request is its future.
            () = done.cancelled(), if !closed => {
                queue.close();
                closed = true;
                continue;
            }
            written = queue.recv() => match written {
                Some(written) => written,
                None => return true,
            },
        };
        let sent = async {
            match output {
                Output::Stdout => write.data_bytes(data).await,
                Output::Stderr => write.extended_data_bytes(EXTENDED_STDERR, data).await,
            }
        };
        tokio::select! {
            () = gone.cancelled() => return false,
            sent = sent => if sent.is_err() {
                hangup.cancel();
                return false;
            },
        }
        link.touch();
    }
}

struct Request<'a, S> {
    door: &'a Door<S>,
    caller: &'a Caller,
    git_protocol: Option<String>,
    hangup: CancellationToken,
}

impl<S: Sessions> Request<'_, S> {
    async fn answer(self, command: &[u8], mut streams: Streams) -> u8 {
        let Self { door, caller, git_protocol, hangup } = self;
        let sessions = &door.sessions;
        let act = match request::parse(command, door.config.ssh.max_command_bytes) {
            Ok(act) => act,
            Err(error) => return refuse(&mut streams, &error.to_string()).await,
        };
        match act {
            Act::Greeting => {
                let mut text = sessions.greeting(caller);
                if !text.ends_with('\n') {
                    text.push('\n');
                }
                let _ = streams.stdout.write_all(text.as_bytes()).await;
                0
            }
            Act::Command(words) => sessions.command(caller, words, streams, hangup).await,
            Act::ReceivePack(name) => match self::find(door, caller, name, true).await {
                Ok(app) => sessions.receive_pack(caller, app, git_protocol, streams, hangup).await,
                Err(denied) => refuse(&mut streams, &said(&denied)).await,
            },
            Act::UploadPack(name) => match self::find(door, caller, name, false).await {
                Ok(app) => sessions.upload_pack(caller, app, git_protocol, streams, hangup).await,
                Err(denied) => refuse(&mut streams, &said(&denied)).await,
            },
        }
    }
}

/// The app, if the caller may act on it: admins on all, others on their own. With `create`, the first push makes it.
async fn find<S: Sessions>(door: &Door<S>, caller: &Caller, name: AppName, create: bool) -> Result<App, Denied> {
    let mut found = door.store.find_app(name.clone()).await.map_err(Denied::Store)?;
    if found.is_none() && create {
        match door.sessions.create_app(name.clone(), caller.key).await {
            Ok(app) => found = Some(app),
            Err(error) => {
                // Two first pushes at once: the other one made it.
                found = door.store.find_app(name.clone()).await.map_err(Denied::Store)?;
                if found.is_none() {
                    return Err(Denied::Create(error));
                }
            }
        }
    }
    found.filter(|app| caller.may_use(app)).ok_or(Denied::NoSuchApp(name))
}

fn said(denied: &Denied) -> String {
    if let Denied::Store(error) = denied {
        tracing::error!(%error, "cannot look up an app");
    }
    denied.to_string()
}

async fn refuse(streams: &mut Streams, why: &str) -> u8 {
    let line = format!("{}\n", Line::Trouble(why.replace('\n', " ")));
    let _ = streams.stderr.write_all(line.as_bytes()).await;
    REFUSED
}
