//! What files take, and what is left.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

/// Number of entries of a folder that are looked at: a user may have made more.
const MAX_ENTRIES: u32 = 200_000;

/// Free bytes of the disk that a file or folder is on, for those who are not root. Blocks.
///
/// # Errors
///
/// It does not exist, or cannot be reached.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Bytes of the disk that a file, or a folder with all in it, takes; 0 if it does not exist. Sparse files take what is written of
/// them. Links are not followed, and of a folder of more than 200,000 entries the rest does not count. Blocks.
///
/// # Errors
///
/// It cannot be read.
pub fn disk_usage(path: &Path) -> io::Result<u64> {
    let mut left = MAX_ENTRIES;
    match usage(path, &mut left) {
        // Another task has just removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        usage => usage,
    }
}

fn usage(path: &Path, left: &mut u32) -> io::Result<u64> {
    /// Unit of [`MetadataExt::blocks`](std::os::unix::fs::MetadataExt::blocks), in bytes.
    const BLOCK: u64 = 512;
    let about = fs::symlink_metadata(path)?;
    let mut bytes = about.blocks() * BLOCK;
    if about.is_dir() {
        for entry in fs::read_dir(path)? {
            let Some(rest) = left.checked_sub(1) else { break };
            *left = rest;
            match usage(&entry?.path(), left) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                used => bytes += used?,
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_files_and_links_take_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("folder");
        fs::create_dir(&path).unwrap();
        let empty = disk_usage(&path).unwrap();
        fs::File::create(path.join("sparse")).unwrap().set_len(1 << 30).unwrap();
        std::os::unix::fs::symlink("/usr", path.join("link")).unwrap();
        assert_eq!(disk_usage(&path).unwrap(), empty);
        fs::create_dir(path.join("below")).unwrap();
        fs::write(path.join("below/file"), vec![1; 100_000]).unwrap();
        let used = disk_usage(&path).unwrap() - empty;
        assert!((100_000..200_000).contains(&used), "{used}");
        assert_eq!(disk_usage(&path.join("none")).unwrap(), 0);
    }
}
