//! The answer to a channel's request: runs the command, sends its output and its exit status.

use std::{fmt::Display, sync::Arc};

use bytes::Bytes;
use russh::{ChannelWriteHalf, server::Msg};
use tokio::{io::AsyncWriteExt as _, sync::mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    backend::{Backend, SshServer},
    connection_state::{ConnectionState, Running},
    flow::Stdin,
    output::{OutputStream, Writer},
    request::{self, RequestedCommand},
    shares::{LimitReached, Share},
};
use crate::{
    commands::{self, ClientTerminal, Streams},
    operations::{Caller, Failure, FailureKind},
};

/// Maximum number of chunks of output that wait for the client.
const MAX_QUEUED_CHUNKS: usize = 8;
/// The `SSH_MSG_CHANNEL_EXTENDED_DATA` code of standard error (RFC 4254, section 5.2).
const EXTENDED_STDERR: u32 = 1;

/// The answer to the request of a channel.
pub(super) struct Answer<B> {
    pub(super) server: Arc<SshServer<B>>,
    /// The session that the request takes, or why it gets none.
    pub(super) share: Result<Share, LimitReached>,
    pub(super) caller: Caller,
    pub(super) command: Vec<u8>,
    pub(super) terminal: Option<ClientTerminal>,
    pub(super) git_protocol: Option<String>,
    pub(super) stdin: Stdin,
    pub(super) write: ChannelWriteHalf<Msg>,
    pub(super) hangup: CancellationToken,
    /// Cancelled when the channel is dropped.
    pub(super) closed: CancellationToken,
    pub(super) running: Running,
    pub(super) answered: DropGuard,
}

impl<B: Backend> Answer<B> {
    pub(super) async fn run(self) {
        let Self {
            server,
            share,
            caller,
            command,
            terminal,
            git_protocol,
            stdin,
            write,
            hangup,
            closed,
            running,
            answered,
        } = self;
        let (sender, receiver) = mpsc::channel(MAX_QUEUED_CHUNKS);
        let raw = || terminal.as_ref().map(|terminal| terminal.raw.subscribe());
        let streams = Streams {
            stdin: Box::new(stdin),
            stdout: Box::new(Writer::new(sender.clone(), OutputStream::Stdout, raw())),
            stderr: Box::new(Writer::new(sender, OutputStream::Stderr, raw())),
            terminal,
        };
        let done = CancellationToken::new();
        let work = async {
            let _done = done.clone().drop_guard();
            let request = RequestContext { server: &*server, caller: &caller, git_protocol, hangup: hangup.clone() };
            match &share {
                Ok(_) => request.answer(&command, streams).await,
                Err(limit) => refuse(streams, &command, FailureKind::TooMany, limit).await,
            }
        };
        let (status, sent) = tokio::join!(work, pump(&write, receiver, running.connection(), &closed, &done, &hangup));
        tracing::debug!(user = caller.name(), status, "ssh request answered");
        if sent {
            let close = async {
                let _ = write.exit_status(status.into()).await;
                let _ = write.eof().await;
                let _ = write.close().await;
            };
            tokio::select! {
                () = closed.cancelled() => {}
                () = close => {}
            }
        }
        drop((share, running, answered));
    }
}

/// Sends output in the order in which it is written. Returns true when the request is done and all output is sent, false
/// when the client has disconnected.
async fn pump(
    write: &ChannelWriteHalf<Msg>,
    mut queue: mpsc::Receiver<(OutputStream, Bytes)>,
    connection: &ConnectionState,
    closed: &CancellationToken,
    done: &CancellationToken,
    hangup: &CancellationToken,
) -> bool {
    let mut queue_closed = false;
    loop {
        let (output, data) = tokio::select! {
            () = closed.cancelled() => return false,
            // The request ends with its future, even if a writer is still held somewhere.
            () = done.cancelled(), if !queue_closed => {
                queue.close();
                queue_closed = true;
                continue;
            }
            written = queue.recv() => match written {
                Some(written) => written,
                None => return true,
            },
        };
        let sent = async {
            match output {
                OutputStream::Stdout => write.data_bytes(data).await,
                OutputStream::Stderr => write.extended_data_bytes(EXTENDED_STDERR, data).await,
            }
        };
        tokio::select! {
            () = closed.cancelled() => return false,
            sent = sent => if sent.is_err() {
                hangup.cancel();
                return false;
            },
        }
        connection.touch();
    }
}

/// Reports why a request is refused; returns its exit status.
async fn refuse(streams: Streams, command: &[u8], kind: FailureKind, why: &(impl Display + Sync)) -> u8 {
    commands::refuse(streams, &String::from_utf8_lossy(command), &Failure::new(kind, why.to_string())).await
}

struct RequestContext<'a, B> {
    server: &'a SshServer<B>,
    caller: &'a Caller,
    git_protocol: Option<String>,
    hangup: CancellationToken,
}

impl<B: Backend> RequestContext<'_, B> {
    async fn answer(self, command: &[u8], mut streams: Streams) -> u8 {
        let Self { server, caller, git_protocol, hangup } = self;
        let backend = &server.backend;
        let requested = match request::parse(command, server.config.ssh.max_command_bytes) {
            Ok(command) => command,
            Err(error) => return refuse(streams, command, FailureKind::Invalid, &error).await,
        };
        match requested {
            RequestedCommand::Greeting => {
                let mut text = backend.greeting(caller);
                if !text.ends_with('\n') {
                    text.push('\n');
                }
                let _ = streams.stdout.write_all(text.as_bytes()).await;
                0
            }
            RequestedCommand::Command(words) => backend.command(caller, words, streams, hangup).await,
            RequestedCommand::ReceivePack(app) => {
                backend.receive_pack(caller, app, git_protocol, streams, hangup).await
            }
            RequestedCommand::UploadPack(app) => backend.upload_pack(caller, app, git_protocol, streams, hangup).await,
        }
    }
}
