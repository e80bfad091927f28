//! The files below a tree, in the order of `git ls-tree -r`.

use std::{
    collections::HashSet,
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    time::{Duration, Instant},
};

use git2::{Oid, Tree};

use super::{
    names::{Names, display_path},
    objects::Objects,
    tree::{EntryMode, entries},
};
use crate::git::protocol::{Failure, MAX_FILES, MAX_PATHS_BYTES};

/// Maximum length of a path in Linux, in bytes.
const MAX_PATH_LEN: usize = 4095;

/// Time limit for listing the files.
const TIMEOUT: Duration = Duration::from_mins(2);

/// Kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Regular,
    Executable,
    Symlink,
}

/// A file of a tree.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: FileKind,
    /// Size in bytes.
    pub(super) size: u64,
    /// Object id of the contents.
    pub(super) id: Oid,
    /// Path below the tree.
    pub(super) path: Box<[u8]>,
}

/// Files of a tree.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) entries: Vec<Entry>,
    /// Paths of submodules.
    pub(super) submodules: Names,
    /// Number of files and submodules.
    files: usize,
    /// Number of entries of all trees that were read.
    read: usize,
    /// Size of all files, in bytes.
    bytes: u64,
    /// Length of all paths, in bytes.
    path_bytes: usize,
}

/// A tree that is being listed.
struct Level<'r> {
    tree: Tree<'r>,
    /// Index of the next entry.
    next: usize,
    /// Length of the tree's path with its slash, in bytes.
    path_len: usize,
}

impl Level<'_> {
    /// Mode and object id of the next entry, whose name is appended to `path`.
    fn next_entry(&mut self, path: &mut Vec<u8>) -> Option<(EntryMode, Oid)> {
        let entry = self.tree.get(self.next)?;
        self.next += 1;
        path.extend(entry.name_bytes());
        Some((EntryMode::of(entry.filemode_raw()), entry.id()))
    }
}

impl Entry {
    /// Path below the tree.
    pub(super) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }
}

impl Listing {
    /// Lists the files below a tree.
    pub(super) fn of_tree(objects: &Objects<'_>, root: Oid, max_bytes: u64) -> Result<Self, Failure> {
        let deadline = Instant::now() + TIMEOUT;
        let mut listing = Self::default();
        let mut path = Vec::new();
        // Not recursive: a pack of a few kilobytes can contain thousands of nested folders.
        let mut levels = vec![listing.open(objects, root, b"")?];
        while let Some(level) = levels.last_mut() {
            path.truncate(level.path_len);
            let Some((mode, id)) = level.next_entry(&mut path) else {
                levels.pop();
                continue;
            };
            if mode == EntryMode::Folder {
                path.push(b'/');
                // Every file in it has a longer path.
                if path.len() > MAX_PATH_LEN {
                    return Err(too_long(&path));
                }
                if Instant::now() > deadline {
                    return Err(Failure::TooManyFiles);
                }
                levels.push(listing.open(objects, id, &path)?);
            } else {
                listing.add(objects, mode, id, &path)?;
            }
        }
        if listing.bytes > max_bytes {
            return Err(Failure::SourceTooLarge { bytes: listing.bytes });
        }
        Ok(listing)
    }

    /// Reads a tree. All entries count, also those of trees that contain only trees: they are no files, but take time and
    /// memory as well.
    fn open<'r>(&mut self, objects: &Objects<'r>, id: Oid, path: &[u8]) -> Result<Level<'r>, Failure> {
        let tree = entries(objects, id)?;
        self.read += tree.len();
        if self.read > 2 * MAX_FILES {
            return Err(Failure::TooManyFiles);
        }
        if let Some(name) = duplicate(&tree) {
            return Err(Failure::Duplicate(display_path(&[path, &name].concat())));
        }
        Ok(Level { tree, next: 0, path_len: path.len() })
    }

    /// Adds a file or a submodule.
    fn add(&mut self, objects: &Objects<'_>, mode: EntryMode, id: Oid, path: &[u8]) -> Result<(), Failure> {
        self.files += 1;
        self.path_bytes += path.len();
        if self.files > MAX_FILES || self.path_bytes > MAX_PATHS_BYTES {
            return Err(Failure::TooManyFiles);
        }
        let kind = match mode {
            EntryMode::File => FileKind::Regular,
            EntryMode::Executable => FileKind::Executable,
            EntryMode::Symlink => FileKind::Symlink,
            EntryMode::Submodule | EntryMode::Folder => {
                self.submodules.add(path);
                return Ok(());
            }
        };
        let header = objects.header(id).map_err(|e| Failure::Unreadable(format!("{}: {e}", display_path(path))))?;
        let is_long_link = kind == FileKind::Symlink && header.size > MAX_PATH_LEN as u64;
        if path.len() > MAX_PATH_LEN || is_long_link {
            return Err(too_long(path));
        }
        self.bytes = self.bytes.saturating_add(header.size);
        self.entries.push(Entry { kind, size: header.size, id, path: path.into() });
        Ok(())
    }
}

fn too_long(path: &[u8]) -> Failure {
    Failure::PathTooLong(display_path(path).chars().take(100).collect())
}

/// A name that a tree has twice. git accepts that in old commits; in a tar the last one would win, and one of the two could
/// be a link through which the other is written.
fn duplicate(tree: &Tree<'_>) -> Option<Vec<u8>> {
    let mut names = HashSet::with_capacity(tree.len());
    let mut entries = tree.iter().map(|entry| entry.name_bytes().to_vec());
    entries.find(|name| !names.insert(name.clone()))
}
