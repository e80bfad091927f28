//! Makes a disk available in a running container.
//!
//! A slot has an empty folder for each of the disk's folders, on a small file system. These folders are mounted into the
//! container as slave mounts (`mount_namespaces(7)`): what is mounted on them later appears in the container.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};

use super::{
    error::{DiskError, blocking},
    folders::{FOLDERS, create_private_folder, create_readable},
    image::MountedDisk,
    mount::unmount,
};

/// Empty folders on which the folders of a disk can be mounted. It must be closed: when dropped, it stays mounted until
/// [`Disk::unmount_leftovers`](super::Disk::unmount_leftovers).
#[derive(Debug)]
pub struct Slot {
    mount_point: PathBuf,
    /// Whether folders of a disk may be mounted on the slot.
    has_disk: bool,
}

impl Slot {
    /// Mounts an empty slot at `mount_point`, a folder that is used for nothing else.
    pub async fn open(mount_point: &Path) -> Result<Self, DiskError> {
        let made = blocking(mount_point, |path| {
            create_private_folder(&path)?;
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            mount("paas", &path, "tmpfs", flags, c"size=64k,mode=700")?;
            mount_change(&path, MountPropagationFlags::SHARED)?;
            FOLDERS.iter().try_for_each(|name| create_readable(&path.join(name)))
        })
        .await;
        let slot = Self { mount_point: mount_point.to_owned(), has_disk: false };
        match made {
            Ok(()) => Ok(slot),
            Err(error) => {
                if let Err(error) = slot.close().await {
                    tracing::warn!(%error, "cannot unmount a build slot; it is unmounted at the next start of the server");
                }
                Err(error)
            }
        }
    }

    /// Path on the host of one of the [`FOLDERS`].
    pub fn folder(&self, name: &str) -> PathBuf {
        self.mount_point.join(name)
    }

    /// Mounts the folders of a disk on the folders of the empty slot. Returns the disk's device number, by which a process
    /// in the container recognises the disk (`st_dev` of stat(2)).
    pub async fn mount(&mut self, disk: &MountedDisk) -> Result<u64, DiskError> {
        self.has_disk = true;
        let slot = self.mount_point.clone();
        blocking(&disk.mount_point, move |disk| {
            FOLDERS.iter().try_for_each(|name| Ok::<_, io::Error>(mount_bind(disk.join(name), slot.join(name))?))?;
            Ok(std::fs::metadata(disk)?.dev())
        })
        .await
    }

    /// Unmounts the folders of the disk, and the slot.
    pub async fn close(self) -> Result<(), DiskError> {
        let mut closed = Ok(());
        // All are unmounted before the first error is returned.
        for name in FOLDERS.iter().filter(|_| self.has_disk) {
            closed = closed.and(unmount(&self.folder(name)).await);
        }
        closed.and(unmount(&self.mount_point).await)?;
        // The folder may stay: nothing uses it.
        let _ = tokio::fs::remove_dir(&self.mount_point).await;
        Ok(())
    }
}
