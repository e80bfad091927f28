//! Why a task is not run, or what became of it is not known.

use std::path::PathBuf;

use crate::{engine::EngineError, model::InvalidName, store::StoreError, workload::VolumeError};

/// Why a task is not run, or what became of it is not known.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A volume cannot be used.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// A name that paas generated is invalid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The output of a task cannot be written or read.
    #[error("cannot use the output {path}: {source}; check the disk's free space and the folder's permissions")]
    Output {
        /// File or folder.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The caller went away, or the command ran longer than its limit, before it ended.
    #[error(
        "the command was ended before it had ended by itself: its caller disconnected, or it ran longer than its limit"
    )]
    Disconnected,
    /// It ran longer than its limit.
    #[error("the command was ended because it ran longer than {0} s (tasks.run_seconds)")]
    TimedOut(u64),
    /// The app, its release or the task does not exist any more.
    #[error("the app or its release no longer exists")]
    Gone,
    /// The server is shutting down.
    #[error("the server is shutting down; try again when it is back")]
    ShuttingDown,
}
