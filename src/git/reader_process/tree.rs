//! The entries of one tree.

use git2::{ObjectType, Oid, Tree};

use super::objects::{Objects, unreadable};
use crate::git::protocol::{Failure, MAX_FILES, MAX_PATHS_BYTES};

/// Maximum size of a tree, in bytes. In a larger one there are too many files, or their names are too long.
const MAX_TREE_BYTES: u64 = (MAX_PATHS_BYTES + MAX_FILES * ENTRY_BYTES) as u64;

/// Size of an entry without its name, in bytes: the mode, a space, a NUL and the object id.
const ENTRY_BYTES: usize = 6 + 1 + 1 + 20;

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryMode {
    File,
    Executable,
    Symlink,
    Folder,
    Submodule,
}

impl EntryMode {
    /// Reads a mode as git does: old trees have modes such as 100664, and a mode of an unknown type is a submodule's.
    pub(super) fn of(mode: i32) -> Self {
        match mode & 0o170_000 {
            0o100_000 if mode & 0o100 != 0 => Self::Executable,
            0o100_000 => Self::File,
            0o120_000 => Self::Symlink,
            0o040_000 => Self::Folder,
            _ => Self::Submodule,
        }
    }
}

/// Loads a tree.
pub(super) fn entries<'r>(objects: &Objects<'r>, id: Oid) -> Result<Tree<'r>, Failure> {
    let header = objects.header(id)?;
    if header.kind == ObjectType::Tree && header.size > MAX_TREE_BYTES {
        return Err(Failure::TooManyFiles);
    }
    objects.repository.find_tree(id).map_err(|e| unreadable(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_git_reads_them() {
        for (mode, read) in [
            (0o100_644, EntryMode::File),
            (0o100_664, EntryMode::File),
            (0o100_755, EntryMode::Executable),
            (0o100_744, EntryMode::Executable),
            (0o120_000, EntryMode::Symlink),
            (0o120_777, EntryMode::Symlink),
            (0o040_000, EntryMode::Folder),
            (0o160_000, EntryMode::Submodule),
            (0o060_000, EntryMode::Submodule),
            (0, EntryMode::Submodule),
        ] {
            assert_eq!(EntryMode::of(mode), read, "{mode:o}");
        }
    }
}
