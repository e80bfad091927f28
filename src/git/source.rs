//! The source stage: the tree of a commit as a tar. Attributes are ignored and dates are constant, so that the same
//! tree always gives the same bytes.

use std::{
    ffi::OsStr,
    fmt,
    io::{self, BufRead as _, BufReader, Read, Write},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _},
    sync::mpsc,
};
use tokio_util::io::StreamReader;

use super::{GitError, Repository, Result, blocking, command_failed, failed};
use crate::model::{CommitId, Files, Line};

/// The moment that every file's date says; the buildpack specification's.
const MTIME: u64 = 315_532_801;

/// The smallest and largest blob that may be an LFS pointer, in bytes.
const LFS_POINTER: std::ops::RangeInclusive<u64> = 100..=1024;

/// A few kilobytes of pack can name so many files that no machine holds their list.
const MOST_FILES: usize = 500_000;

/// The longest that listing them may take: folders without files can be as many, and are not even listed.
const LISTING: Duration = Duration::from_mins(2);

/// All paths together, in bytes: shared trees let a small pack name long ones many times over.
const MOST_PATH_BYTES: usize = 64 << 20;

/// The longest path of a file, in bytes: what Linux takes.
const LONGEST_PATH: usize = 4095;

/// The files of a commit.
pub struct Source {
    /// The object id of the tree: the same id, the same bytes.
    pub tree: CommitId,
    /// The tar; an error when it cannot be read to its end.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What a developer should know: one line each.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    size: u64,
    id: String,
    path: Vec<u8>,
}

#[derive(Debug, Default)]
struct Listing {
    entries: Vec<Entry>,
    submodules: Vec<String>,
    bytes: u64,
    path_bytes: usize,
}

pub(super) async fn open(
    repository: &Repository,
    commit: &CommitId,
    subdirectory: Option<&str>,
    files: &Files,
) -> Result<Source> {
    let tree = tree(repository, commit, subdirectory).await?;
    let listing = tokio::time::timeout(LISTING, list(repository, &tree)).await;
    let mut listing = listing.map_err(|_| GitError::TooManyFiles(MOST_FILES))??;
    let wanted = chosen(files)?;
    listing.entries.retain(|entry| wanted(Path::new(OsStr::from_bytes(&entry.path))));
    if listing.entries.is_empty() {
        return Err(GitError::EmptyTree);
    }
    let mut warnings = Vec::new();
    if !listing.submodules.is_empty() {
        let names = some(&listing.submodules);
        warnings.push(format!("Submodules are not deployed: {names}; commit their files, or fetch them in the build"));
    }
    let pointers = lfs_pointers(repository, &listing, subdirectory.is_some()).await?;
    if !pointers.is_empty() {
        let names = some(&pointers);
        warnings.push(format!("Git LFS files are deployed as their pointers, without their contents: {names}"));
    }
    let cat = Batch::start(repository)?;
    let (sender, mut receiver) = mpsc::channel(4);
    let entries = listing.entries;
    // It ends by itself: with the last file, or when the reader is dropped.
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write_tar(cat, &entries, Channel(&sender)) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    let stream = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    Ok(Source { tree, reader: Box::new(StreamReader::new(stream)), warnings })
}

/// Which files a project wants built.
pub fn chosen(files: &Files) -> Result<impl Fn(&Path) -> bool + use<>> {
    let (key, patterns) = match files {
        Files::All => ("exclude", &Vec::new()),
        Files::Include(patterns) => ("include", patterns),
        Files::Exclude(patterns) => ("exclude", patterns),
    };
    let wrong = |e: ignore::Error| GitError::Pattern { key, message: e.to_string() };
    let mut builder = ignore::gitignore::GitignoreBuilder::new("");
    for pattern in patterns {
        builder.add_line(None, pattern).map_err(wrong)?;
    }
    let matcher = builder.build().map_err(wrong)?;
    Ok(move |path: &Path| matcher.matched_path_or_any_parents(path, false).is_ignore() == (key == "include"))
}

