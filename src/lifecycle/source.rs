//! The source tar, unpacked where only the app's files may go.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Component, Path, PathBuf},
};

use super::protocol::{Kind, read_frame};

/// The tar inside the frames, as a reader.
pub(super) struct SourceReader<'a, R> {
    from: &'a mut R,
    frame: io::Cursor<Vec<u8>>,
    ended: bool,
}

impl<'a, R: Read> SourceReader<'a, R> {
    pub(super) fn new(from: &'a mut R) -> Self {
        Self { from, frame: io::Cursor::default(), ended: false }
    }

    /// Reads what is left, so that the stream stands after the source.
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

/// Unpacks into an empty folder. No entry leaves it, and none goes through a link.
pub fn unpack(tar: impl Read, folder: &Path) -> Result<usize, String> {
    let mut archive = tar::Archive::new(tar);
    let mut count = 0;
    for entry in archive.entries().map_err(|e| e.to_string())? {
        let mut entry = entry.map_err(|e| format!("the source is not a whole tar: {e}"))?;
        let name = entry.path().map_err(|e| e.to_string())?.into_owned();
        let wrong = |e: &dyn std::fmt::Display| format!("cannot unpack {}: {e}", name.display());
        let kind = entry.header().entry_type();
        // The folder itself, and the header with which git begins an archive.
        let nothing = kind.is_pax_global_extensions() || name.components().all(|part| part == Component::CurDir);
        if nothing {
            continue;
        }
        let path = inside(folder, &name).ok_or_else(|| wrong(&"it leads out of its folder"))?;
        if let Some(parent) = path.parent() {
            make_folders(folder, parent).map_err(|e| wrong(&e))?;
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

/// Makes folders one by one: what is there already must be a folder itself, not a link to one.
fn make_folders(root: &Path, folder: &Path) -> io::Result<()> {
    let mut path = root.to_owned();
    for part in folder.strip_prefix(root).map_err(io::Error::other)?.components() {
        path.push(part);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(io::Error::other("a file or link has the name of its folder")),
            Err(_) => fs::create_dir(&path)?,
        }
    }
    Ok(())
}
