//! The store of the images that the operator offers to Dockerfiles: a disk that builds can only read. Its contents are
//! written by the lifecycle in a container of its own; no build runs meanwhile.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::error::BuildError;
use crate::{
    engine::{
        Mount,
        disk::{Disk, MountedDisk},
    },
    progress::Progress,
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

    /// Full names of the images in it. Blocks.
    pub(super) fn names(&self) -> HashSet<String> {
        let Some(disk) = self.0.as_ref() else { return HashSet::new() };
        let list = disk.folder("layers").join("storage/overlay-images/images.json");
        names_in(&list).unwrap_or_else(|error| {
            tracing::warn!(%error, path = %list.display(), "cannot read the list of the offered images");
            HashSet::new()
        })
    }
}

impl OfferedStore {
    pub(super) fn new(image: PathBuf, mount_point: PathBuf) -> Self {
        Self { image, mount_point, disk: Arc::default() }
    }

    /// The store for a build.
    pub(super) async fn read(&self, progress: &Progress) -> Result<OfferedImages, BuildError> {
        let guard = if let Ok(guard) = Arc::clone(&self.disk).try_read_owned() {
            guard
        } else {
            progress.step("Waiting until an offered image is changed").await;
            Arc::clone(&self.disk).read_owned().await
        };
        if guard.is_some() || !self.exists() {
            return Ok(OfferedImages(guard));
        }
        drop(guard);
        drop(self.mounted(progress).await?);
        Ok(OfferedImages(Arc::clone(&self.disk).read_owned().await))
    }

    /// The store for a change, mounted.
    pub(super) async fn mounted(
        &self,
        progress: &Progress,
    ) -> Result<OwnedRwLockWriteGuard<Option<MountedDisk>>, BuildError> {
        let mut guard = if let Ok(guard) = Arc::clone(&self.disk).try_write_owned() {
            guard
        } else {
            progress.step("Waiting for the builds of Dockerfiles to end").await;
            Arc::clone(&self.disk).write_owned().await
        };
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

/// The names in the list of images of a containers-storage(5).
fn names_in(list: &Path) -> io::Result<HashSet<String>> {
    const MAX_BYTES: u64 = 16 << 20;
    #[derive(Deserialize)]
    struct Image {
        #[serde(default)]
        names: Option<Vec<String>>,
    }
    let mut text = Vec::new();
    match File::open(list) {
        Ok(file) => file.take(MAX_BYTES).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(error) => return Err(error),
    };
    let images: Vec<Image> = serde_json::from_slice(&text)?;
    Ok(images.into_iter().filter_map(|image| image.names).flatten().collect())
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures_util::{FutureExt as _, poll};

    use super::*;

    #[tokio::test]
    async fn a_build_that_waits_for_a_change_says_so_and_so_does_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let store = OfferedStore::new(folder.path().join("none"), folder.path().join("mount"));
        let (progress, mut lines) = Progress::channel();
        let change = Arc::clone(&store.disk).write_owned().await;
        let mut build = Box::pin(store.read(&progress));
        assert!(poll!(&mut build).is_pending());
        let mut said = || lines.recv().now_or_never().flatten().map(|line| line.to_string());
        assert_eq!(said().unwrap(), "-----> Waiting until an offered image is changed");
        drop(change);
        let Poll::Ready(Ok(images)) = poll!(&mut build) else { panic!("nothing is waited for any more") };
        assert!(images.mount().is_none() && images.names().is_empty());
        assert!(poll!(Box::pin(store.mounted(&progress))).is_pending());
        assert_eq!(said().unwrap(), "-----> Waiting for the builds of Dockerfiles to end");
    }

    #[test]
    fn the_names_are_those_of_all_images() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("images.json");
        assert!(names_in(&list).unwrap().is_empty(), "a new store has no list");
        let text =
            r#"[{"id": "a", "names": ["docker.io/library/a:1", "host/b:2"]}, {"id": "b"}, {"id": "c", "names": null}]"#;
        std::fs::write(&list, text).unwrap();
        let names = ["docker.io/library/a:1", "host/b:2"].map(str::to_owned);
        assert_eq!(names_in(&list).unwrap(), HashSet::from(names));
        std::fs::write(&list, "[{").unwrap();
        assert!(names_in(&list).is_err());
    }
}
