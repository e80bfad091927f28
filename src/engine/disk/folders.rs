//! Folders of a disk.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
};

/// Folders of a disk that a build may write to; only root may write to the disk's root folder.
pub const FOLDERS: [&str; 3] = ["layers", "workspace", "tmp"];

/// A folder of disks of earlier versions: it held the variables of builds, which are in memory now.
const FORMER_FOLDER: &str = "platform";

/// User and group id that own [`FOLDERS`].
const BUILD_USER: u32 = 1000;

/// Creates a folder that only root may enter, and its parents; no effect if it exists.
pub(super) fn create_private_folder(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Creates [`FOLDERS`] unless they exist, and removes what only earlier versions had.
pub(super) fn create_folders(mount_point: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(mount_point.join(FORMER_FOLDER)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    for name in FOLDERS {
        let path = mount_point.join(name);
        match create_readable(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => std::os::unix::fs::lchown(&path, Some(BUILD_USER), Some(BUILD_USER))?,
        }
    }
    Ok(())
}

/// Creates a folder that every user of a build container may enter.
pub(super) fn create_readable(path: &Path) -> io::Result<()> {
    std::fs::create_dir(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_builds_of_earlier_versions_are_removed() {
        let disk = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(disk.path().join("platform/env")).unwrap();
        std::fs::write(disk.path().join("platform/env/TOKEN"), "hunter2").unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), disk.path().join("platform/link")).unwrap();
        create_folders(disk.path()).unwrap();
        create_folders(disk.path()).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(disk.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["layers", "tmp", "workspace"]);
        assert!(outside.path().exists(), "links are not followed");
    }
}
