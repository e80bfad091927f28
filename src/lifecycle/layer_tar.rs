//! Reproducible tars of layers (buildpack.md, "Layers"): sorted entries, one date, one owner; hashed while written. They are those
//! that the reference lifecycle writes, byte for byte: an image that it made and one of ours share their equal layers.

mod header;
#[cfg(test)]
pub(super) mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufWriter, Read as _, Seek as _, Write},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use sha2::Digest as _;

use self::header::{BLOCK, Entry, Kind};
use super::{files, protocol::BuiltLayer};
use crate::model::Digest;

/// User and group that builds and apps run as.
pub(super) const OWNER: u64 = 1000;

/// Permissions, and the setuid, setgid and sticky bits: no file of a layer belongs to root, so these give nobody more rights.
const MODE_BITS: u32 = 0o7777;

/// Maximum length of a path, in bytes: an engine unpacks it below a folder of its own, and a path has at most 4,096.
const MAX_PATH_LEN: usize = 3800;

/// A tar that is being written, in an unnamed file.
pub(super) struct LayerTar {
    to: BufWriter<Hashing>,
    owner: u64,
}

struct Hashing {
    file: File,
    sum: sha2::Sha256,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LayerTar {
    /// Begins a tar in the folder `spool`, whose entries belong to `owner` (uid and gid).
    pub(super) fn new(spool: &Path, owner: u64) -> io::Result<Self> {
        let hashing = Hashing { file: files::unnamed(spool)?, sum: sha2::Sha256::new(), size: 0 };
        Ok(Self { to: BufWriter::with_capacity(256 * 1024, hashing), owner })
    }

    fn entry(&mut self, place: &Path, kind: Kind, mode: u32, size: u64, target: &Path) -> io::Result<()> {
        let (name, target) = (place.as_os_str().as_bytes(), target.as_os_str().as_bytes());
        if name.len() > MAX_PATH_LEN {
            let text = format!(
                "the path {} has more than {MAX_PATH_LEN} bytes: container engines cannot unpack it",
                shown(place)
            );
            return Err(io::Error::other(text));
        }
        self.to.write_all(&Entry { name, kind, mode, owner: self.owner, size, target }.header())
    }

    /// Fills the last block of a file's contents.
    fn fill(&mut self, size: u64) -> io::Result<()> {
        let zeros = size.next_multiple_of(BLOCK as u64) - size;
        io::copy(&mut io::repeat(0).take(zeros), &mut self.to).map(drop)
    }

    pub(super) fn folder(&mut self, place: &Path, mode: u32) -> io::Result<()> {
        self.entry(place, Kind::Folder, mode, 0, Path::new(""))
    }

    pub(super) fn link(&mut self, place: &Path, mode: u32, target: &Path) -> io::Result<()> {
        self.entry(place, Kind::Link, mode, 0, target)
    }

    pub(super) fn bytes(&mut self, place: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let size = bytes.len() as u64;
        self.entry(place, Kind::File, mode, size, Path::new(""))?;
        self.to.write_all(bytes)?;
        self.fill(size)
    }

    pub(super) fn file(&mut self, source: &Path, place: &Path, mode: u32) -> io::Result<()> {
        let file = files::readable(source, || File::open(source))?;
        let size = file.metadata()?.len();
        self.entry(place, Kind::File, mode, size, Path::new(""))?;
        // A file that grows meanwhile must not run into the next entry, one that shrinks would leave a broken tar.
        if io::copy(&mut file.take(size), &mut self.to)? < size {
            return Err(io::Error::other("a file shrank while it was read"));
        }
        self.fill(size)
    }

    /// Adds a tree at a place in the image, with the folders above it.
    pub(super) fn tree(&mut self, root: &Path, place: &Path) -> io::Result<()> {
        self.parents(place)?;
        self.path(root, place)?;
        let mut paths = Vec::new();
        list(root, &mut paths)?;
        paths.sort();
        for path in paths {
            let below = path.strip_prefix(root).map_err(io::Error::other)?;
            self.path(&path, &place.join(below))?;
        }
        Ok(())
    }

    /// Adds files (path of each now, and place in the image), with the folders above them.
    pub(super) fn files(&mut self, files: &[(PathBuf, PathBuf)]) -> io::Result<()> {
        let above = files.iter().flat_map(|(_, place)| place.ancestors().skip(1));
        let folders: BTreeSet<&Path> = above.filter(|path| path.file_name().is_some()).collect();
        let mut entries: BTreeMap<&Path, Option<&Path>> = folders.into_iter().map(|folder| (folder, None)).collect();
        entries.extend(files.iter().map(|(source, place)| (place.as_path(), Some(source.as_path()))));
        entries.into_iter().try_for_each(|(place, source)| match source {
            Some(source) => self.file(source, place, 0o644),
            None => self.folder(place, 0o755),
        })
    }

    /// Adds the folders above a place.
    pub(super) fn parents(&mut self, place: &Path) -> io::Result<()> {
        let mut above: Vec<&Path> = place.ancestors().skip(1).filter(|path| path.file_name().is_some()).collect();
        above.reverse();
        above.into_iter().try_for_each(|folder| self.folder(folder, 0o755))
    }

    /// Adds one entry as it is on disk; leaves out sockets and devices.
    pub(super) fn path(&mut self, path: &Path, place: &Path) -> io::Result<()> {
        let metadata =
            fs::symlink_metadata(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", shown(path))))?;
        let mode = metadata.permissions().mode() & MODE_BITS;
        if metadata.is_dir() {
            self.folder(place, mode)
        } else if metadata.is_symlink() {
            self.link(place, mode, &fs::read_link(path)?)
        } else if metadata.is_file() {
            self.file(path, place, mode)
        } else if metadata.file_type().is_fifo() {
            self.entry(place, Kind::Pipe, mode, 0, Path::new(""))
        } else {
            Ok(())
        }
    }

    /// Ends the tar, and rewinds its file.
    pub(super) fn finish(mut self, created_by: &str) -> io::Result<(BuiltLayer, File)> {
        self.to.write_all(&[0; 2 * BLOCK])?;
        let Hashing { mut file, sum, size } = self.to.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        let digest = Digest::from_sha256(&sum.finalize().into());
        Ok((BuiltLayer { digest, size, created_by: created_by.to_owned() }, file))
    }
}

/// A path, or its beginning if it is long.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.chars().count() > 100 { text.chars().take(100).chain("…".chars()).collect() } else { text.into_owned() }
}

fn list(folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    let failed = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", shown(folder)));
    for entry in files::readable(folder, || fs::read_dir(folder)).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type()?.is_dir() {
            list(&entry.path(), paths)?;
        }
        paths.push(entry.path());
    }
    Ok(())
}
