//! The disk of a volume: unlike that of a build, nothing else has its files. It is created once, has write barriers, is
//! checked before it is mounted, and stays mounted when the server dies.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, fallocate};

use super::{
    error::{DiskError, blocking},
    folders::create_private_folder,
    mount::{VOLUME_OPTIONS, mount, mounted_device, unmount_all_at},
};
use crate::engine::child;

/// Folder of the disk that containers get. It is missing as long as the disk is not mounted, so that no container writes to
/// the host's disk instead.
const FILES: &str = "files";

/// What must be left of the host's disk when a volume takes its space, in bytes.
const HOST_RESERVE: u64 = 256 << 20;

/// The disk of a volume. Who calls sees to it that there is one call at a time for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeDisk {
    image: PathBuf,
    mount_point: PathBuf,
}

/// Whether the host's disk keeps the space of a volume for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reservation {
    /// The space is the volume's.
    Reserved,
    /// The host's file system cannot reserve space: the volume takes it as it is filled.
    Impossible,
}

/// What is used of a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUsage {
    /// Used by files.
    pub used: u64,
    /// Free for files.
    pub free: u64,
}

/// User and group that own a file.
pub type Owner = (u32, u32);

impl VolumeDisk {
    /// The disk `id` of those in `folder`, which must be an absolute path.
    pub fn new(folder: &Path, id: i64) -> Self {
        Self { image: folder.join(format!("{id}.img")), mount_point: folder.join(id.to_string()) }
    }

    /// The folder that containers get.
    pub fn files(&self) -> PathBuf {
        self.mount_point.join(FILES)
    }

    /// Creates the disk. One that was created halfway is begun anew.
    pub async fn create(&self, size_mib: u64) -> Result<Reservation, DiskError> {
        let new = self.image.with_extension("new");
        let reservation = blocking(&new, move |path| {
            if let Some(folder) = path.parent() {
                create_private_folder(folder)?;
            }
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let file = File::options().create_new(true).write(true).mode(0o600).open(&path)?;
            extend(&file, &path, size_mib << 20)
        });
        let reservation = match reservation.await {
            Ok(reservation) => reservation,
            Err(error) => {
                let _ = tokio::fs::remove_file(&new).await;
                return Err(self.no_space(error, size_mib));
            }
        };
        // Discarding its blocks would give the space back to the host.
        let options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0";
        let arguments = ["-q", "-F", "-b", "4096", "-m", "0", "-i", "8192", "-E", options];
        let arguments = arguments.iter().map(OsStr::new).chain([new.as_os_str()]);
        let made = child::run("mkfs.ext4", arguments, None).await;
        made.map_err(|source| DiskError::CannotFormat { path: self.image.clone(), source })?;
        blocking(&self.image, move |image| {
            File::open(&new)?.sync_all()?;
            std::fs::rename(&new, &image)?;
            image.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        })
        .await?;
        Ok(reservation)
    }

    /// Mounts the disk unless it is mounted, also by an earlier server, and gives it the declared size if it has a smaller
    /// one. Returns the folder that containers get.
    pub async fn mount(&self, size_mib: u64) -> Result<PathBuf, DiskError> {
        if mounted_device(&self.mount_point).await?.is_none() {
            self.check().await?;
            blocking(&self.mount_point, |path| create_private_folder(&path)).await?;
            mount(&self.image, &self.mount_point, VOLUME_OPTIONS).await?;
            self.grow(size_mib).await?;
        } else if blocking(&self.image, |path| Ok(path.metadata()?.len())).await? < size_mib << 20 {
            self.grow(size_mib).await?;
        }
        blocking(&self.files(), |path| match std::fs::DirBuilder::new().mode(0o755).create(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            Ok(()) | Err(_) => Ok(path),
        })
        .await
    }

    /// Whether the mounted disk has no files yet.
    pub async fn is_empty(&self) -> Result<bool, DiskError> {
        blocking(&self.files(), |path| Ok(std::fs::read_dir(path)?.next().is_none())).await
    }

    /// Gives the root folder of the mounted disk to a user.
    pub async fn set_owner(&self, (user, group): Owner) -> Result<(), DiskError> {
        blocking(&self.files(), move |path| std::os::unix::fs::lchown(path, Some(user), Some(group))).await
    }

    /// Who has the root folder of the mounted disk.
    pub async fn owner(&self) -> Result<Owner, DiskError> {
        blocking(&self.files(), |path| std::fs::symlink_metadata(path).map(|meta| (meta.uid(), meta.gid()))).await
    }

    /// What is used of the disk; `None` unless it is mounted.
    pub async fn usage(&self) -> Result<Option<DiskUsage>, DiskError> {
        if mounted_device(&self.mount_point).await?.is_none() {
            return Ok(None);
        }
        blocking(&self.mount_point, |path| {
            let fs = rustix::fs::statvfs(&path)?;
            let bytes = |blocks: u64| blocks.saturating_mul(fs.f_frsize);
            Ok(Some(DiskUsage { used: bytes(fs.f_blocks.saturating_sub(fs.f_bfree)), free: bytes(fs.f_bavail) }))
        })
        .await
    }

