//! Unpacks the source tar into the app's folder, and nowhere else.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Component, Path, PathBuf},
};

use super::protocol::{Kind, read_frame};

/// Reads the tar out of the frames.
pub(super) struct SourceReader<'a, R> {
    from: &'a mut R,
    frame: io::Cursor<Vec<u8>>,
    ended: bool,
}

impl<'a, R: Read> SourceReader<'a, R> {
    pub(super) fn new(from: &'a mut R) -> Self {
        Self { from, frame: io::Cursor::default(), ended: false }
    }

    /// Reads what is left, so that the next frame is the one after the source.
    pub(super) fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink()).map(drop)
    }
}

impl<R: Read> Read for SourceReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let length = self.frame.read(buffer)?;
            if length > 0 || self.ended || buffer.is_empty() {
                return Ok(length);
            }
            match read_frame(self.from)? {
                Some((Kind::Source, payload)) => self.frame = io::Cursor::new(payload),
                Some((Kind::SourceEnd, _)) => self.ended = true,
                _ => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            }
        }
    }
}

/// Number of files and folders that a tar may contain: a small tar can contain more than a file system has room for.
const MAX_ENTRIES: usize = 1_000_000;

/// Number of folders that may lie in each other: what reads them recursively has a stack of limited size.
pub const MAX_DEPTH: usize = 100;

/// Unpacks into an empty folder. No entry leaves the folder, and none goes through a link. Returns the number of entries.
pub fn unpack(tar: impl Read, folder: &Path) -> Result<usize, String> {
    unpack_at_most(MAX_ENTRIES, tar, folder, inside)
}

/// The same for a layer of an image, whose names may begin at its root.
pub fn unpack_layer(tar: impl Read, folder: &Path) -> Result<usize, String> {
    unpack_at_most(MAX_ENTRIES, tar, folder, |folder, name| inside(folder, name.strip_prefix("/").unwrap_or(name)))
}

fn unpack_at_most(
    max: usize,
    tar: impl Read,
    folder: &Path,
    inside: impl Fn(&Path, &Path) -> Option<PathBuf>,
) -> Result<usize, String> {
    let mut archive = tar::Archive::new(tar);
    let (mut count, mut folders) = (0, 0);
    for entry in archive.entries().map_err(|e| e.to_string())? {
        let mut entry = entry.map_err(|e| format!("the source is not a complete tar: {e}"))?;
        let name = entry.path().map_err(|e| e.to_string())?.into_owned();
        let wrong = |e: &dyn std::fmt::Display| format!("cannot unpack {}: {e}", name.display());
        let kind = entry.header().entry_type();
        // The folder itself, and the header with which git begins an archive.
        let is_own = |part: Component<'_>| matches!(part, Component::CurDir | Component::RootDir);
        let nothing = kind.is_pax_global_extensions() || name.components().all(is_own);
        if nothing {
            continue;
        }
        if name.components().count() - usize::from(!kind.is_dir()) > MAX_DEPTH {
            let name = name.iter().take(3).collect::<PathBuf>();
            return Err(format!("cannot unpack {}…: more than {MAX_DEPTH} folders lie in each other", name.display()));
        }
        let path = inside(folder, &name).ok_or_else(|| wrong(&"it leads out of the folder"))?;
        if let Some(parent) = path.parent() {
            folders += make_folders(folder, parent).map_err(|e| wrong(&e))?;
        }
        if count + folders >= max {
            return Err(wrong(&format!("it has more than {max} files and folders")));
        }
        match kind {
            tar::EntryType::Regular => {
                let program = entry.header().mode().is_ok_and(|mode| mode & 0o100 != 0);
                let mut file =
                    fs::OpenOptions::new().write(true).create_new(true).open(&path).map_err(|e| wrong(&e))?;
                io::copy(&mut entry, &mut file).map_err(|e| wrong(&e))?;
                let mode = if program { 0o755 } else { 0o644 };
                file.set_permissions(fs::Permissions::from_mode(mode)).map_err(|e| wrong(&e))?;
            }
            tar::EntryType::Symlink => {
                let target = entry.link_name().ok().flatten().ok_or_else(|| wrong(&"a link without a target"))?;
                symlink(target, &path).map_err(|e| wrong(&e))?;
            }
            tar::EntryType::Directory => {}
            _ => return Err(wrong(&"only files and symbolic links can be deployed")),
        }
        count += 1;
    }
    Ok(count)
}

fn inside(folder: &Path, name: &Path) -> Option<PathBuf> {
    let mut path = folder.to_owned();
    for part in name.components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path).filter(|path| path != folder)
}

/// Makes folders one by one: what exists must be a folder itself, not a link to one. Returns the number of new ones.
fn make_folders(root: &Path, folder: &Path) -> io::Result<usize> {
    let mut path = root.to_owned();
    let mut made = 0;
    for part in folder.strip_prefix(root).map_err(io::Error::other)?.components() {
        path.push(part);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(io::Error::other("a file or link has the name of its folder")),
            Err(_) => {
                fs::create_dir(&path)?;
                made += 1;
            }
        }
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_of_too_many_entries_is_refused() {
        let mut tar = tar::Builder::new(Vec::new());
        for name in ["a/b/c", "a/b/d"] {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, io::empty()).unwrap();
        }
        let tar = tar.into_inner().unwrap();
        let unpacked = |max| unpack_at_most(max, &tar[..], tempfile::tempdir().unwrap().path(), inside);
        assert_eq!(unpacked(4), Ok(2));
        assert!(unpacked(3).unwrap_err().contains("more than 3 files and folders"));
    }

    #[test]
    fn folders_that_are_too_deep_are_refused() {
        let deep = |folders: usize| {
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("{}f", "d/".repeat(folders)), io::empty()).unwrap();
            unpack(&tar.into_inner().unwrap()[..], tempfile::tempdir().unwrap().path())
        };
        assert_eq!(deep(MAX_DEPTH), Ok(1));
        assert!(deep(MAX_DEPTH + 1).is_err());
        assert_eq!(deep(2000), Err("cannot unpack d/d/d…: more than 100 folders lie in each other".to_owned()));
    }

    #[test]
    fn the_names_of_a_layer_may_begin_at_the_root_of_the_image() {
        let layer = |name: &str| {
            let mut header = tar::Header::new_ustar();
            header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(0);
            header.set_mode(0o644);
            header.set_cksum();
            let mut tar = tar::Builder::new(Vec::new());
            tar.append(&header, io::empty()).unwrap();
            tar.into_inner().unwrap()
        };
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(unpack_layer(&layer("/cnb/buildpacks/x")[..], folder.path()), Ok(1));
        assert!(folder.path().join("cnb/buildpacks/x").is_file());
        assert!(unpack(&layer("/cnb/y")[..], folder.path()).is_err());
        assert!(unpack_layer(&layer("/../y")[..], folder.path()).is_err());
    }
}
