//! How a disk gets into a container that runs already.
//!
//! For each of a disk's folders a slot has an empty one, on a small file system of its own. A container has those mounted
//! as slaves (`mount_namespaces(7)`): what is mounted on one of them afterwards is seen in the container, too.

use std::{
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

use super::{DiskError, FOLDERS, MountedDisk, blocking, private_folder, unmount};

/// Empty folders for those of a disk. Close it; if it is only dropped, it stays mounted until
/// [`super::Disk::unmount_leftovers`].
#[derive(Debug)]
pub struct Slot {
    mount_point: PathBuf,
    mounted: bool,
}

impl Slot {
    /// Mounts an empty slot at `mount_point`, a folder of its own.
    pub async fn open(mount_point: &Path) -> Result<Self, DiskError> {
        let made = blocking(mount_point, |path| {
            private_folder(&path)?;
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            mount("paas", &path, "tmpfs", flags, c"size=64k,mode=700")?;
            mount_change(&path, MountPropagationFlags::SHARED)?;
            FOLDERS.iter().try_for_each(|name| std::fs::DirBuilder::new().mode(0o755).create(path.join(name)))
        })
        .await;
        let slot = Self { mount_point: mount_point.to_owned(), mounted: false };
        match made {
            Ok(()) => Ok(slot),
            Err(error) => {
                if let Err(error) = slot.close().await {
                    tracing::warn!(%error, "a mount is left until the server starts again");
                }
                Err(error)
            }
        }
    }

    /// One of [`FOLDERS`] on the host.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.mount_point.join(name)
    }

    /// Mounts the folders of a disk on those of the slot, which has none yet, and gives back the disk's device number, by
    /// which a process tells that it sees them (`st_dev` of stat(2)).
    pub async fn mount(&mut self, disk: &MountedDisk) -> Result<u64, DiskError> {
        self.mounted = true;
        let slot = self.mount_point.clone();
        blocking(&disk.mount_point, move |disk| {
            FOLDERS.iter().try_for_each(|name| Ok::<_, io::Error>(mount_bind(disk.join(name), slot.join(name))?))?;
            Ok(std::fs::metadata(disk)?.dev())
        })
        .await
    }

    /// Unmounts it, and what was mounted on it.
    pub async fn close(self) -> Result<(), DiskError> {
        let mut closed = Ok(());
        // All of them, before the first error is told.
        for name in FOLDERS.iter().filter(|_| self.mounted) {
            closed = closed.and(unmount(&self.folder(name)).await);
        }
        closed.and(unmount(&self.mount_point).await)?;
        // Only a tidy-up: nobody looks for it.
        let _ = tokio::fs::remove_dir(&self.mount_point).await;
        Ok(())
    }
}
