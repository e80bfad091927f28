//! The store of the images that the operator offers to Dockerfiles: a disk that builds can only read. Its contents are
//! written by the lifecycle in a container of its own; no build runs meanwhile.

use std::{path::PathBuf, sync::Arc};

use tokio::{
    io::AsyncRead,
    sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock},
};
use tokio_util::io::SyncIoBridge;

use super::{builder::BuilderShared, error::BuildError};
use crate::{
    engine::{
        Mount,
        disk::{Disk, MountedDisk},
    },
    lifecycle::protocol::Request,
    model::Digest,
    progress::Progress,
};

/// Size of the disk, in MiB. It is sparse.
const DISK_MIB: u64 = 32 << 10;

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
        if guard.is_some() || !self.image.exists() {
            return Ok(OfferedImages(guard));
        }
        drop(guard);
        drop(self.mounted().await?);
        Ok(OfferedImages(Arc::clone(&self.disk).read_owned().await))
    }

    /// The store for a change, mounted.
    async fn mounted(&self) -> Result<OwnedRwLockWriteGuard<Option<MountedDisk>>, BuildError> {
        let mut guard = Arc::clone(&self.disk).write_owned().await;
        if guard.is_none() {
            *guard = Some(Disk::open(&self.image, DISK_MIB, &self.mount_point).await?);
        }
        Ok(guard)
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

impl BuilderShared {
    /// Adds an image of the image store under a name, in place of an earlier one.
    pub(super) async fn add_offered(
        self: &Arc<Self>,
        name: &str,
        manifest: Digest,
        progress: &Progress,
    ) -> Result<(), BuildError> {
        let (source, sink) = tokio::io::duplex(1 << 20);
        let this = Arc::clone(self);
        // If the container stops reading, writing fails; the container's result tells why.
        let writing = self.tasks.spawn_blocking(move || this.images.write_layout(&manifest, SyncIoBridge::new(sink)));
        let changed = self.change_offered(Request::Offer { name: name.to_owned() }, Box::new(source), progress).await;
        let written = writing.await.map_err(|_| BuildError::ShuttingDown)?;
        changed?;
        Ok(written?)
    }

    /// Removes an image; no effect if there is none of the name.
    pub(super) async fn remove_offered(self: &Arc<Self>, name: &str) -> Result<(), BuildError> {
        if !self.offered.image.exists() {
            return Ok(());
        }
        let (progress, _lines) = Progress::channel();
        self.change_offered(Request::Withdraw { name: name.to_owned() }, Box::new(tokio::io::empty()), &progress).await
    }

    async fn change_offered(
        self: &Arc<Self>,
        request: Request,
        source: Box<dyn AsyncRead + Send + Unpin>,
        progress: &Progress,
    ) -> Result<(), BuildError> {
        let disk = self.offered.mounted().await?;
        let Some(disk) = disk.as_ref() else { return Err(BuildError::ShuttingDown) };
        match self.run_alone(disk, &request, source, progress).await {
            Ok(_) => Ok(()),
            Err(BuildError::DiskFull(_)) => Err(BuildError::OfferedStoreFull(DISK_MIB)),
            Err(error) => Err(error),
        }
    }
}