    /// Extends the mounted disk to this size, while it is in use. It may be repeated: a server may have died in between.
    pub async fn grow(&self, size_mib: u64) -> Result<(), DiskError> {
        let size = size_mib << 20;
        let extended = blocking(&self.image, move |path| {
            let file = File::options().write(true).open(&path)?;
            if file.metadata()?.len() < size { extend(&file, &path, size).map(Some) } else { Ok(None) }
        });
        extended.await.map_err(|error| self.no_space(error, size_mib))?;
        let Some(device) = mounted_device(&self.mount_point).await? else { return Ok(()) };
        let failed = |source| DiskError::CannotResize { path: self.image.clone(), source };
        child::run("losetup", [OsStr::new("-c"), device.as_os_str()], None).await.map_err(failed)?;
        child::run("resize2fs", [&device], None).await.map(drop).map_err(failed)
    }

    /// Shrinks the disk, which no container may use, to this size.
    pub async fn shrink(&self, size_mib: u64) -> Result<(), DiskError> {
        unmount_all_at(&self.mount_point).await?;
        let failed = |source| DiskError::CannotResize { path: self.image.clone(), source };
        // resize2fs demands a complete check.
        let check = [OsStr::new("-f"), OsStr::new("-p"), self.image.as_os_str()];
        match child::run("fsck.ext4", check, None).await {
            Err(error) if error.status().is_none_or(|status| status > REPAIRED) => return Err(failed(error)),
            Ok(_) | Err(_) => {}
        }
        let size = format!("{size_mib}M");
        let shrunk = child::run("resize2fs", [self.image.as_os_str(), OsStr::new(&size)], None).await;
        shrunk.map_err(failed)?;
        blocking(&self.image, move |path| {
            let file = File::options().write(true).open(path)?;
            file.set_len(size_mib << 20)?;
            file.sync_all()
        })
        .await
    }

    /// Unmounts and removes the disk. No effect if it does not exist.
    pub async fn remove(&self) -> Result<(), DiskError> {
        unmount_all_at(&self.mount_point).await?;
        for path in [self.image.clone(), self.image.with_extension("new")] {
            blocking(&path, |path| match std::fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            })
            .await?;
        }
        // The folder may stay: nothing uses it.
        let _ = tokio::fs::remove_dir(&self.mount_point).await;
        Ok(())
    }

    /// Checks the disk and repairs what needs no decision, such as after a power failure.
    async fn check(&self) -> Result<(), DiskError> {
        if !tokio::fs::try_exists(&self.image).await.unwrap_or(true) {
            return Err(DiskError::Lost(self.image.clone()));
        }
        match child::run("fsck.ext4", [OsStr::new("-p"), self.image.as_os_str()], None).await {
            Ok(_) => Ok(()),
            Err(error) if error.status().is_some_and(|status| status <= REPAIRED) => Ok(()),
            Err(source) if source.is_missing() => Err(DiskError::CannotMount { path: self.image.clone(), source }),
            Err(source) => Err(DiskError::Damaged { path: self.image.clone(), source }),
        }
    }

    fn no_space(&self, error: DiskError, size_mib: u64) -> DiskError {
        let full =
            matches!(&error, DiskError::CannotPrepare { source, .. } if source.kind() == io::ErrorKind::StorageFull);
        if !full {
            return error;
        }
        let folder = self.image.parent().unwrap_or(&self.image).to_owned();
        let free_mib = free_bytes(&folder).unwrap_or(0) >> 20;
        DiskError::NoSpace { size_mib, free_mib, folder }
    }
}

/// Exit status of `fsck.ext4` that has repaired all errors (e2fsck(8)).
const REPAIRED: i32 = 1;

/// Free bytes of the file system of a folder, for those who are not root.
fn free_bytes(folder: &Path) -> io::Result<u64> {
    let fs = rustix::fs::statvfs(folder)?;
    Ok(fs.f_bavail.saturating_mul(fs.f_frsize))
}

/// Extends a file and has the host's file system reserve its space, if it can. If there is too little, the file keeps its size.
fn extend(file: &File, path: &Path, size: u64) -> io::Result<Reservation> {
    let has = file.metadata()?.len();
    let more = size.saturating_sub(has);
    if free_bytes(path.parent().unwrap_or(path))? < more.saturating_add(HOST_RESERVE) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    match fallocate(file, FallocateFlags::empty(), has, more) {
        Ok(()) => Ok(Reservation::Reserved),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            file.set_len(size)?;
            Ok(Reservation::Impossible)
        }
        Err(error) => {
            file.set_len(has)?;
            Err(error.into())
        }
    }
}
