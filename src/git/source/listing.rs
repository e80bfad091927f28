//! Files of a tree, as `git ls-tree` lists them.

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _};

use crate::{
    git::{
        command::command_failed,
        error::{GitError, Result, failed},
        repository::Repository,
    },
    model::{CommitId, Line},
};

/// Maximum number of files: a pack of a few kilobytes can contain so many that their list exhausts the memory.
pub(super) const MAX_FILES: usize = 500_000;

/// Maximum length of all paths together, in bytes: a small pack can contain long paths many times over in shared trees.
const MAX_PATHS_BYTES: usize = 64 << 20;

/// Maximum length of a path in Linux, in bytes.
const MAX_PATH_LEN: usize = 4095;

/// Kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    File,
    Executable,
    Symlink,
}

/// A file of a tree.
#[derive(Debug)]
pub(super) struct Entry {
    pub kind: EntryKind,
    /// Size in bytes.
    pub size: u64,
    /// Object id of the contents.
    pub id: String,
    pub path: Vec<u8>,
}

/// Files of a tree.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub entries: Vec<Entry>,
    /// Paths of submodules, for messages.
    pub submodules: Vec<String>,
    /// Size of all files, in bytes.
    bytes: u64,
    /// Length of all paths, in bytes.
    path_bytes: usize,
}

/// Lists the files of a tree.
pub(super) async fn list(repository: &Repository, tree: &CommitId) -> Result<Listing> {
    let mut command = repository.command();
    command.args(["ls-tree", "-r", "-z", "-l", "--full-tree", tree.as_str()]);
    let mut child = command.spawn().map_err(GitError::Start)?;
    let mut listing = Listing::default();
    if let Some(stdout) = child.stdout.take() {
        let mut lines = tokio::io::BufReader::with_capacity(64 * 1024, stdout);
        let mut record = Vec::new();
        loop {
            let mut bounded = (&mut lines).take(2 * MAX_PATH_LEN as u64);
            if bounded.read_until(0, &mut record).await.map_err(failed("list", repository.path()))? == 0 {
                break;
            }
            listing.add(record.strip_suffix(b"\0").unwrap_or(&record))?;
            record.clear();
        }
    }
    let ended = child.wait_with_output().await.map_err(GitError::Start)?;
    if !ended.status.success() {
        return Err(command_failed(&command, &ended.stderr));
    }
    let max = repository.repositories.max_source_bytes();
    if listing.bytes > max {
        return Err(GitError::SourceTooLarge { bytes: listing.bytes, max });
    }
    Ok(listing)
}

impl Listing {
    /// Adds a record of `git ls-tree -r -z -l`: `mode type id size\tpath`.
    fn add(&mut self, record: &[u8]) -> Result<()> {
        let unexpected = || GitError::Unexpected(Line::sanitize(&String::from_utf8_lossy(record)));
        let tab = record.iter().position(|byte| *byte == b'\t').ok_or_else(unexpected)?;
        let head = std::str::from_utf8(&record[..tab]).map_err(|_| unexpected())?;
        let [mode, _, id, size] = head.split_ascii_whitespace().collect::<Vec<_>>()[..] else {
            return Err(unexpected());
        };
        let path = record[tab + 1..].to_vec();
        self.path_bytes += path.len();
        if self.entries.len() + self.submodules.len() >= MAX_FILES || self.path_bytes > MAX_PATHS_BYTES {
            return Err(GitError::TooManyFiles(MAX_FILES));
        }
        let kind = match mode {
            "100755" => EntryKind::Executable,
            "120000" => EntryKind::Symlink,
            "160000" => {
                self.submodules.push(display_path(&path));
                return Ok(());
            }
            _ => EntryKind::File,
        };
        let size: u64 = size.parse().map_err(|_| unexpected())?;
        if path.len() > MAX_PATH_LEN || (kind == EntryKind::Symlink && size > MAX_PATH_LEN as u64) {
            return Err(GitError::PathTooLong(display_path(&path).chars().take(100).collect()));
        }
        self.bytes = self.bytes.saturating_add(size);
        self.entries.push(Entry { kind, size, id: id.to_owned(), path });
        Ok(())
    }
}

/// A path for messages.
pub(super) fn display_path(path: &[u8]) -> String {
    Line::sanitize(&String::from_utf8_lossy(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_parsed_and_submodules_are_separated() {
        let id = "1".repeat(40);
        let mut listing = Listing::default();
        listing.add(format!("100644 blob {id}     12\ta b\n.txt").as_bytes()).unwrap();
        listing.add(format!("100755 blob {id}    9999\trun").as_bytes()).unwrap();
        listing.add(format!("120000 blob {id}       3\tlink").as_bytes()).unwrap();
        listing.add(format!("160000 commit {id}       -\tvendor/lib").as_bytes()).unwrap();
        let kinds: Vec<_> = listing.entries.iter().map(|e| e.kind).collect();
        assert_eq!(kinds, [EntryKind::File, EntryKind::Executable, EntryKind::Symlink]);
        assert_eq!(listing.entries[0].path, b"a b\n.txt");
        assert_eq!(listing.submodules, ["vendor/lib"]);
        assert_eq!(listing.bytes, 12 + 9999 + 3);
        assert!(listing.add(b"nonsense").is_err());
        assert!(listing.add(format!("120000 blob {id}    5000\tlink").as_bytes()).is_err());
    }
}
