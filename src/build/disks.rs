//! Names of disks, and what a server that died left of them.

use std::{fs, path::Path};

/// How the names of disks for images that are fetched begin.
const FETCH_DISK: &str = "fetch-";

/// The disk of an app's Dockerfile: unlike that of its buildpacks, it holds files of users that only exist in the container.
pub(super) fn dockerfile_disk(disk: &str) -> String {
    format!("{disk}-dockerfile")
}

/// A new name for the disk of an image that is fetched.
pub(super) fn fetch_disk() -> String {
    format!("{FETCH_DISK}{:08x}", rand::random::<u32>())
}

/// Removes the disks of fetches that a crashed server left. Blocks.
pub(super) fn remove_leftover_disks(disks: &Path) {
    for entry in fs::read_dir(disks).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(FETCH_DISK)
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::warn!(%error, path = %entry.path().display(), "cannot remove a disk that an earlier server left");
        }
    }
}
