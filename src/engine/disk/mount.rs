//! Mounting and unmounting of disks.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::error::DiskError;
use crate::engine::child;

/// Options of build disks. With auto_da_alloc, the kernel writes a replaced file to disk when it is closed; with barrier, a
/// program that syncs a file waits until the host's disk has written all. What a power failure leaves of a mounted build disk
/// is not used anyway.
pub(super) const BUILD_OPTIONS: &str = "loop,nosuid,nodev,noatime,errors=remount-ro,noauto_da_alloc,barrier=0";

/// Options of the disks of volumes. Blocks of removed files stay reserved on the host's disk.
pub(super) const VOLUME_OPTIONS: &str = "loop,nosuid,nodev,noatime,nodiscard,noinit_itable,errors=remount-ro";

/// Mounts the disk in the file `image`.
pub(super) async fn mount(image: &Path, mount_point: &Path, options: &str) -> Result<(), DiskError> {
    let arguments = ["-t", "ext4", "-o", options, "--"].map(OsStr::new);
    let arguments = arguments.into_iter().chain([image.as_os_str(), mount_point.as_os_str()]);
    child::run("mount", arguments, None)
        .await
        .map(drop)
        .map_err(|source| DiskError::CannotMount { path: image.to_owned(), source })
}

/// Unmounts a file system. The kernel removes its loop device, because `mount -o loop` requested that.
pub(super) async fn unmount(path: &Path) -> Result<(), DiskError> {
    const ATTEMPTS: u32 = 20;
    let mut attempts = 0;
    loop {
        attempts += 1;
        match child::run("umount", [OsStr::new("--"), path.as_os_str()], None).await {
            Ok(_) => return Ok(()),
            Err(_) if !mount_points().await?.iter().any(|mounted| mounted == path) => return Ok(()),
            // A process of the build container may not have ended yet.
            Err(_) if attempts < ATTEMPTS => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(_) => {
                let arguments = ["-l", "--"].map(OsStr::new).into_iter().chain([path.as_os_str()]);
                return child::run("umount", arguments, None)
                    .await
                    .map(drop)
                    .map_err(|source| DiskError::CannotUnmount { path: path.to_owned(), source });
            }
        }
    }
}

/// Unmounts all file systems that are mounted at `path`.
pub(super) async fn unmount_all_at(path: &Path) -> Result<(), DiskError> {
    let mounts = mount_points().await?.iter().filter(|mounted| *mounted == path).count();
    for _ in 0..mounts {
        unmount(path).await?;
    }
    Ok(())
}

/// The table of mounts (proc_pid_mountinfo(5)).
async fn mount_table() -> Result<String, DiskError> {
    let path = "/proc/self/mountinfo";
    let text = tokio::fs::read(path).await.map_err(|source| DiskError::CannotPrepare { path: path.into(), source })?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Mount points of all mounted file systems, in the order of mounting.
pub(super) async fn mount_points() -> Result<Vec<PathBuf>, DiskError> {
    Ok(mount_table().await?.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).collect())
}

/// The device that is mounted at `path`; `None` if nothing is.
pub(super) async fn mounted_device(path: &Path) -> Result<Option<PathBuf>, DiskError> {
    Ok(mount_table().await?.lines().rev().find_map(|line| device_at(line, path)))
}

/// The device of a line of the table of mounts, if it is mounted at `path`.
fn device_at(line: &str, path: &Path) -> Option<PathBuf> {
    let (mount, file_system) = line.split_once(" - ")?;
    let at = mount.split(' ').nth(4).map(unescape)?;
    let device = file_system.split(' ').nth(1).map(unescape)?;
    (at == path).then_some(device)
}

/// Decodes a path in a table of mounts: the kernel writes space, tab, newline and backslash as three octal digits.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_of_a_mount_is_found() {
        let line =
            "36 35 7:3 / /var/a\\040b rw,nosuid,nodev,noatime shared:1 master:2 - ext4 /dev/loop3 rw,errors=remount-ro";
        assert_eq!(device_at(line, Path::new("/var/a b")), Some("/dev/loop3".into()));
        assert_eq!(device_at(line, Path::new("/var/a")), None);
    }

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape("/a\\040b\\134c"), Path::new("/a b\\c"));
        assert_eq!(unescape("/a\\"), Path::new("/a\\"));
    }
}
