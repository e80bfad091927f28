//! The disk of a volume: unlike that of a build, nothing else has its files. It is created once, has write barriers, is
//! checked before it is mounted, and stays mounted when the server dies.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::fs::{FallocateFlags, fallocate};

use super::{
    error::{DiskError, blocking},
    folders::create_private_folder,
    mount::{VOLUME_OPTIONS, mount, mounted_device, unmount_all_at},
};
use crate::{
    data_dir::DiskFloor,
    engine::child::{self, ChildError},
};

/// Folder of the disk that containers get. It is missing as long as the disk is not mounted, so that no container writes to
/// the host's disk instead.
const FILES: &str = "files";

/// Extension of the file of a disk that is destroyed.
const DISCARDED: &str = "destroyed";

/// The disk of a volume. Who calls sees to it that there is one call at a time for each.
#[derive(Debug, Clone)]
pub struct VolumeDisk {
    image: PathBuf,
    mount_point: PathBuf,
    floor: DiskFloor,
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
    /// The disk `id` of those in `folder`, which must be an absolute path. When it takes space, it leaves the host's disk above
    /// `floor`.
    pub fn new(folder: &Path, id: i64, floor: DiskFloor) -> Self {
        Self { image: folder.join(format!("{id}.img")), mount_point: folder.join(id.to_string()), floor }
    }

    /// The folder that containers get.
    pub fn files(&self) -> PathBuf {
        self.mount_point.join(FILES)
    }

    /// The file that has the disk.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Creates the disk. One that was created halfway is begun anew.
    pub async fn create(&self, size_mib: u64) -> Result<Reservation, DiskError> {
        let (new, floor) = (self.image.with_extension("new"), self.floor.clone());
        let reservation = blocking(&new, move |path| {
            if let Some(folder) = path.parent() {
                create_private_folder(folder)?;
            }
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let file = File::options().create_new(true).write(true).mode(0o600).open(&path)?;
            extend(&file, &path, size_mib << 20, Some(&floor))
        });
        let reservation = match reservation.await {
            Ok(reservation) => reservation,
            Err(error) => {
                let _ = tokio::fs::remove_file(&new).await;
                return Err(self.no_space(error, size_mib));
            }
        };
        // The kernel would zero what is lazy by giving its space back to the host.
        let options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0";
        let arguments = ["-q", "-F", "-b", "4096", "-m", "0", "-i", "8192", "-E", options];
        let arguments = arguments.iter().map(OsStr::new).chain([new.as_os_str()]);
        let made = child::run("mkfs.ext4", arguments, None).await;
        made.map_err(|source| DiskError::CannotFormat { path: self.image.clone(), source })?;
        blocking(&self.image, move |image| {
            let file = File::options().write(true).open(&new)?;
            // What mkfs has zeroed has lost its space.
            extend(&file, &new, size_mib << 20, None)?;
            file.sync_all()?;
            std::fs::rename(&new, &image)?;
            image.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        })
        .await?;
        Ok(reservation)
    }

    /// Mounts the disk unless it is mounted, also by an earlier server. One whose growth was interrupted gets its declared size
    /// before it is mounted. Returns the folder that containers get.
    pub async fn mount(&self, size_mib: u64) -> Result<PathBuf, DiskError> {
        if mounted_device(&self.mount_point).await?.is_none() {
            // One that is mounted elsewhere is not checked: the mount shares its device.
            if !is_attached(&self.image).await? {
                self.prepare(size_mib).await?;
            }
            blocking(&self.mount_point, |path| create_private_folder(&path)).await?;
            mount(&self.image, &self.mount_point, VOLUME_OPTIONS).await?;
        }
        blocking(&self.files(), |path| match std::fs::DirBuilder::new().mode(0o755).create(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            Ok(()) | Err(_) => Ok(path),
        })
        .await
    }

