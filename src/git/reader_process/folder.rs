//! Finds folders and files of a commit by their path.

use std::{collections::HashMap, io::Read as _};

use git2::{ObjectType, Oid, Tree};

use super::{
    commit,
    objects::{Objects, oid},
    tree::{EntryMode, entries},
};
use crate::{git::protocol::Failure, model::CommitId};

/// The tree of a commit, or of a folder in it.
pub(super) fn tree(objects: &Objects<'_>, commit: &CommitId, folder: Option<&str>) -> Result<Oid, Failure> {
    let root = commit::tree(objects, oid(commit)?)?;
    let Some(folder) = folder else { return Ok(root) };
    match find(objects, root, folder)? {
        Some((EntryMode::Folder, id)) => Ok(id),
        _ => Err(Failure::NoFolder(folder.to_owned())),
    }
}

/// A regular file of a commit; `None` if there is none.
pub(super) fn file(
    objects: &Objects<'_>,
    commit: &CommitId,
    path: &str,
    max: usize,
) -> Result<Option<Vec<u8>>, Failure> {
    let root = commit::tree(objects, oid(commit)?)?;
    let Some((EntryMode::File | EntryMode::Executable, id)) = find(objects, root, path)? else { return Ok(None) };
    let (size, mut contents) = objects.contents(id, ObjectType::Blob)?;
    if size > max as u64 {
        return Err(Failure::FileTooLarge);
    }
    let mut bytes = Vec::new();
    contents.read_to_end(&mut bytes).map_err(|e| Failure::Unreadable(format!("{path}: {e}")))?;
    Ok(Some(bytes))
}

/// Those of the paths that are regular files of a commit.
pub(super) fn files_among(
    objects: &Objects<'_>,
    commit: &CommitId,
    paths: Vec<String>,
) -> Result<Vec<String>, Failure> {
    let root = commit::tree(objects, oid(commit)?)?;
    let mut files = Vec::new();
    // The paths are in few folders, and each is read once.
    let mut folders = HashMap::new();
    for path in paths {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if !folders.contains_key(folder) {
            let found = if folder.is_empty() { Some((EntryMode::Folder, root)) } else { find(objects, root, folder)? };
            let tree = match found {
                Some((EntryMode::Folder, id)) => Some(entries(objects, id)?),
                _ => None,
            };
            folders.insert(folder.to_owned(), tree);
        }
        let entry = folders[folder].iter().flat_map(Tree::iter).find(|entry| entry.name_bytes() == name.as_bytes());
        let mode = entry.map(|entry| EntryMode::of(entry.filemode_raw()));
        if matches!(mode, Some(EntryMode::File | EntryMode::Executable)) {
            files.push(path);
        }
    }
    Ok(files)
}

/// The entry with this path below a tree. A path is a list of names; no name is special.
fn find(objects: &Objects<'_>, root: Oid, path: &str) -> Result<Option<(EntryMode, Oid)>, Failure> {
    let mut found = (EntryMode::Folder, root);
    for name in path.split('/') {
        let (EntryMode::Folder, tree) = found else { return Ok(None) };
        let tree = entries(objects, tree)?;
        let Some(entry) = tree.iter().find(|entry| entry.name_bytes() == name.as_bytes()) else { return Ok(None) };
        found = (EntryMode::of(entry.filemode_raw()), entry.id());
    }
    Ok(Some(found))
}
