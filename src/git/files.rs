//! File operations.

use std::{io, path::Path};

use tokio::fs;

use super::error::{Result, failed};

/// Runs file operations on a thread for blocking work.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Waits until these files and folders are on disk.
pub(super) async fn sync(paths: &[&Path]) -> Result<()> {
    for path in paths {
        let file = fs::File::open(path).await.map_err(failed("sync", path))?;
        file.sync_all().await.map_err(failed("sync", path))?;
    }
    Ok(())
}
