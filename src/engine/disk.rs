//! Disks of bounded size: a sparse file with an ext4 in it, loop-mounted while a build runs. Only a cache: one that is
//! damaged is made anew.

mod slot;

use std::{
    fs::File,
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use super::child::{self, ChildError};
pub use slot::Slot;

/// Why a disk is not there, or not gone.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A file or folder cannot be made, opened or removed.
    #[error("cannot prepare {path}: {source}")]
    CannotPrepare {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is mounted for another build.
    #[error("the build disk {0} is in use by another build")]
    InUse(PathBuf),
    /// It cannot be formatted.
    #[error("cannot make the build disk {path}: {source}")]
    CannotFormat {
        /// The image file.
        path: PathBuf,
        /// Why.
        source: ChildError,
    },
    /// It cannot be mounted.
    #[error("cannot mount the build disk {path}: {source}")]
    CannotMount {
        /// The image file.
        path: PathBuf,
        /// Why.
        source: ChildError,
    },
    /// It cannot be unmounted.
    #[error("cannot unmount {path}: {source}")]
    CannotUnmount {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: ChildError,
    },
    /// The work was cut off.
    #[error("the work on the build disk was cut off")]
    CutOff,
}

/// The folders of a disk that a build may write to; the disk's top is root's.
pub const FOLDERS: [&str; 4] = ["layers", "workspace", "tmp", "platform"];
/// Their owner.
const BUILD_USER: u32 = 1000;

/// Opens disks.
#[derive(Debug, Clone, Copy)]
pub struct Disk;

/// A disk in use. Close it; if it is only dropped, it stays mounted until [`Disk::unmount_leftovers`].
#[derive(Debug)]
pub struct MountedDisk {
    image: PathBuf,
    mount_point: PathBuf,
    _locked: File,
}

impl Disk {
    /// Mounts the disk in the file `image` at `mount_point`, an empty folder of its own; makes it, of `size_mib`, if it
    /// is not there, damaged or of another size. Both paths must be absolute.
    pub async fn open(image: &Path, size_mib: u64, mount_point: &Path) -> Result<MountedDisk, DiskError> {
        let locked = lock(image).await?;
        blocking(mount_point, |path| private_folder(&path)).await?;
        // A server before this one may have left it mounted.
        unmount_at(mount_point).await?;
        let usable = matches!(tokio::fs::metadata(image).await, Ok(meta) if meta.len() == size_mib << 20)
            && is_sound(image).await?;
        if !usable {
            format(image, size_mib).await?;
        }
        if let Err(error) = mount(image, mount_point).await {
            tracing::warn!(%error, image = %image.display(), "a build disk does not mount; making it anew");
            format(image, size_mib).await?;
            mount(image, mount_point).await?;
        }
        let disk = MountedDisk { image: image.to_owned(), mount_point: mount_point.to_owned(), _locked: locked };
        if let Err(e) = blocking(mount_point, |path| folders(&path)).await {
            disk.close().await?;
            return Err(e);
        }
        Ok(disk)
    }

    /// Removes the disk in the file `image`, which must not be in use; it may be gone already.
    pub async fn remove(image: &Path) -> Result<(), DiskError> {
        let locked = lock(image).await?;
        for path in [image.to_owned(), image.with_extension("new"), image.with_extension("lock")] {
            blocking(&path, |path| match std::fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            })
            .await?;
        }
        drop(locked);
        Ok(())
    }

    /// Unmounts whatever is mounted below `folder`, and gives back how many that were.
    pub async fn unmount_leftovers(folder: &Path) -> Result<usize, DiskError> {
        let found: Vec<_> = mount_points().await?.into_iter().filter(|path| path.starts_with(folder)).collect();
        // The last mounted first: it may be on top of another.
        for path in found.iter().rev() {
            unmount(path).await?;
            // Only a tidy-up: whoever mounts there makes it again.
            let _ = tokio::fs::remove_dir(path).await;
        }
        Ok(found.len())
    }
}

impl MountedDisk {
    /// One of [`FOLDERS`] on the host.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.mount_point.join(name)
    }

    /// Whether there is no space or no inode left on it, but for crumbs.
    pub fn is_full(&self) -> bool {
        const CRUMBS: u64 = 1 << 20;
        rustix::fs::statvfs(&self.mount_point)
            .is_ok_and(|fs| fs.f_bavail.saturating_mul(fs.f_frsize) < CRUMBS || fs.f_favail == 0)
    }

    /// Gives free blocks back to the host, and unmounts it.
    pub async fn close(self) -> Result<(), DiskError> {
        // Blocks of files just removed are only free once the journal says so.
        let synced = blocking(&self.mount_point, |path| Ok(rustix::fs::syncfs(File::open(path)?)?)).await;
        if let Err(error) = synced {
            tracing::warn!(%error, "a build disk may lose what was written last");
        }
        if let Err(error) = child::run("fstrim", [&self.mount_point], None).await {
            tracing::debug!(%error, "a build disk keeps the blocks that it does not need");
        }
        unmount(&self.mount_point).await?;
        // Only a tidy-up: the next build makes it again.
        let _ = tokio::fs::remove_dir(&self.mount_point).await;
        Ok(())
    }

    /// Unmounts it and removes it with all that is on it.
    pub async fn discard(self) -> Result<(), DiskError> {
        let image = self.image.clone();
        unmount(&self.mount_point).await?;
        let _ = tokio::fs::remove_dir(&self.mount_point).await;
        tokio::fs::remove_file(&image).await.map_err(|source| DiskError::CannotPrepare { path: image, source })
    }
}

