//! Errors of disks.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::engine::child::ChildError;

/// Why an operation on a disk failed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A file or folder cannot be created, opened or removed.
    #[error("cannot prepare {path}: {source}")]
    CannotPrepare {
        /// File or folder.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// Another build has mounted the disk.
    #[error("the build disk {0} is in use by another build")]
    InUse(PathBuf),
    /// The disk cannot be formatted.
    #[error("cannot create the build disk {path}: {source}")]
    CannotFormat {
        /// Image file.
        path: PathBuf,
        /// Cause.
        source: ChildError,
    },
    /// The disk cannot be mounted.
    #[error("cannot mount the build disk {path}: {source}")]
    CannotMount {
        /// Image file.
        path: PathBuf,
        /// Cause.
        source: ChildError,
    },
    /// The disk cannot be unmounted.
    #[error("cannot unmount {path}: {source}")]
    CannotUnmount {
        /// Mount point.
        path: PathBuf,
        /// Cause.
        source: ChildError,
    },
    /// The server is shutting down.
    #[error("the operation on the build disk was aborted")]
    Aborted,
}

/// Runs file operations on `path` on a thread for blocking work.
pub(super) async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(PathBuf) -> io::Result<T> + Send + 'static,
) -> Result<T, DiskError> {
    let owned = path.to_owned();
    let done = tokio::task::spawn_blocking(move || work(owned)).await.map_err(|_| DiskError::Aborted)?;
    done.map_err(|source| DiskError::CannotPrepare { path: path.to_owned(), source })
}