pub(super) async fn tree(repository: &Repository, commit: &CommitId, subdirectory: Option<&str>) -> Result<CommitId> {
    let mut id = commit.to_string();
    if let Some(folder) = subdirectory {
        let missing = |_| GitError::NoSuchFolder(folder.to_owned());
        let found = repository.git(&["rev-parse", "--verify", "--quiet", &format!("{commit}:{folder}")]).await;
        found.map_err(missing)?.trim().clone_into(&mut id);
    }
    let found = repository.git(&["rev-parse", "--verify", &format!("{id}^{{tree}}")]).await;
    let found = match (found, subdirectory) {
        (Err(_), Some(folder)) => return Err(GitError::NoSuchFolder(folder.to_owned())),
        (found, _) => found?,
    };
    found.trim().parse().map_err(|_| GitError::Unexpected(found.clone()))
}

async fn list(repository: &Repository, tree: &CommitId) -> Result<Listing> {
    let mut command = repository.command();
    command.args(["ls-tree", "-r", "-z", "-l", "--full-tree", tree.as_str()]);
    let mut child = command.spawn().map_err(GitError::Start)?;
    let mut listing = Listing::default();
    if let Some(stdout) = child.stdout.take() {
        let mut lines = tokio::io::BufReader::with_capacity(64 * 1024, stdout);
        let mut record = Vec::new();
        loop {
            let mut bounded = (&mut lines).take(2 * LONGEST_PATH as u64);
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
    let most = repository.repositories().most_source_bytes();
    if listing.bytes > most {
        return Err(GitError::SourceTooLarge { bytes: listing.bytes, most });
    }
    Ok(listing)
}

impl Listing {
    /// Reads a record of `git ls-tree -r -z -l`: `mode type id size\tpath`.
    fn add(&mut self, record: &[u8]) -> Result<()> {
        let unexpected = || GitError::Unexpected(Line::sanitize(&String::from_utf8_lossy(record)));
        let tab = record.iter().position(|byte| *byte == b'\t').ok_or_else(unexpected)?;
        let head = std::str::from_utf8(&record[..tab]).map_err(|_| unexpected())?;
        let [mode, _, id, size] = head.split_ascii_whitespace().collect::<Vec<_>>()[..] else {
            return Err(unexpected());
        };
        let path = record[tab + 1..].to_vec();
        self.path_bytes += path.len();
        if self.entries.len() + self.submodules.len() >= MOST_FILES || self.path_bytes > MOST_PATH_BYTES {
            return Err(GitError::TooManyFiles(MOST_FILES));
        }
        let kind = match mode {
            "100755" => Kind::Program,
            "120000" => Kind::Symlink,
            "160000" => {
                self.submodules.push(shown(&path));
                return Ok(());
            }
            _ => Kind::File,
        };
        let size: u64 = size.parse().map_err(|_| unexpected())?;
        if path.len() > LONGEST_PATH || (kind == Kind::Symlink && size > LONGEST_PATH as u64) {
            return Err(GitError::PathTooLong(shown(&path).chars().take(100).collect()));
        }
        self.bytes = self.bytes.saturating_add(size);
        self.entries.push(Entry { kind, size, id: id.to_owned(), path });
        Ok(())
    }
}

fn shown(path: &[u8]) -> String {
    Line::sanitize(&String::from_utf8_lossy(path))
}

fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

/// Small files that begin as LFS pointers do; looked for only where a `.gitattributes` could have made some.
async fn lfs_pointers(repository: &Repository, listing: &Listing, above: bool) -> Result<Vec<String>> {
    if !above && !listing.entries.iter().any(|entry| entry.path.ends_with(b".gitattributes")) {
        return Ok(Vec::new());
    }
    let small = listing.entries.iter().filter(|e| e.kind != Kind::Symlink && LFS_POINTER.contains(&e.size));
    let small: Vec<_> = small.map(|e| (e.id.clone(), e.path.clone())).collect();
    let mut cat = Batch::start(repository)?;
    let find = move || {
        let mut found = Vec::new();
        for chunk in small.chunks(Batch::AT_ONCE) {
            cat.ask(chunk.iter().map(|(id, _)| id.as_str()))?;
            for (_, path) in chunk {
                let mut text = Vec::new();
                cat.answer(|_, contents| contents.read_to_end(&mut text).map(drop))?;
                if text.starts_with(b"version https://git-lfs.") {
                    found.push(shown(path));
                }
            }
        }
        Ok(found)
    };
    blocking(find).await.map_err(failed("read", repository.path()))
}

/// One `git cat-file --batch`.
struct Batch {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Batch {
    /// So many questions fit into a pipe, so asking them never waits for answers to be read.
    const AT_ONCE: usize = 500;

    fn start(repository: &Repository) -> Result<Self> {
        let mut command = repository.command().into_std();
        let command = command.args(["cat-file", "--batch"]).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(GitError::Start)?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(stdin), Some(stdout)) => {
                Ok(Self { child, stdin, stdout: BufReader::with_capacity(128 * 1024, stdout) })
            }
            _ => Err(GitError::Unexpected("no pipes".to_owned())),
        }
    }

    fn ask<'a>(&mut self, ids: impl Iterator<Item = &'a str>) -> io::Result<()> {
        let mut text = String::new();
        for id in ids {
            text.push_str(id);
            text.push('\n');
        }
        self.stdin.write_all(text.as_bytes())
    }

    /// Hands size and contents of the next object to `take`, which must read all of it.
    fn answer(&mut self, take: impl FnOnce(u64, &mut dyn Read) -> io::Result<()>) -> io::Result<()> {
        let mut head = String::new();
        (&mut self.stdout).take(200).read_line(&mut head)?;
        let size = head.trim_end().rsplit(' ').next().and_then(|size| size.parse().ok());
        let size: u64 = size.ok_or_else(|| io::Error::other(format!("git has no such object: {head:?}")))?;
        let mut contents = (&mut self.stdout).take(size);
        take(size, &mut contents)?;
        if contents.limit() > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "git ended within an object"));
        }
        self.stdout.read_exact(&mut [0])
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the tar is written: chunks for whoever reads it.
struct Channel<'a>(&'a mpsc::Sender<io::Result<Bytes>>);

