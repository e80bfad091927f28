//! A folder in memory, for files that must be on no disk.

use std::{
    ffi::OsStr,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{
    error::{DiskError, blocking},
    folders::create_private_folder,
    image::Disk,
};
use crate::engine::child;

/// Mount options. Only root may enter it; it takes what its files take, at most this share of the machine's memory.
const OPTIONS: &str = "mode=0700,nosuid,nodev,noexec,size=25%";

/// A folder in memory (tmpfs(5)). It stays mounted when the server ends.
#[derive(Debug, Clone)]
pub struct MemoryFolder(PathBuf);

impl MemoryFolder {
    /// The folder at this path.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether it is mounted: it has another device than the folder in which it is.
    pub async fn is_mounted(&self) -> Result<bool, DiskError> {
        blocking(&self.0, |path| {
            let parent = std::fs::metadata(path.parent().unwrap_or(&path))?.dev();
            match std::fs::metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                found => Ok(found?.dev() != parent),
            }
        })
        .await
    }

    /// Mounts it, unless it is mounted. Not to be called twice at a time.
    pub async fn mount(&self) -> Result<(), DiskError> {
        if self.is_mounted().await? {
            return Ok(());
        }
        blocking(&self.0, |path| create_private_folder(&path)).await?;
        let arguments = ["-t", "tmpfs", "-o", OPTIONS, "--", "paas"].map(OsStr::new);
        let mounted = child::run("mount", arguments.into_iter().chain([self.0.as_os_str()]), None).await;
        mounted.map(drop).map_err(|source| DiskError::CannotMount { path: self.0.clone(), source })
    }

    /// Unmounts it, and with that forgets its files.
    pub async fn unmount(&self) -> Result<(), DiskError> {
        Disk::unmount_leftovers(&self.0).await.map(drop)
    }
}
