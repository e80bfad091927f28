//! An open channel of a connection, and the terminal that it may have.

use std::sync::Arc;

use russh::{ChannelWriteHalf, server::Msg};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::flow::{Flow, Inbox, Overflow};

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;

/// An open channel. When it is dropped, alone or with its connection, the command that runs on it is hung up.
pub(super) struct OpenChannel {
    /// Taken by the channel's only request.
    pub(super) write: Option<ChannelWriteHalf<Msg>>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) tty: bool,
    pub(super) git_protocol: Option<String>,
    pub(super) hangup: CancellationToken,
    /// Cancelled when the channel is dropped.
    pub(super) closed: DropGuard,
    /// Cancelled when the request is answered and the server has closed the channel.
    pub(super) answered: CancellationToken,
}

impl OpenChannel {
    pub(super) fn new(write: ChannelWriteHalf<Msg>, flow: Arc<Flow>) -> Self {
        let closed = CancellationToken::new();
        Self {
            write: Some(write),
            inbox: Inbox::new(flow),
            tty: false,
            git_protocol: None,
            hangup: closed.child_token(),
            closed: closed.drop_guard(),
            answered: CancellationToken::new(),
        }
    }

    /// Takes data from the client: bytes, or keys typed at a terminal.
    pub(super) fn receive(&self, data: &[u8]) -> Result<(), Overflow> {
        let pushed = if self.tty { self.inbox.push(&self.typed(data)) } else { self.inbox.push(data) };
        if self.tty && data.contains(&CTRL_D) {
            self.inbox.end();
        }
        pushed
    }

    fn typed(&self, data: &[u8]) -> Vec<u8> {
        let mut typed = Vec::with_capacity(data.len());
        for &byte in data {
            match byte {
                CTRL_C => self.hangup.cancel(),
                CTRL_D => break,
                b'\r' => typed.push(b'\n'),
                byte => typed.push(byte),
            }
        }
        typed
    }
}
