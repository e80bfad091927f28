//! An open channel of a connection, and the terminal that it may have.

use std::sync::Arc;

use russh::{ChannelWriteHalf, server::Msg};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::flow::{Flow, Inbox, Overflow};
use crate::{commands::ClientTerminal, model::TerminalSize, tasks::Terminal};

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;

/// The terminal of a channel.
pub(super) struct ChannelTerminal {
    pub(super) client: ClientTerminal,
    pub(super) size: watch::Sender<TerminalSize>,
}

impl ChannelTerminal {
    /// A terminal of this name and size; unless a program has it, keys are read as lines.
    pub(super) fn new(name: &str, size: TerminalSize) -> Self {
        let (size, sizes) = watch::channel(size);
        let known = |c: char| c.is_ascii_alphanumeric() || "-+._".contains(c);
        let valid = (1..=64).contains(&name.len()) && name.chars().all(known);
        let name = if valid { name } else { "xterm" }.to_owned();
        let client = ClientTerminal { terminal: Terminal { name, size: sizes }, raw: watch::Sender::new(false) };
        Self { client, size }
    }

    /// Whether keys are read as lines, and Ctrl-C and Ctrl-D have their usual meaning.
    fn is_cooked(&self) -> bool {
        !*self.client.raw.borrow()
    }
}

/// An open channel. When it is dropped, alone or with its connection, the command that runs on it is hung up.
pub(super) struct OpenChannel {
    /// Taken by the channel's only request.
    pub(super) write: Option<ChannelWriteHalf<Msg>>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) terminal: Option<ChannelTerminal>,
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
            terminal: None,
            git_protocol: None,
            hangup: closed.child_token(),
            closed: closed.drop_guard(),
            answered: CancellationToken::new(),
        }
    }

    /// Takes data from the client: bytes, or keys typed at a terminal.
    pub(super) fn receive(&self, data: &[u8]) -> Result<(), Overflow> {
        if !self.terminal.as_ref().is_some_and(ChannelTerminal::is_cooked) {
            return self.inbox.push(data);
        }
        let pushed = self.inbox.push(&self.typed(data));
        if data.contains(&CTRL_D) {
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
