//! What files take, and what is left.

use std::{collections::HashSet, io, path::Path};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, statat},
    io::Errno,
};

/// Number of entries of a folder that are looked at: a user may have made more.
const MAX_ENTRIES: u64 = 200_000;
/// Depth of folders below which nothing is counted: each level takes a file descriptor.
const MAX_DEPTH: usize = 256;

/// What a disk has left for those who are not root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeSpace {
    /// Bytes.
    pub bytes: u64,
    /// Files and folders that can be created. File systems without such a limit say something large, or 0.
    pub files: u64,
}

impl FreeSpace {
    /// What the disk of a file or folder has left. Blocks.
    ///
    /// # Errors
    ///
    /// It does not exist, or cannot be reached.
    pub fn of(path: &Path) -> io::Result<Self> {
        let disk = rustix::fs::statvfs(path)?;
        Ok(Self { bytes: disk.f_bavail.saturating_mul(disk.f_frsize), files: disk.f_favail })
    }
}

/// Free bytes of the disk that a file or folder is on, for those who are not root. Blocks.
///
/// # Errors
///
/// It does not exist, or cannot be reached.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    FreeSpace::of(path).map(|free| free.bytes)
}

/// What a file, or a folder with all in it, takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TreeUsage {
    /// Bytes of the disk.
    pub bytes: u64,
    /// Files and folders.
    pub entries: u64,
    /// Whether folders were left out because they are nested too deeply.
    pub too_deep: bool,
}

impl TreeUsage {
    /// Counts a file, or a folder with all in it; nothing if it does not exist. Sparse files take what is written of them, and
    /// a file with several names takes it once. Links are not followed. Blocks.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn of(path: &Path) -> io::Result<Self> {
        count(path, u64::MAX)
    }
}

/// Bytes of the disk that a file, or a folder with all in it, takes, as [`TreeUsage::of`] counts them; of a folder of more than
/// 200,000 entries the rest does not count. Blocks.
///
/// # Errors
///
/// It cannot be read.
pub fn disk_usage(path: &Path) -> io::Result<u64> {
    count(path, MAX_ENTRIES).map(|usage| usage.bytes)
}

/// Nothing is looked up by its path: a folder may be replaced by a link meanwhile, which leads elsewhere.
fn count(path: &Path, max_entries: u64) -> io::Result<TreeUsage> {
    let (mut usage, mut linked) = (TreeUsage::default(), HashSet::new());
    let Some(top) = present(statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW))? else { return Ok(usage) };
    usage.bytes += bytes_of(&top);
    let mut open = Vec::new();
    if FileType::from_raw_mode(top.st_mode).is_dir() {
        open.extend(open_folder(CWD, path)?);
    }
    while let Some(folder) = open.last_mut() {
        let Some(entry) = folder.read().filter(|_| usage.entries < max_entries) else {
            open.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let Some(about) = present(statat(folder.fd()?, name, AtFlags::SYMLINK_NOFOLLOW))? else { continue };
        usage.entries += 1;
        if FileType::from_raw_mode(about.st_mode).is_dir() {
            usage.bytes += bytes_of(&about);
            let below = open_folder(folder.fd()?, name)?;
            if open.len() < MAX_DEPTH {
                open.extend(below);
            } else {
                usage.too_deep = true;
            }
        } else if about.st_nlink < 2 || linked.insert(about.st_ino) {
            usage.bytes += bytes_of(&about);
        }
    }
    Ok(usage)
}

fn bytes_of(about: &Stat) -> u64 {
    /// Unit of `st_blocks`, in bytes (inode(7)).
    const BLOCK: u64 = 512;
    u64::try_from(about.st_blocks).unwrap_or(0).saturating_mul(BLOCK)
}

/// Opens a folder; `None` if it is not there any more.
fn open_folder<P: rustix::path::Arg>(parent: impl std::os::fd::AsFd, name: P) -> io::Result<Option<Dir>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(parent, name, flags, Mode::empty()) {
        // Something else has its name now.
        Err(Errno::LOOP | Errno::NOTDIR) => Ok(None),
        opened => Ok(present(opened)?.map(Dir::new).transpose()?),
    }
}

/// What was found, if it exists.
fn present<T>(found: Result<T, Errno>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        fs::hard_link(path.join("below/file"), path.join("again")).unwrap();
        let used = TreeUsage::of(&path).unwrap();
        assert!((100_000..200_000).contains(&(used.bytes - empty)), "{used:?}");
        assert_eq!((used.entries, used.too_deep), (5, false));
        assert_eq!(disk_usage(&path.join("none")).unwrap(), 0);
        assert_eq!(TreeUsage::of(&path.join("link")).unwrap(), TreeUsage::default(), "it leads to a large folder");
        assert_eq!(disk_usage(&path.join("again")).unwrap(), used.bytes - disk_usage_of_folders(&path));
    }

    fn disk_usage_of_folders(path: &Path) -> u64 {
        [path.to_owned(), path.join("below")]
            .iter()
            .map(|path| bytes_of(&statat(CWD, path, AtFlags::empty()).unwrap()))
            .sum()
    }

    #[test]
    fn folders_that_are_nested_deeper_than_paths_may_be_long_are_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = openat(CWD, dir.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let name = "n".repeat(200);
        for depth in 0..MAX_DEPTH {
            assert!(!TreeUsage::of(dir.path()).unwrap().too_deep, "{depth}");
            rustix::fs::mkdirat(&folder, name.as_str(), Mode::RWXU).unwrap();
            folder = openat(&folder, name.as_str(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        assert!(TreeUsage::of(dir.path()).unwrap().too_deep);
        drop(folder);
        // By its path, it could not be removed either.
        assert!(std::process::Command::new("rm").arg("-rf").arg(dir.path().join(name)).status().unwrap().success());
    }
}
