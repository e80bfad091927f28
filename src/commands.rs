//! What both doors hand to a command.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::store::KeyId;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The key's name, or "local".
    pub name: String,
    /// The key; none on the local socket.
    pub key: Option<KeyId>,
    /// Whether everything is allowed.
    pub admin: bool,
}

/// Where a command reads and writes.
pub struct Streams {
    /// What the client sends.
    pub stdin: Box<dyn AsyncRead + Send + Unpin>,
    /// Results.
    pub stdout: Box<dyn AsyncWrite + Send + Unpin>,
    /// Trouble.
    pub stderr: Box<dyn AsyncWrite + Send + Unpin>,
    /// Whether a person sits at a terminal.
    pub tty: bool,
}
