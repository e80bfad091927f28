//! Folders of a disk.

use std::{io, os::unix::fs::DirBuilderExt, path::Path};

/// Folders of a disk that a build may write to; only root may write to the disk's root folder.
pub const FOLDERS: [&str; 4] = ["layers", "workspace", "tmp", "platform"];

/// User and group id that own [`FOLDERS`].
const BUILD_USER: u32 = 1000;

/// Creates a folder that only root may enter, and its parents; no effect if it exists.
pub(super) fn create_private_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Creates [`FOLDERS`] unless they exist.
pub(super) fn create_folders(mount_point: &Path) -> io::Result<()> {
    for name in FOLDERS {
        let path = mount_point.join(name);
        match std::fs::DirBuilder::new().mode(0o755).create(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => std::os::unix::fs::lchown(&path, Some(BUILD_USER), Some(BUILD_USER))?,
        }
    }
    Ok(())
}
