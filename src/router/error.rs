//! Why the router does not run.

use std::{io, path::PathBuf};

/// Why the router does not run.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// A file or socket of the data folder.
    #[error("cannot {act} {path}: {source}")]
    File {
        /// The operation, as a verb.
        act: &'static str,
        /// The file or socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another router holds the lock and does not hand over its listeners.
    #[error("another router holds the lock {path} and does not hand over its listeners: {source}")]
    Running {
        /// The lock file.
        path: PathBuf,
        /// Why the last attempt to take over failed.
        source: io::Error,
    },
    /// A thread or its runtime does not start.
    #[error("cannot start a worker: {0}")]
    Worker(#[source] io::Error),
}
