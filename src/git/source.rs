//! The source stage: the tree of a commit as a tar. Attributes are ignored and dates are constant, so that the same
//! tree always gives the same bytes.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use tokio::io::AsyncRead;
use tokio_util::io::SyncIoBridge;

use super::{GitError, Repository, Result, failed};
use crate::model::{CommitId, Line};

/// The moment that every file's date says; the buildpack specification's.
const MTIME: u64 = 315_532_801;

/// The largest blob that may be an LFS pointer, in bytes.
const LFS_POINTER: u64 = 1024;

/// The files of a commit.
pub struct Source {
    /// The object id of the tree: the same id, the same bytes.
    pub tree: CommitId,
    /// The tar.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What a developer should know: one line each.
    pub warnings: Vec<String>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("tree", &self.tree).field("warnings", &self.warnings).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Program,
    Symlink,
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    id: String,
    path: Vec<u8>,
}

pub(super) async fn open(repository: &Repository, commit: &CommitId, subdirectory: Option<&str>) -> Result<Source> {
    let root = match subdirectory {
        Some(path) => format!("{commit}:{path}"),
        None => format!("{commit}^{{tree}}"),
    };
    let tree = repository.git(&["rev-parse", "--verify", "--end-of-options", &root]).await?;
    let tree: CommitId = tree.trim().parse().map_err(|_| GitError::Unexpected(tree.clone()))?;
    let listed = repository.command().args(["ls-tree", "-r", "-z", "-l", "--full-tree", tree.as_str()]).output().await;
    let listed = listed.map_err(GitError::Start)?;
    if !listed.status.success() {
        return Err(GitError::Unexpected(String::from_utf8_lossy(&listed.stderr).into_owned()));
    }
    let listing = parse(&listed.stdout)?;
    if listing.entries.is_empty() && listing.submodules.is_empty() {
        return Err(GitError::EmptyTree);
    }
    let mut warnings = Vec::new();
    if !listing.submodules.is_empty() {
        warnings.push(format!("submodules are not deployed, their folders stay empty: {}", some(&listing.submodules)));
    }
    let pointers = lfs_pointers(repository, &listing).await?;
    if !pointers.is_empty() {
        let names = some(&pointers);
        warnings.push(format!("Git LFS files are deployed as their pointers, not as their contents: {names}"));
    }
    let cat = batch(repository)?;
    let (writer, reader) = tokio::io::duplex(256 * 1024);
    let entries = listing.entries;
    // It ends by itself: with the last file, or when the reader is dropped.
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write_tar(cat, &entries, SyncIoBridge::new(writer)) {
            tracing::debug!(%error, "the source tar ended early");
        }
    });
    Ok(Source { tree, reader: Box::new(reader), warnings })
}

struct Listing {
    entries: Vec<Entry>,
    submodules: Vec<String>,
    small: Vec<usize>,
}

/// Parses `git ls-tree -r -z -l`: `mode type id size\tpath\0`.
fn parse(text: &[u8]) -> Result<Listing> {
    let mut listing = Listing { entries: Vec::new(), submodules: Vec::new(), small: Vec::new() };
    for record in text.split(|byte| *byte == 0).filter(|record| !record.is_empty()) {
        let unexpected = || GitError::Unexpected(String::from_utf8_lossy(record).into_owned());
        let tab = record.iter().position(|byte| *byte == b'\t').ok_or_else(unexpected)?;
        let head = std::str::from_utf8(&record[..tab]).map_err(|_| unexpected())?;
        let [mode, _, id, size] = head.split_ascii_whitespace().collect::<Vec<_>>()[..] else {
            return Err(unexpected());
        };
        let path = record[tab + 1..].to_vec();
        let kind = match mode {
            "100755" => Kind::Program,
            "120000" => Kind::Symlink,
            "160000" => {
                listing.submodules.push(Line::sanitize(&String::from_utf8_lossy(&path)));
                continue;
            }
            _ => Kind::File,
        };
        if kind != Kind::Symlink && size.parse::<u64>().is_ok_and(|size| size <= LFS_POINTER) {
            listing.small.push(listing.entries.len());
        }
        listing.entries.push(Entry { kind, id: id.to_owned(), path });
    }
    Ok(listing)
}

fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

/// Small files that begin as LFS pointers do; looked for only where the tree has a `.gitattributes` that could make some.
async fn lfs_pointers(repository: &Repository, listing: &Listing) -> Result<Vec<String>> {
    if !listing.entries.iter().any(|entry| entry.path.ends_with(b".gitattributes")) {
        return Ok(Vec::new());
    }
    let mut cat = batch(repository)?;
    let small: Vec<_> =
        listing.small.iter().map(|i| &listing.entries[*i]).map(|e| (e.id.clone(), e.path.clone())).collect();
    let find = move || {
        let mut found = Vec::new();
        for (id, path) in small {
            let mut text = Vec::new();
            cat.object(&id, |_, reader| reader.read_to_end(&mut text).map(drop))?;
            if text.starts_with(b"version https://git-lfs.") {
                found.push(Line::sanitize(&String::from_utf8_lossy(&path)));
            }
        }
        Ok::<_, io::Error>(found)
    };
    let found = tokio::task::spawn_blocking(find).await.map_err(io::Error::other).and_then(|found| found);
    found.map_err(failed("read", &repository.path))
}

/// One `git cat-file --batch`, asked for one object after the other.
struct Batch {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

fn batch(repository: &Repository) -> Result<Batch> {
    let mut command = repository.piped(&["cat-file", "--batch"]).into_std();
    let mut child = command.stderr(Stdio::null()).spawn().map_err(GitError::Start)?;
    match (child.stdin.take(), child.stdout.take()) {
        (Some(stdin), Some(stdout)) => Ok(Batch { child, stdin, stdout: BufReader::with_capacity(128 * 1024, stdout) }),
        _ => Err(GitError::Unexpected("no pipes".to_owned())),
    }
}

impl Batch {
    /// Hands size and contents of an object to `take`, which must read all of it.
    fn object(&mut self, id: &str, take: impl FnOnce(u64, &mut dyn Read) -> io::Result<()>) -> io::Result<()> {
        writeln!(self.stdin, "{id}")?;
        let mut head = String::new();
        self.stdout.read_line(&mut head)?;
        let size = head.trim_end().rsplit(' ').next().and_then(|size| size.parse().ok());
        let size: u64 = size.ok_or_else(|| io::Error::other(format!("no such object: {head}")))?;
        take(size, &mut (&mut self.stdout).take(size))?;
        self.stdout.read_exact(&mut [0])
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_tar(mut cat: Batch, entries: &[Entry], to: impl Write) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut tar = tar::Builder::new(io::BufWriter::with_capacity(128 * 1024, to));
    for entry in entries {
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(&entry.path));
        let mut header = tar::Header::new_gnu();
        header.set_mtime(MTIME);
        header.set_uid(0);
        header.set_gid(0);
        cat.object(&entry.id, |size, contents| match entry.kind {
            Kind::Symlink => {
                let mut target = Vec::new();
                contents.read_to_end(&mut target)?;
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                header.set_size(0);
                tar.append_link(&mut header, path, std::path::Path::new(std::ffi::OsStr::from_bytes(&target)))
            }
            Kind::File | Kind::Program => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(if entry.kind == Kind::Program { 0o755 } else { 0o644 });
                header.set_size(size);
                tar.append_data(&mut header, path, contents)
            }
        })?;
    }
    tar.into_inner()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_read_and_submodules_told_apart() {
        let id = "1".repeat(40);
        let text = format!(
            "100644 blob {id}     12\ta b\n.txt\0100755 blob {id}    9999\trun\0120000 blob {id}       3\tlink\0160000 commit {id}       -\tvendor/lib\0"
        );
        let listing = parse(text.as_bytes()).unwrap();
        let kinds: Vec<_> = listing.entries.iter().map(|e| e.kind).collect();
        assert_eq!(kinds, [Kind::File, Kind::Program, Kind::Symlink]);
        assert_eq!(listing.entries[0].path, b"a b\n.txt");
        assert_eq!(listing.submodules, ["vendor/lib"]);
        assert_eq!(listing.small, [0]);
        assert!(parse(b"nonsense\0").is_err());
    }
}