    /// Checks a disk that is not mounted, and completes its growth.
    async fn prepare(&self, size_mib: u64) -> Result<(), DiskError> {
        self.check(&["-p"]).await?;
        if self.size_of_file_system().await? < size_mib << 20 {
            self.unmount().await?;
            // Its size was granted before: the app must not stay down because the disk is below its floor now.
            self.grow(size_mib, None).await?;
        }
        Ok(())
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

    /// Whether the kernel lets this process extend a file system while it is mounted (`ext4_resize_begin`).
    pub async fn grows_while_mounted() -> bool {
        const CAP_SYS_RESOURCE: u64 = 1 << 24;
        let status = tokio::fs::read_to_string("/proc/self/status").await.unwrap_or_default();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let effective = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
        effective.is_some_and(|set| set & CAP_SYS_RESOURCE != 0)
    }

    /// Extends the mounted disk to this size, while it is in use. It may be repeated.
    pub async fn grow_mounted(&self, size_mib: u64) -> Result<(), DiskError> {
        self.extend(size_mib, Some(self.floor.clone())).await?;
        let Some(device) = mounted_device(&self.mount_point).await? else { return Ok(()) };
        self.run_resize("losetup", [OsStr::new("-c"), device.as_os_str()]).await?;
        self.run_resize("resize2fs", [device.as_os_str()]).await
    }

    /// Extends the disk, which no container may use, to this size. It is not mounted afterwards. It may be repeated.
    pub async fn grow_unmounted(&self, size_mib: u64) -> Result<(), DiskError> {
        self.unmount().await?;
        self.grow(size_mib, Some(self.floor.clone())).await
    }

    async fn grow(&self, size_mib: u64, floor: Option<DiskFloor>) -> Result<(), DiskError> {
        self.extend(size_mib, floor).await?;
        // resize2fs demands a complete check.
        self.check(&["-f", "-p"]).await?;
        self.run_resize("resize2fs", [self.image.as_os_str()]).await?;
        self.extend(size_mib, None).await
    }

    /// Gives the file this size, if it has a smaller one, and has all of its space reserved.
    async fn extend(&self, size_mib: u64, floor: Option<DiskFloor>) -> Result<(), DiskError> {
        let size = size_mib << 20;
        let extended = blocking(&self.image, move |path| {
            let file = File::options().write(true).open(&path)?;
            extend(&file, &path, size, floor.as_ref())
        });
        extended.await.map(drop).map_err(|error| self.no_space(error, size_mib))
    }

    async fn run_resize<const N: usize>(&self, program: &'static str, words: [&OsStr; N]) -> Result<(), DiskError> {
        let failed = |source| DiskError::CannotResize { path: self.image.clone(), source };
        child::run(program, words, None).await.map(drop).map_err(failed)
    }

    /// Size of the file system of a disk that is not mounted, in bytes: `s_blocks_count_lo` of its superblock (the ext4
    /// documentation of the kernel, "Super Block"), in blocks of 4 KiB.
    async fn size_of_file_system(&self) -> Result<u64, DiskError> {
        blocking(&self.image, |path| {
            let mut blocks = [0; 4];
            File::open(path)?.read_exact_at(&mut blocks, 1024 + 4)?;
            Ok(u64::from(u32::from_le_bytes(blocks)) << 12)
        })
        .await
    }

    /// Shrinks the disk, which no container may use, to this size. It is not mounted afterwards.
    pub async fn shrink(&self, size_mib: u64) -> Result<(), DiskError> {
        self.unmount().await?;
        self.check(&["-f", "-p"]).await?;
        let resized = self.run_resize("resize2fs", [self.image.as_os_str(), OsStr::new(&format!("{size_mib}M"))]).await;
        resized.map_err(|error| match needed_mib(&error) {
            Some(needed_mib) => DiskError::TooSmall { needed_mib, size_mib },
            None => error,
        })?;
        blocking(&self.image, move |path| {
            let file = File::options().write(true).open(path)?;
            file.set_len(size_mib << 20)?;
            file.sync_all()
        })
        .await
    }

    /// Unmounts the disk and gives its file a name that says that it is destroyed: whatever happens, it is one of
    /// [`VolumeDisk::discarded`] until it is removed. No effect if it does not exist.
    pub async fn discard(&self) -> Result<(), DiskError> {
        unmount_all_at(&self.mount_point).await?;
        blocking(&self.image, |image| {
            match std::fs::rename(&image, image.with_extension(DISCARDED)) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                renamed => renamed?,
            }
            image.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        })
        .await
    }

    /// Identities of the disks in `folder` that are discarded and not removed.
    pub async fn discarded(folder: &Path) -> Result<Vec<i64>, DiskError> {
        blocking(folder, |folder| {
            let entries = match std::fs::read_dir(folder) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let mut found = Vec::new();
            for entry in entries {
                let path = entry?.path();
                if path.extension() == Some(OsStr::new(DISCARDED)) {
                    found.extend(path.file_stem().and_then(OsStr::to_str).and_then(|id| id.parse::<i64>().ok()));
                }
            }
            Ok(found)
        })
        .await
    }

