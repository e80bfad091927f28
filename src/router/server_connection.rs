//! The server's connection to the router, as the router sees it.

use std::{io, time::Duration};

use futures_util::StreamExt as _;
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::protocol::{
    FromRouter, Hello, Table, ToRouter, VERSION,
    line::{self, Lines},
    unknown::Unknown,
    v1,
};

/// How long the server has to take a message.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct ServerConnection {
    lines: Lines<OwnedReadHalf>,
    write: OwnedWriteHalf,
    /// How the server has greeted, or that it is one of version 1, which does not. Until it has sent something, nothing is
    /// sent to it: a server of version 1 disconnects when it reads what it does not know.
    server: Option<Hello>,
}

/// A message of the server.
pub(super) enum Received {
    /// The server has greeted, and expects a greeting.
    Greeting,
    Table(Table),
    /// The router does not know the message.
    Unknown,
}

impl ServerConnection {
    pub(super) fn new(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Self { lines: line::lines(read, line::MAX_TO_ROUTER), write, server: None }
    }

    /// The next message. Fails when the server has closed the connection, or sent a line that is not a message. Cancel-safe.
    async fn receive(&mut self, unknown: &mut Unknown) -> io::Result<Received> {
        let line = self.lines.next().await.ok_or(io::ErrorKind::UnexpectedEof)?.map_err(io::Error::other)?;
        let message = match self.server.as_ref().map_or(1, |server| server.version) {
            0 | 1 => line::decode(&line, unknown)?.map(|message: v1::ToRouter| message.into()),
            VERSION.. => line::decode(&line, unknown)?,
        };
        Ok(match message {
            Some(ToRouter::Hello(hello)) => {
                self.server = Some(hello);
                Received::Greeting
            }
            Some(ToRouter::Table(table)) => {
                self.server.get_or_insert_with(v1::server);
                unknown.parts_of(&table);
                Received::Table(table)
            }
            None => Received::Unknown,
        })
    }

    async fn send(&mut self, message: &FromRouter) -> io::Result<()> {
        let Some(server) = &self.server else { return Ok(()) };
        let Some(line) = server.to_server(message)? else { return Ok(()) };
        tokio::time::timeout(SEND_TIMEOUT, self.write.write_all(&line)).await?
    }
}

/// The next message of the server, if one is connected; else never returns. A connection that has failed is closed.
pub(super) async fn receive(server: &mut Option<ServerConnection>, unknown: &mut Unknown) -> Option<Received> {
    let received = match server {
        Some(connected) => connected.receive(unknown).await,
        None => std::future::pending().await,
    };
    match received {
        Ok(received) => Some(received),
        Err(error) => {
            if error.kind() != io::ErrorKind::UnexpectedEof {
                tracing::warn!(%error, "closing the server's connection");
            }
            *server = None;
            None
        }
    }
}

/// Sends a message to the server, if one is connected that accepts it; one that does not take it in time is disconnected.
pub(super) async fn send(server: &mut Option<ServerConnection>, message: &FromRouter) {
    if let Some(connected) = server
        && connected.send(message).await.is_err()
    {
        *server = None;
    }
}