impl Write for Channel<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_tar(mut cat: Batch, entries: &[Entry], to: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(io::BufWriter::with_capacity(128 * 1024, to));
    for chunk in entries.chunks(Batch::AT_ONCE) {
        cat.ask(chunk.iter().map(|entry| entry.id.as_str()))?;
        for entry in chunk {
            cat.answer(|size, contents| append(&mut tar, entry, size, contents))
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", shown(&entry.path))))?;
        }
    }
    tar.into_inner()?.flush()
}

fn append(tar: &mut tar::Builder<impl Write>, entry: &Entry, size: u64, contents: &mut dyn Read) -> io::Result<()> {
    let path = Path::new(OsStr::from_bytes(&entry.path));
    let mut header = tar::Header::new_gnu();
    header.set_mtime(MTIME);
    header.set_uid(0);
    header.set_gid(0);
    match entry.kind {
        Kind::Symlink => {
            let mut target = Vec::new();
            contents.read_to_end(&mut target)?;
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            tar.append_link(&mut header, path, Path::new(OsStr::from_bytes(&target)))
        }
        Kind::File | Kind::Program => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(if entry.kind == Kind::Program { 0o755 } else { 0o644 });
            header.set_size(size);
            tar.append_data(&mut header, path, contents)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_read_and_submodules_told_apart() {
        let id = "1".repeat(40);
        let mut listing = Listing::default();
        listing.add(format!("100644 blob {id}     12\ta b\n.txt").as_bytes()).unwrap();
        listing.add(format!("100755 blob {id}    9999\trun").as_bytes()).unwrap();
        listing.add(format!("120000 blob {id}       3\tlink").as_bytes()).unwrap();
        listing.add(format!("160000 commit {id}       -\tvendor/lib").as_bytes()).unwrap();
        let kinds: Vec<_> = listing.entries.iter().map(|e| e.kind).collect();
        assert_eq!(kinds, [Kind::File, Kind::Program, Kind::Symlink]);
        assert_eq!(listing.entries[0].path, b"a b\n.txt");
        assert_eq!(listing.submodules, ["vendor/lib"]);
        assert_eq!(listing.bytes, 12 + 9999 + 3);
        assert!(listing.add(b"nonsense").is_err());
        assert!(listing.add(format!("120000 blob {id}    5000\tlink").as_bytes()).is_err());
    }
}
