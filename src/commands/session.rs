//! A running command: its caller, and where it reads and writes.

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite},
    sync::Mutex,
};
use tokio_util::sync::CancellationToken;

use super::{
    error::{CommandError, Result},
    output::Output,
};
use crate::{
    model::Role,
    progress::Progress,
    store::{AppId, Store, StoreError, UserId},
};

/// The user or program that runs a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Name of the user, or `local`.
    pub name: String,
    /// The user; none on the local socket.
    pub user: Option<UserId>,
    /// Whether the caller may do everything.
    pub admin: bool,
}

impl Caller {
    /// Whether the caller may act on this app: admins on every app, others on those that they own.
    pub async fn may_use(&self, store: &Store, app: AppId) -> Result<bool, StoreError> {
        if self.admin {
            return Ok(true);
        }
        let Some(user) = self.user else { return Ok(false) };
        Ok(store.role(app, user).await? == Some(Role::Owner))
    }
}

/// The standard streams of a command.
pub struct Streams {
    /// Input from the client.
    pub stdin: Box<dyn AsyncRead + Send + Unpin>,
    /// Results.
    pub stdout: Box<dyn AsyncWrite + Send + Unpin>,
    /// Errors and warnings.
    pub stderr: Box<dyn AsyncWrite + Send + Unpin>,
    /// Whether the client has a terminal.
    pub tty: bool,
}

/// A running command.
pub(super) struct Session<'a> {
    pub(super) caller: &'a Caller,
    /// A mutex only makes the stream `Sync`.
    pub(super) stdin: Mutex<Box<dyn AsyncRead + Send + Unpin>>,
    pub(super) out: Output,
    pub(super) progress: Progress,
    pub(super) hangup: CancellationToken,
}

impl Session<'_> {
    pub(super) fn only_admin(&self) -> Result {
        if self.caller.admin { Ok(()) } else { Err(CommandError::NotAdmin) }
    }

    /// Reads standard input to its end, but not more than `max` bytes.
    pub(super) async fn read_input(&mut self, max: u64) -> Result<String> {
        let mut text = Vec::new();
        self.stdin.get_mut().take(max).read_to_end(&mut text).await.map_err(CommandError::Input)?;
        String::from_utf8(text).map_err(|_| CommandError::Refused("standard input is not UTF-8 text".to_owned()))
    }

    /// Reads one line of standard input.
    pub(super) async fn read_line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        while line.len() < 256 {
            match self.stdin.get_mut().read_u8().await {
                Ok(b'\n' | b'\r') | Err(_) => break,
                Ok(byte) => line.push(byte),
            }
        }
        Ok(String::from_utf8_lossy(&line).trim().to_owned())
    }
}
