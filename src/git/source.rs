//! The source of a build: the tree of a commit as a tar. Attributes are ignored and times are constant, so that the same
//! tree always gives the same bytes.

mod listing;
mod objects;

use std::{
    ffi::OsStr,
    fmt,
    io::{self, Read, Write},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use tokio::{io::AsyncRead, sync::mpsc};
use tokio_util::io::StreamReader;

use super::{
    error::{GitError, Result, failed},
    files::blocking,
    repository::Repository,
};
use crate::model::{CommitId, Files};
use listing::{Entry, EntryKind, Listing, MAX_FILES, display_path};
use objects::ObjectReader;

/// Modification time of all files, in seconds since 1970: the buildpack specification's.
const MTIME: u64 = 315_532_801;

/// Possible sizes of an LFS pointer, in bytes.
const LFS_POINTER_BYTES: std::ops::RangeInclusive<u64> = 100..=1024;

/// Time limit for listing the files: empty folders are not counted, but take time as well.
const LISTING_TIMEOUT: Duration = Duration::from_mins(2);

/// Files of a commit.
pub struct Source {
    /// Object id of the tree; it identifies the bytes of the tar.
    pub tree: CommitId,
    /// The tar; ends with an error if the files cannot be read.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// Warnings for the developer, one line each.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("tree", &self.tree).field("warnings", &self.warnings).finish_non_exhaustive()
    }
}

impl Repository {
    /// Whether a commit has a folder.
    pub async fn has_folder(&self, commit: &CommitId, folder: &str) -> Result<bool> {
        match tree(self, commit, Some(folder)).await {
            Ok(_) => Ok(true),
            Err(GitError::NoSuchFolder(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The files of a commit as a tar: those that `files` selects, and with a `subdirectory` only those below it.
    pub async fn source_tar(&self, commit: &CommitId, subdirectory: Option<&str>, files: &Files) -> Result<Source> {
        let tree = tree(self, commit, subdirectory).await?;
        let listing = tokio::time::timeout(LISTING_TIMEOUT, listing::list(self, &tree)).await;
        let mut listing = listing.map_err(|_| GitError::TooManyFiles(MAX_FILES))??;
        let is_selected = file_filter(files)?;
        listing.entries.retain(|entry| is_selected(Path::new(OsStr::from_bytes(&entry.path))));
        if listing.entries.is_empty() {
            return Err(GitError::EmptyTree);
        }
        let mut warnings = Vec::new();
        if !listing.submodules.is_empty() {
            let names = summary(&listing.submodules);
            warnings
                .push(format!("Submodules are not deployed: {names}; commit their files, or fetch them in the build"));
        }
        let pointers = lfs_pointers(self, &listing, subdirectory.is_some()).await?;
        if !pointers.is_empty() {
            let names = summary(&pointers);
            warnings.push(format!("Git LFS files are deployed as their pointers, without their contents: {names}"));
        }
        let objects = ObjectReader::start(self)?;
        let (sender, mut receiver) = mpsc::channel(4);
        let entries = listing.entries;
        // The task ends after the last file, or when the reader is dropped.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = write_tar(objects, &entries, ChannelWriter(&sender)) {
                let _ = sender.blocking_send(Err(error));
            }
        });
        let stream = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
        Ok(Source { tree, reader: Box::new(StreamReader::new(stream)), warnings })
    }
}

/// Returns a predicate that selects the files that a project builds.
pub fn file_filter(files: &Files) -> Result<impl Fn(&Path) -> bool + use<>> {
    let (key, patterns) = match files {
        Files::All => ("exclude", &Vec::new()),
        Files::Include(patterns) => ("include", patterns),
        Files::Exclude(patterns) => ("exclude", patterns),
    };
    let invalid = |e: ignore::Error| GitError::Pattern { key, message: e.to_string() };
    let mut builder = ignore::gitignore::GitignoreBuilder::new("");
    for pattern in patterns {
        builder.add_line(None, pattern).map_err(invalid)?;
    }
    let matcher = builder.build().map_err(invalid)?;
    Ok(move |path: &Path| matcher.matched_path_or_any_parents(path, false).is_ignore() == (key == "include"))
}

/// Object id of a commit's tree, or of the tree of a folder in it.
async fn tree(repository: &Repository, commit: &CommitId, subdirectory: Option<&str>) -> Result<CommitId> {
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

/// The first few of these names.
fn summary(names: &[String]) -> String {
    const MAX_NAMES: usize = 5;
    let shown = names.iter().take(MAX_NAMES).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > MAX_NAMES { format!("{shown} and {} more", names.len() - MAX_NAMES) } else { shown }
}

/// Paths of the files that are LFS pointers. There can only be some if there is a `.gitattributes`, in the listed files or
/// (`in_subdirectory`) in a folder above them.
async fn lfs_pointers(repository: &Repository, listing: &Listing, in_subdirectory: bool) -> Result<Vec<String>> {
    if !in_subdirectory && !listing.entries.iter().any(|entry| entry.path.ends_with(b".gitattributes")) {
        return Ok(Vec::new());
    }
    let small = listing.entries.iter().filter(|e| e.kind != EntryKind::Symlink && LFS_POINTER_BYTES.contains(&e.size));
    let small: Vec<_> = small.map(|e| (e.id.clone(), e.path.clone())).collect();
    let mut objects = ObjectReader::start(repository)?;
    let find = move || {
        let mut found = Vec::new();
        for chunk in small.chunks(ObjectReader::MAX_REQUESTS) {
            objects.request(chunk.iter().map(|(id, _)| id.as_str()))?;
            for (_, path) in chunk {
                let mut text = Vec::new();
                objects.read(|_, contents| contents.read_to_end(&mut text).map(drop))?;
                if text.starts_with(b"version https://git-lfs.") {
                    found.push(display_path(path));
                }
            }
        }
        Ok(found)
    };
    blocking(find).await.map_err(failed("read", repository.path()))
}

/// Writes chunks of bytes into a channel.
struct ChannelWriter<'a>(&'a mpsc::Sender<io::Result<Bytes>>);

impl Write for ChannelWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_tar(mut objects: ObjectReader, entries: &[Entry], to: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(io::BufWriter::with_capacity(128 * 1024, to));
    for chunk in entries.chunks(ObjectReader::MAX_REQUESTS) {
        objects.request(chunk.iter().map(|entry| entry.id.as_str()))?;
        for entry in chunk {
            objects
                .read(|size, contents| append(&mut tar, entry, size, contents))
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", display_path(&entry.path))))?;
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
        EntryKind::Symlink => {
            let mut target = Vec::new();
            contents.read_to_end(&mut target)?;
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            tar.append_link(&mut header, path, Path::new(OsStr::from_bytes(&target)))
        }
        EntryKind::File | EntryKind::Executable => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(if entry.kind == EntryKind::Executable { 0o755 } else { 0o644 });
            header.set_size(size);
            tar.append_data(&mut header, path, contents)
        }
    }
}
