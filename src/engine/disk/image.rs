//! The sparse file with the ext4 file system of a disk.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    error::{DiskError, blocking},
    folders::{create_folders, create_private_folder},
    mount::{BUILD_OPTIONS, mount, mount_points, unmount, unmount_all_at},
};
use crate::engine::child;

/// Opens and removes disks.
#[derive(Debug, Clone, Copy)]
pub struct Disk;

/// A mounted disk. It must be closed: when dropped, it stays mounted until [`Disk::unmount_leftovers`].
#[derive(Debug)]
pub struct MountedDisk {
    image: PathBuf,
    pub(super) mount_point: PathBuf,
    _lock: File,
}

impl Disk {
    /// Mounts the disk in the file `image` at `mount_point`, a folder that is used for nothing else. If the disk does not
    /// exist, is damaged, was mounted when the machine failed, or has another size than `size_mib`, it is created again. Both
    /// paths must be absolute.
    pub async fn open(image: &Path, size_mib: u64, mount_point: &Path) -> Result<MountedDisk, DiskError> {
        let lock = lock(image, MAX_ATTEMPTS).await?;
        blocking(mount_point, |path| create_private_folder(&path)).await?;
        // A crashed server may have left it mounted.
        unmount_all_at(mount_point).await?;
        let usable = matches!(tokio::fs::metadata(image).await, Ok(meta) if meta.len() == size_mib << 20)
            && !was_mounted(image).await?
            && is_sound(image).await?;
        if !usable {
            format(image, size_mib).await?;
        }
        if let Err(error) = mount(image, mount_point, BUILD_OPTIONS).await {
            tracing::warn!(%error, image = %image.display(), "cannot mount a build disk; creating it again");
            format(image, size_mib).await?;
            mount(image, mount_point, BUILD_OPTIONS).await?;
        }
        // That it is mounted must be known after a power failure.
        sync_file(image).await?;
        let disk = MountedDisk { image: image.to_owned(), mount_point: mount_point.to_owned(), _lock: lock };
        if let Err(e) = blocking(mount_point, |path| create_folders(&path)).await {
            disk.close().await?;
            return Err(e);
        }
        Ok(disk)
    }

    /// Removes the disk in the file `image`, which must not be in use. No effect if it does not exist.
    pub async fn remove(image: &Path) -> Result<(), DiskError> {
        let lock = lock(image, MAX_ATTEMPTS).await?;
        remove_files(&[image.to_owned(), image.with_extension("new"), image.with_extension("lock")]).await?;
        drop(lock);
        Ok(())
    }

    /// The same, but for a disk that is in use; whether it was not. Its lock file stays: a build may wait for it.
    pub async fn remove_unused(image: &Path) -> Result<bool, DiskError> {
        if !tokio::fs::try_exists(image).await.unwrap_or(true) {
            return Ok(true);
        }
        let lock = match lock(image, FEW_ATTEMPTS).await {
            Err(DiskError::InUse(_)) => return Ok(false),
            lock => lock?,
        };
        remove_files(&[image.to_owned(), image.with_extension("new")]).await?;
        drop(lock);
        Ok(true)
    }

    /// Unmounts everything that is mounted below `folder`; returns the number of mounts.
    pub async fn unmount_leftovers(folder: &Path) -> Result<usize, DiskError> {
        let found: Vec<_> = mount_points().await?.into_iter().filter(|path| path.starts_with(folder)).collect();
        // In reverse order, because a mount may be below or on top of an earlier one.
        for path in found.iter().rev() {
            unmount(path).await?;
            // The folder may stay: it is created again if necessary.
            let _ = tokio::fs::remove_dir(path).await;
        }
        Ok(found.len())
    }
}

impl MountedDisk {
    /// Path on the host of one of the [`FOLDERS`](super::FOLDERS).
    pub fn folder(&self, name: &str) -> PathBuf {
        self.mount_point.join(name)
    }

    /// Whether the disk has less than 1 MiB of free space, or no free inode.
    pub fn is_full(&self) -> bool {
        const MIN_FREE_BYTES: u64 = 1 << 20;
        rustix::fs::statvfs(&self.mount_point)
            .is_ok_and(|fs| fs.f_bavail.saturating_mul(fs.f_frsize) < MIN_FREE_BYTES || fs.f_favail == 0)
    }

