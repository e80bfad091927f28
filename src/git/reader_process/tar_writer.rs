//! Writes files of a tree as a tar. Attributes are ignored and times are constant, so that the same tree always gives the
//! same bytes.

use std::{
    ffi::OsStr,
    io::{self, Read as _, Write},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use git2::ObjectType;

use super::{
    listing::{Entry, FileKind},
    names::display_path,
    objects::Objects,
};
use crate::git::protocol::DataFrames;

/// Modification time of all files, in seconds since 1970: the buildpack specification's.
const MTIME: u64 = 315_532_801;

/// Size of a full frame, in bytes.
const FRAME_BYTES: usize = 256 << 10;

/// Writes the tar of these files in `Data` frames.
pub(super) fn write(objects: &Objects<'_>, files: &[Entry], to: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(io::BufWriter::with_capacity(FRAME_BYTES, DataFrames(to)));
    for file in files {
        append(&mut tar, objects, file)
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", display_path(&file.path))))?;
    }
    tar.into_inner()?.flush()
}

fn append(tar: &mut tar::Builder<impl Write>, objects: &Objects<'_>, file: &Entry) -> io::Result<()> {
    let (size, mut contents) = objects.contents(file.id, ObjectType::Blob).map_err(io::Error::other)?;
    let mut header = tar::Header::new_gnu();
    header.set_mtime(MTIME);
    header.set_uid(0);
    header.set_gid(0);
    match file.kind {
        FileKind::Symlink => {
            let mut target = Vec::new();
            contents.read_to_end(&mut target)?;
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            tar.append_link(&mut header, file.path(), Path::new(OsStr::from_bytes(&target)))
        }
        FileKind::Regular | FileKind::Executable => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(if file.kind == FileKind::Executable { 0o755 } else { 0o644 });
            header.set_size(size);
            tar.append_data(&mut header, file.path(), contents)
        }
    }
}