    /// Unmounts and removes the disk. No effect if it does not exist.
    pub async fn remove(&self) -> Result<(), DiskError> {
        unmount_all_at(&self.mount_point).await?;
        let others = ["new", DISCARDED].map(|extension| self.image.with_extension(extension));
        for path in [self.image.clone()].into_iter().chain(others) {
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

    /// Unmounts the disk, and makes sure that it is not mounted elsewhere: two file systems in one file would destroy it.
    async fn unmount(&self) -> Result<(), DiskError> {
        // The kernel detaches the device a moment after the unmount.
        const ATTEMPTS: u32 = 40;
        unmount_all_at(&self.mount_point).await?;
        for _ in 0..ATTEMPTS {
            if !is_attached(&self.image).await? {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(DiskError::StillMounted(self.image.clone()))
    }

    /// Checks the disk and repairs what needs no decision, such as after a power failure.
    async fn check(&self, options: &[&str]) -> Result<(), DiskError> {
        if !tokio::fs::try_exists(&self.image).await.unwrap_or(true) {
            return Err(DiskError::Lost(self.image.clone()));
        }
        let words = options.iter().map(OsStr::new).chain([self.image.as_os_str()]);
        match child::run("fsck.ext4", words, None).await {
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
        let room_mib = self.floor.room_above(&folder).unwrap_or(0) >> 20;
        DiskError::NoSpace { size_mib, room_mib, folder }
    }
}

/// What the files of a disk need, if that is why it cannot be made smaller: resize2fs says it in blocks of 4 KiB.
fn needed_mib(error: &DiskError) -> Option<u64> {
    let DiskError::CannotResize { source: ChildError::Failed { message, .. }, .. } = error else { return None };
    let (_, rest) = message.split_once("New size smaller than minimum (")?;
    let blocks: u64 = rest.split_once(')')?.0.parse().ok()?;
    Some(blocks.div_ceil(256))
}

/// Exit status of `fsck.ext4` that has repaired all errors (e2fsck(8)).
const REPAIRED: i32 = 1;

/// Extends a file and has the host's file system reserve its space, if it can. If there is too little above the floor, the file
/// keeps its size.
fn extend(file: &File, path: &Path, size: u64, floor: Option<&DiskFloor>) -> io::Result<Reservation> {
    /// Two at once would both find the same space free.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _lock = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let has = file.metadata()?.len();
    let more = size.saturating_sub(has);
    if let Some(floor) = floor.filter(|_| more > 0)
        && floor.room_above(path.parent().unwrap_or(path))? < more
    {
        return Err(io::ErrorKind::StorageFull.into());
    }
    // From the beginning: what is reserved stays as it is.
    match fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) => Ok(Reservation::Reserved),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            if more > 0 {
                file.set_len(size)?;
            }
            Ok(Reservation::Impossible)
        }
        Err(error) => {
            file.set_len(has)?;
            Err(error.into())
        }
    }
}

/// Whether a loop device has this file.
async fn is_attached(image: &Path) -> Result<bool, DiskError> {
    let wanted = image.to_owned();
    blocking(Path::new("/sys/class/block"), move |devices| {
        for device in std::fs::read_dir(devices)? {
            // Other devices have no such file, nor has a loop device that is free.
            let file = std::fs::read_to_string(device?.path().join("loop/backing_file")).unwrap_or_default();
            if Path::new(file.trim_end_matches('\n')) == wanted {
                return Ok(true);
            }
        }
        Ok(false)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_disk_becomes_no_smaller_than_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let disk = VolumeDisk::new(dir.path(), 1, DiskFloor::new(vec![dir.path().to_owned()], 0, 0));
        disk.create(64).await.unwrap();
        let refused = disk.shrink(1).await.unwrap_err();
        let text = refused.to_string();
        let DiskError::TooSmall { needed_mib, size_mib: 1 } = refused else { panic!("{text}") };
        assert!((2..64).contains(&needed_mib), "{text}");
        assert!(
            text.starts_with(&format!("its files need at least {needed_mib} MiB, and 1 MiB are asked for")),
            "{text}"
        );
        assert!(!text.contains('/'), "no path of the server: {text}");
        assert_eq!(std::fs::metadata(disk.image()).unwrap().len(), 64 << 20);
        disk.shrink(needed_mib).await.unwrap();
        assert_eq!(std::fs::metadata(disk.image()).unwrap().len(), needed_mib << 20);
    }

    #[test]
    fn what_files_need_is_rounded_up() {
        let failed = |message: &str| {
            let source = ChildError::Failed { program: "resize2fs", status: 1, message: message.to_owned() };
            DiskError::CannotResize { path: "/1.img".into(), source }
        };
        let needed = |message: &str| needed_mib(&failed(message));
        let version = "resize2fs 1.47.0 (5-Feb-2023) resize2fs:";
        assert_eq!(needed(&format!("{version} New size smaller than minimum (16461)")), Some(65));
        assert_eq!(needed(&format!("{version} New size smaller than minimum (16384)")), Some(64));
        assert_eq!(needed(&format!("{version} Input/output error")), None);
    }

    #[test]
    fn no_space_is_taken_below_the_floor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let file = File::create(&path).unwrap();
        let floor = |mib, percent| DiskFloor::new(vec![dir.path().to_owned()], mib, percent);
        let refused = extend(&file, &path, 1 << 20, Some(&floor(u64::MAX >> 20, 100))).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.metadata().unwrap().len(), 0);
        extend(&file, &path, 1 << 20, Some(&floor(0, 0))).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 1 << 20);
        // What it has already is not taken again, and what it was granted before is completed.
        extend(&file, &path, 1 << 20, Some(&floor(u64::MAX >> 20, 100))).unwrap();
        extend(&file, &path, 2 << 20, None).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 2 << 20);
    }
}
