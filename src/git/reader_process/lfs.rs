//! Recognises the pointers that git LFS leaves in place of files.

use git2::ObjectType;

use super::{
    listing::{Entry, FileKind},
    names::{Names, display_path},
    objects::Objects,
};
use crate::git::protocol::Failure;

/// Possible sizes of a pointer, in bytes.
const POINTER_BYTES: std::ops::RangeInclusive<u64> = 100..=1024;

/// How a pointer begins.
const BEGINNING: &[u8] = b"version https://git-lfs.";

/// Paths of the files that are pointers. There can only be some if there is a `.gitattributes`, among these files or
/// (`in_subdirectory`) in a folder above them.
pub(super) fn pointers(objects: &Objects<'_>, files: &[Entry], in_subdirectory: bool) -> Result<Names, Failure> {
    let mut found = Names::default();
    if !in_subdirectory && !files.iter().any(|file| file.path.ends_with(b".gitattributes")) {
        return Ok(found);
    }
    for file in files.iter().filter(|file| file.kind != FileKind::Symlink && POINTER_BYTES.contains(&file.size)) {
        let beginning = objects.prefix(file.id, ObjectType::Blob, BEGINNING.len() as u64);
        if beginning.map_err(|e| Failure::Unreadable(format!("{}: {e}", display_path(&file.path))))? == BEGINNING {
            found.add(&file.path);
        }
    }
    Ok(found)
}