/// Two builds on one disk would see each other's files; the kernel lets go of the lock with the process.
async fn lock(image: &Path) -> Result<File, DiskError> {
    // The build before this one may be putting it away.
    const TRIES: u32 = 1000;
    let path = image.with_extension("lock");
    let file = blocking(&path, |path| {
        if let Some(parent) = path.parent() {
            private_folder(parent)?;
        }
        File::options().create(true).truncate(false).write(true).open(path)
    })
    .await?;
    let mut tries = 0;
    loop {
        tries += 1;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if tries == TRIES => return Err(DiskError::InUse(image.to_owned())),
            // A child that some other task starts shares our locks for the moment between fork and exec.
            Err(rustix::io::Errno::WOULDBLOCK) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(e) => return Err(DiskError::CannotPrepare { path, source: e.into() }),
        }
    }
}

/// Makes it beside its place and moves it there: a file at `image` always holds a whole file system.
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
    let arguments = arguments.iter().map(std::ffi::OsStr::new).chain([new.as_os_str()]);
    child::run("mkfs.ext4", arguments, None)
        .await
        .map_err(|source| DiskError::CannotFormat { path: image.to_owned(), source })?;
    tokio::fs::rename(&new, image).await.map_err(|source| DiskError::CannotPrepare { path: image.to_owned(), source })
}

/// Repairs what can be repaired by itself; `false` if it must be made anew.
async fn is_sound(image: &Path) -> Result<bool, DiskError> {
    const REPAIRED: i32 = 1;
    let arguments = [std::ffi::OsStr::new("-p"), image.as_os_str()];
    match child::run("fsck.ext4", arguments, None).await {
        Ok(_) => Ok(true),
        Err(e) if e.is_missing() => Err(DiskError::CannotMount { path: image.to_owned(), source: e }),
        Err(e) if e.status() == Some(REPAIRED) => Ok(true),
        Err(error) => {
            tracing::warn!(%error, image = %image.display(), "a build disk is damaged; making it anew");
            Ok(false)
        }
    }
}

async fn mount(image: &Path, mount_point: &Path) -> Result<(), DiskError> {
    // Without auto_da_alloc a file that is written anew does not go to the disk at once (closing it does that, with all
    // the rest): the kernel's thread that writes has no build's low priority, so apps would wait for it. After a loss of
    // power such a file may be empty, but then its layer is known to have been lent to a build.
    let options = "loop,nosuid,nodev,noatime,errors=remount-ro,noauto_da_alloc";
    let arguments = ["-t", "ext4", "-o", options, "--"].map(std::ffi::OsStr::new);
    let arguments = arguments.into_iter().chain([image.as_os_str(), mount_point.as_os_str()]);
    child::run("mount", arguments, None)
        .await
        .map(drop)
        .map_err(|source| DiskError::CannotMount { path: image.to_owned(), source })
}

/// The loop device goes with the mount: `mount -o loop` asks the kernel for that.
async fn unmount(path: &Path) -> Result<(), DiskError> {
    const TRIES: u32 = 20;
    let mut tries = 0;
    loop {
        tries += 1;
        match child::run("umount", [std::ffi::OsStr::new("--"), path.as_os_str()], None).await {
            Ok(_) => return Ok(()),
            Err(_) if !mount_points().await?.iter().any(|mounted| mounted == path) => return Ok(()),
            // A process of the build's container may be dying still.
            Err(_) if tries < TRIES => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(_) => {
                let arguments = ["-l", "--"].map(std::ffi::OsStr::new).into_iter().chain([path.as_os_str()]);
                return child::run("umount", arguments, None)
                    .await
                    .map(drop)
                    .map_err(|source| DiskError::CannotUnmount { path: path.to_owned(), source });
            }
        }
    }
}

async fn unmount_at(path: &Path) -> Result<(), DiskError> {
    let layers = mount_points().await?.iter().filter(|mounted| *mounted == path).count();
    for _ in 0..layers {
        unmount(path).await?;
    }
    Ok(())
}

async fn mount_points() -> Result<Vec<PathBuf>, DiskError> {
    let path = "/proc/self/mountinfo";
    let text = tokio::fs::read(path).await.map_err(|source| DiskError::CannotPrepare { path: path.into(), source })?;
    Ok(String::from_utf8_lossy(&text).lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).collect())
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = text.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            plain.push(byte);
            at += 4;
        } else {
            plain.push(bytes[at]);
            at += 1;
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(plain))
}

fn private_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn folders(mount_point: &Path) -> io::Result<()> {
    for name in FOLDERS {
        let path = mount_point.join(name);
        match std::fs::DirBuilder::new().mode(0o755).create(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => std::os::unix::fs::lchown(&path, Some(BUILD_USER), Some(BUILD_USER))?,
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(PathBuf) -> io::Result<T> + Send + 'static,
) -> Result<T, DiskError> {
    let owned = path.to_owned();
    let done = tokio::task::spawn_blocking(move || work(owned)).await.map_err(|_| DiskError::CutOff)?;
    done.map_err(|source| DiskError::CannotPrepare { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape("/a\\040b\\134c"), Path::new("/a b\\c"));
        assert_eq!(unescape("/a\\"), Path::new("/a\\"));
    }
}
