//! Reproducible tars of layers (buildpack.md, "Layers"): sorted entries, one date, one owner; hashed while written.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufWriter, Seek as _, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use sha2::Digest as _;

use super::protocol::BuiltLayer;
use crate::model::Digest;

/// User and group that builds and apps run as.
pub(super) const OWNER: u64 = 1000;

/// 1980-01-01T00:00:01Z, as the specification demands.
const MTIME: u64 = 315_532_801;

/// A tar that is being written, in an unnamed file.
pub(super) struct LayerTar {
    tar: tar::Builder<BufWriter<Hashing>>,
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
        fs::create_dir_all(spool)?;
        let path = spool.join("layer.tar");
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        fs::remove_file(&path)?;
        let hashing = Hashing { file, sum: sha2::Sha256::new(), size: 0 };
        Ok(Self { tar: tar::Builder::new(BufWriter::with_capacity(256 * 1024, hashing)), owner })
    }

    fn header(&self, kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(MTIME);
        header.set_uid(self.owner);
        header.set_gid(self.owner);
        header
    }

    pub(super) fn folder(&mut self, name: &Path, mode: u32) -> io::Result<()> {
        let mut header = self.header(tar::EntryType::Directory, mode, 0);
        self.tar.append_data(&mut header, in_tar(name), io::empty())
    }

    pub(super) fn link(&mut self, name: &Path, target: &Path) -> io::Result<()> {
        let mut header = self.header(tar::EntryType::Symlink, 0o777, 0);
        self.tar.append_link(&mut header, in_tar(name), target)
    }

    pub(super) fn bytes(&mut self, name: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let mut header = self.header(tar::EntryType::Regular, mode, bytes.len() as u64);
        self.tar.append_data(&mut header, in_tar(name), bytes)
    }

    pub(super) fn file(&mut self, name: &Path, source: &Path, mode: u32) -> io::Result<()> {
        let file = File::open(source)?;
        let size = file.metadata()?.len();
        let mut header = self.header(tar::EntryType::Regular, mode, size);
        // A file that shrinks meanwhile would leave a broken tar.
        self.tar.append_data(&mut header, in_tar(name), Exactly { file, left: size })
    }

    /// Adds a tree under its own path, with the folders above it.
    pub(super) fn tree(&mut self, root: &Path, skip: &dyn Fn(&Path) -> bool) -> io::Result<()> {
        self.parents(root)?;
        self.folder(root, 0o755)?;
        let mut paths = Vec::new();
        list(root, skip, &mut paths)?;
        paths.sort();
        for path in paths {
            self.path(&path)?;
        }
        Ok(())
    }

    /// Adds files (path of each now, and path in the tar), with the folders above them.
    pub(super) fn files(&mut self, files: &[(PathBuf, PathBuf)]) -> io::Result<()> {
        let places = files.iter().map(|(_, place)| place.as_path());
        let folders: BTreeSet<&Path> =
            places.flat_map(|place| place.ancestors().skip(1)).filter(|path| path.file_name().is_some()).collect();
        folders.into_iter().try_for_each(|folder| self.folder(folder, 0o755))?;
        let sorted: BTreeMap<&PathBuf, &PathBuf> = files.iter().map(|(source, place)| (place, source)).collect();
        sorted.into_iter().try_for_each(|(place, source)| self.file(place, source, 0o644))
    }

    /// Adds the folders above a path.
    pub(super) fn parents(&mut self, path: &Path) -> io::Result<()> {
        let mut above: Vec<&Path> = path.ancestors().skip(1).filter(|p| p.file_name().is_some()).collect();
        above.reverse();
        above.into_iter().try_for_each(|folder| self.folder(folder, 0o755))
    }

    /// Adds one entry as it is on disk; leaves out what is neither a folder, a file nor a link.
    pub(super) fn path(&mut self, path: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        let mode = metadata.permissions().mode() & 0o777;
        if metadata.is_dir() {
            self.folder(path, mode)
        } else if metadata.is_symlink() {
            self.link(path, &fs::read_link(path)?)
        } else if metadata.is_file() {
            self.file(path, path, mode | 0o400)
        } else {
            Ok(())
        }
    }

    /// Ends the tar, and rewinds its file.
    pub(super) fn finish(self, created_by: &str) -> io::Result<(BuiltLayer, File)> {
        let hashing = self.tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        let Hashing { mut file, sum, size } = hashing;
        file.rewind()?;
        let digest = Digest::from_sha256(&sum.finalize().into());
        Ok((BuiltLayer { digest, size, created_by: created_by.to_owned() }, file))
    }
}

/// Reads exactly as many bytes as the header announced.
struct Exactly {
    file: File,
    left: u64,
}

impl io::Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.file.read(&mut buffer[..most])?;
        if length == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::other("a file shrank while it was read"));
        }
        self.left -= length as u64;
        Ok(length)
    }
}

/// Names in a tar do not begin with a slash.
fn in_tar(name: &Path) -> &Path {
    name.strip_prefix("/").unwrap_or(name)
}

fn list(folder: &Path, skip: &dyn Fn(&Path) -> bool, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if skip(&path) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            list(&path, skip, paths)?;
        }
        paths.push(path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_kept_without_special_bits() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("layer");
        fs::create_dir_all(root.join("closed")).unwrap();
        fs::write(root.join("program"), "").unwrap();
        for (name, mode) in [("closed", 0o1555), ("program", 0o4750)] {
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut tar = LayerTar::new(dir.path(), 1000).unwrap();
        tar.tree(&root, &|_| false).unwrap();
        let (_, file) = tar.finish("test").unwrap();
        let mut archive = tar::Archive::new(file);
        let modes: BTreeMap<PathBuf, u32> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.path().unwrap().into_owned(), entry.header().mode().unwrap())
            })
            .collect();
        assert_eq!(modes[&in_tar(&root).join("closed")], 0o555);
        assert_eq!(modes[&in_tar(&root).join("program")], 0o750);
    }
}