    /// Returns free blocks to the host and unmounts the disk.
    pub async fn close(self) -> Result<(), DiskError> {
        // Blocks of removed files are free only after the journal is written.
        let synced = blocking(&self.mount_point, |path| Ok(rustix::fs::syncfs(File::open(path)?)?)).await;
        if let Err(error) = synced {
            tracing::warn!(%error, "cannot sync a build disk; the data that was written last may be lost");
        }
        // Before it counts as not mounted, the host's disk must have all of it.
        if let Err(error) = sync_file(&self.image).await {
            tracing::warn!(%error, "cannot sync a build disk; after a power failure it may be damaged");
        }
        if let Err(error) = child::run("fstrim", [&self.mount_point], None).await {
            tracing::debug!(%error, "cannot return free blocks of a build disk");
        }
        unmount(&self.mount_point).await?;
        // The folder may stay: the next build creates it if necessary.
        let _ = tokio::fs::remove_dir(&self.mount_point).await;
        Ok(())
    }

    /// Unmounts and removes the disk.
    pub async fn discard(self) -> Result<(), DiskError> {
        let image = self.image.clone();
        unmount(&self.mount_point).await?;
        let _ = tokio::fs::remove_dir(&self.mount_point).await;
        tokio::fs::remove_file(&image).await.map_err(|source| DiskError::CannotPrepare { path: image, source })
    }
}

async fn remove_files(paths: &[PathBuf]) -> Result<(), DiskError> {
    for path in paths {
        blocking(path, |path| match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        })
        .await?;
    }
    Ok(())
}

/// Attempts to lock a disk, 20 ms apart: the previous build may be closing it.
const MAX_ATTEMPTS: u32 = 1000;
/// The same where nobody waits for a build: a child process may have the lock for a moment.
const FEW_ATTEMPTS: u32 = 5;

/// Locks a disk, so that two builds cannot use it at the same time. The kernel releases the lock when the process ends.
async fn lock(image: &Path, max_attempts: u32) -> Result<File, DiskError> {
    let path = image.with_extension("lock");
    let file = blocking(&path, |path| {
        if let Some(parent) = path.parent() {
            create_private_folder(parent)?;
        }
        File::options().create(true).truncate(false).write(true).open(path)
    })
    .await?;
    let mut attempts = 0;
    loop {
        attempts += 1;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if attempts == max_attempts => {
                return Err(DiskError::InUse(image.to_owned()));
            }
            // A child process that another task starts holds our locks, too, between fork and exec.
            Err(rustix::io::Errno::WOULDBLOCK) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(e) => return Err(DiskError::CannotPrepare { path, source: e.into() }),
        }
    }
}

/// Creates the file system in a temporary file and then renames it, so that `image` always has a complete file system.
async fn format(image: &Path, size_mib: u64) -> Result<(), DiskError> {
    let new = image.with_extension("new");
    blocking(&new, move |path| {
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = File::options().create_new(true).write(true).open(&path)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.set_len(size_mib << 20)
    })
    .await?;
    let extended = "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0";
    let arguments = ["-q", "-F", "-m", "0", "-i", "8192", "-J", "size=8", "-E", extended];
    let arguments = arguments.iter().map(OsStr::new).chain([new.as_os_str()]);
    child::run("mkfs.ext4", arguments, None)
        .await
        .map_err(|source| DiskError::CannotFormat { path: image.to_owned(), source })?;
    tokio::fs::rename(&new, image).await.map_err(|source| DiskError::CannotPrepare { path: image.to_owned(), source })
}

async fn sync_file(image: &Path) -> Result<(), DiskError> {
    blocking(image, |path| File::open(path)?.sync_data()).await
}

/// Whether the file system was mounted when the machine failed: it has a journal to recover (the ext4 documentation of the
/// kernel, "Super Block"). Without write barriers its contents may be older or newer than the journal tells.
async fn was_mounted(image: &Path) -> Result<bool, DiskError> {
    const INCOMPATIBLE_FEATURES: u64 = 1024 + 0x60;
    const RECOVER: u32 = 0x4;
    let mut features = [0; 4];
    let features = blocking(image, move |path| {
        File::open(path)?.read_exact_at(&mut features, INCOMPATIBLE_FEATURES)?;
        Ok(features)
    });
    let mounted = u32::from_le_bytes(features.await?) & RECOVER != 0;
    if mounted {
        tracing::warn!(image = %image.display(), "the machine failed while a build disk was in use; creating it again");
    }
    Ok(mounted)
}

/// Checks and repairs the file system; `false` if it cannot be repaired automatically.
async fn is_sound(image: &Path) -> Result<bool, DiskError> {
    const REPAIRED: i32 = 1;
    let arguments = [OsStr::new("-p"), image.as_os_str()];
    match child::run("fsck.ext4", arguments, None).await {
        Ok(_) => Ok(true),
        Err(e) if e.is_missing() => Err(DiskError::CannotMount { path: image.to_owned(), source: e }),
        Err(e) if e.status() == Some(REPAIRED) => Ok(true),
        Err(error) => {
            tracing::warn!(%error, image = %image.display(), "a build disk is damaged; creating it again");
            Ok(false)
        }
    }
}
