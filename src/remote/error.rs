//! Why a command does not reach a server elsewhere.

use std::{io, path::PathBuf};

use super::address::InvalidAddress;
use crate::model::Line;

/// Why a command does not reach a server elsewhere.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// There is no such remote.
    #[error("there is no remote {}; `paas remote list` lists them, `paas remote add {} ssh://paas@HOST:2222` adds it", Line::excerpt(.0), Line::excerpt(.0))]
    NoRemote(String),
    /// A remote of this name exists.
    #[error("the remote {0} exists; `paas remote remove {0}` removes it")]
    Exists(String),
    /// The name of a remote is invalid.
    #[error("{} is not a name for a remote; use 1 to 32 letters, digits, `.`, `_` and `-`, beginning with a letter or digit", Line::excerpt(.0))]
    Name(String),
    /// The address of a remote is invalid.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// There is no folder for the file of the remotes.
    #[error("there is no folder for remotes.toml; set HOME or XDG_CONFIG_HOME to an absolute path")]
    NoHome,
    /// The file of the remotes cannot be read or written.
    #[error("cannot {act} {path}: {source}")]
    File {
        /// Attempted operation, as a verb.
        act: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file of the remotes is invalid.
    #[error("{path} is invalid: {message}; correct it, or remove it and add the remotes again")]
    Invalid {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// An option needs a value.
    #[error("{0} needs a value; write {0} NAME")]
    NoValue(String),
    /// An app was named for a command that is about none.
    #[error("{} is about no app; leave out --app", Line::excerpt(.0))]
    NoApp(String),
    /// The git remotes lead to several apps.
    #[error("the git remotes of this folder lead to the apps {0}; name one with --app")]
    SeveralApps(String),
    /// A program does not start.
    #[error("cannot start {program}: {source}; install it, or correct PATH")]
    Start {
        /// The program.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// The server has no URL for the app.
    #[error("the server named no URL for the app; `paas ports:list` shows its ports")]
    NoUrl,
}
