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
    #[error("cannot create the disk {path}: {source}")]
    CannotFormat {
        /// Image file.
        path: PathBuf,
        /// Cause.
        source: ChildError,
    },
    /// The disk cannot be mounted.
    #[error("cannot mount the disk {path}: {source}")]
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
    /// The size of the disk of a volume cannot be changed.
    #[error("cannot resize the disk {path}: {source}; it keeps its size")]
    CannotResize {
        /// Image file.
        path: PathBuf,
        /// Cause.
        source: ChildError,
    },
    /// The files of a volume need more than the size that it is to have.
    #[error(
        "its files need at least {needed_mib} MiB, and {size_mib} MiB are asked for; give at least {needed_mib}m, or remove \
         files first"
    )]
    TooSmall {
        /// What the files need with the tables of the file system, in MiB.
        needed_mib: u64,
        /// Size that is asked for, in MiB.
        size_mib: u64,
    },
    /// The host has too little free space for the disk of a volume.
    #[error(
        "{size_mib} MiB do not fit into {folder}: {room_mib} MiB are free above the floor of its disk (disk.floor_mib, \
         disk.floor_percent); give a smaller size, or free space on this machine"
    )]
    NoSpace {
        /// Size of the disk, in MiB.
        size_mib: u64,
        /// Free space of the host's disk above its floor, in MiB.
        room_mib: u64,
        /// Folder of the disks.
        folder: PathBuf,
    },
    /// The disk of a volume is mounted by something else than this server.
    #[error("the disk {0} is still in use on this machine; `losetup -j {0}` shows its device")]
    StillMounted(PathBuf),
    /// The disk of a volume is not there any more. It is not created again: its files are lost.
    #[error("the disk {0} is missing; restore it from a backup, or destroy the volume and create it again")]
    Lost(PathBuf),
    /// The disk of a volume has errors that need a decision.
    #[error("the disk {path} is damaged ({source}); an admin repairs it with `fsck.ext4 {path}`")]
    Damaged {
        /// Image file.
        path: PathBuf,
        /// What the check found.
        source: ChildError,
    },
    /// The server is shutting down.
    #[error("the operation on the disk was aborted")]
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
