//! The store of the images that the operator offers to Dockerfiles: a disk that builds can only read. Its contents are
//! written by the lifecycle in a container of its own; no build runs meanwhile.

use std::{path::PathBuf, sync::Arc};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::error::BuildError;
use crate::engine::{
    Mount,
    disk::{Disk, MountedDisk},
};

/// Size of the disk, in MiB. It is sparse.
pub(super) const DISK_MIB: u64 = 32 << 10;

/// The store. Its disk is mounted while the server runs, once there is one.
pub(super) struct OfferedStore {
    image: PathBuf,
    mount_point: PathBuf,
    disk: Arc<RwLock<Option<MountedDisk>>>,
}

/// The store while a build reads it.
pub(super) struct OfferedImages(OwnedRwLockReadGuard<Option<MountedDisk>>);

impl OfferedImages {
    /// Its mount into the build container; `None` if nothing was ever offered.
    pub(super) fn mount(&self) -> Option<Mount> {
        self.0.as_ref().map(|disk| Mount::read_only(&disk.folder("layers"), "/cnb/offered"))
    }
}

impl OfferedStore {
    pub(super) fn new(image: PathBuf, mount_point: PathBuf) -> Self {
        Self { image, mount_point, disk: Arc::default() }
    }

    /// The store for a build.
    pub(super) async fn read(&self) -> Result<OfferedImages, BuildError> {
        let guard = Arc::clone(&self.disk).read_owned().await;
        if guard.is_some() || !self.exists() {
            return Ok(OfferedImages(guard));
        }
        drop(guard);
        drop(self.mounted().await?);
        Ok(OfferedImages(Arc::clone(&self.disk).read_owned().await))
    }

    /// The store for a change, mounted.
    pub(super) async fn mounted(&self) -> Result<OwnedRwLockWriteGuard<Option<MountedDisk>>, BuildError> {
        let mut guard = Arc::clone(&self.disk).write_owned().await;
        if guard.is_none() {
            *guard = Some(Disk::open(&self.image, DISK_MIB, &self.mount_point).await?);
        }
        Ok(guard)
    }

    /// Whether anything was ever offered.
    pub(super) fn exists(&self) -> bool {
        self.image.exists()
    }

    /// Unmounts it.
    pub(super) async fn close(&self) {
        if let Some(disk) = self.disk.write().await.take()
            && let Err(error) = disk.close().await
        {
            tracing::error!(%error, "the disk of the offered images is left mounted until the server starts again");
        }
    }
}
