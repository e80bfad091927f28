//! A command, and where it is run.

use super::ssh::RemoteCommand;

/// A command as it was typed.
#[derive(Debug, Default)]
pub struct Typed {
    /// Value of `--remote` before the command.
    pub remote: Option<String>,
    /// Value of `--app` before the command.
    pub app: Option<String>,
    /// The command and its words.
    pub words: Vec<String>,
}

/// Where a command is run.
#[derive(Debug)]
pub enum Place {
    /// On this machine's server, with these words.
    Here(Vec<String>),
    /// Over ssh.
    Remote(RemoteCommand),
}
