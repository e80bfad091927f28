//! The floor of free disk space, below which nothing new is begun.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// How much of the disks of the server must be free; cheap to clone.
#[derive(Debug, Clone)]
pub struct DiskFloor(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folders: Vec<PathBuf>,
    max_floor_bytes: u64,
    percent: u64,
    /// Whether the log has it that a disk is below its floor.
    told: AtomicBool,
}

/// A disk has less free space than its floor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server's disk is nearly full: {} MiB are free at {}, and below {} MiB (disk.floor_mib, disk.floor_percent) nothing new \
     is begun; an admin can make room: disk:report shows what takes it, gc removes what nothing needs",
    .free_bytes >> 20, .folder.display(), .floor_bytes >> 20
)]
pub struct BelowFloor {
    /// A folder on the disk.
    pub folder: PathBuf,
    /// Free space, in bytes.
    pub free_bytes: u64,
    /// The floor, in bytes.
    pub floor_bytes: u64,
}

impl DiskFloor {
    /// The disks that these folders are on must have `floor_mib` free, or `percent` of their size if that is less. A folder that
    /// does not exist, as one of an engine on another machine, is not on a disk of this one.
    pub fn new(folders: Vec<PathBuf>, floor_mib: u64, percent: u64) -> Self {
        let max_floor_bytes = floor_mib.saturating_mul(1 << 20);
        Self(Arc::new(Shared { folders, max_floor_bytes, percent, told: AtomicBool::new(false) }))
    }

    /// Checks that something new may be begun.
    ///
    /// # Errors
    ///
    /// A disk is below its floor. The log has that once, until there is room again.
    pub fn check(&self) -> Result<(), BelowFloor> {
        let below = self.0.folders.iter().find_map(|folder| self.below(folder));
        let was_told = self.0.told.swap(below.is_some(), Ordering::Relaxed);
        if let Some(below) = below {
            if !was_told {
                tracing::warn!("{below}");
            }
            return Err(below);
        }
        if was_told {
            tracing::info!("the server's disks have room again");
        }
        Ok(())
    }

    /// Free space of the disk that a folder is on, above its floor, in bytes. Blocks.
    ///
    /// # Errors
    ///
    /// The folder does not exist, or cannot be reached.
    pub fn room_above(&self, folder: &Path) -> io::Result<u64> {
        let (free_bytes, floor_bytes) = self.free_and_floor(folder)?;
        Ok(free_bytes.saturating_sub(floor_bytes))
    }

    fn free_and_floor(&self, folder: &Path) -> io::Result<(u64, u64)> {
        let disk = rustix::fs::statvfs(folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        let floor_bytes = self.0.max_floor_bytes.min(bytes(disk.f_blocks) / 100 * self.0.percent);
        Ok((bytes(disk.f_bavail), floor_bytes))
    }

    fn below(&self, folder: &Path) -> Option<BelowFloor> {
        let (free_bytes, floor_bytes) = self.free_and_floor(folder).ok()?;
        (free_bytes < floor_bytes).then(|| BelowFloor { folder: folder.to_owned(), free_bytes, floor_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_of_both_floors_counts() {
        let dir = tempfile::tempdir().unwrap();
        let floor = |mib, percent| DiskFloor::new(vec![dir.path().to_owned(), "/none".into()], mib, percent).check();
        assert_eq!(floor(u64::MAX >> 20, 0), Ok(()));
        assert_eq!(floor(0, 100), Ok(()));
        let room = |mib| DiskFloor::new(Vec::new(), mib, 100).room_above(dir.path()).unwrap();
        assert!(room(0) > room(1 << 20), "a floor of 1 TiB leaves less");
        assert_eq!(room(u64::MAX >> 20), 0);
        let below = floor(u64::MAX >> 20, 100).unwrap_err();
        assert!(below.free_bytes < below.floor_bytes, "no disk is empty");
        let text = below.to_string();
        let numbers = format!("{} MiB are free at {}", below.free_bytes >> 20, dir.path().display());
        assert!(text.contains(&numbers) && text.contains("; an admin can make room: disk:report"), "{text}");
    }
}
