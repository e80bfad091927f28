//! Finds folders and files of a commit by their path.

use std::{
    collections::{HashMap, VecDeque},
    io::Read as _,
};

use git2::{ObjectType, Oid, Tree};

use super::{
    commit,
    objects::{Objects, oid},
    tree::{EntryMode, entries},
};
use crate::{
    git::protocol::{Failure, NoFile},
    model::CommitId,
};

/// Maximum number of names of symbolic links that are looked up for one path.
const MAX_LINK_STEPS: usize = 64;

/// Maximum length of the target of a symbolic link in Linux, in bytes.
const MAX_TARGET_LEN: u64 = 4095;

/// The tree of a commit, or of a folder in it.
pub(super) fn tree(objects: &Objects<'_>, commit: &CommitId, folder: Option<&str>) -> Result<Oid, Failure> {
    let root = commit::tree(objects, oid(commit)?)?;
    let Some(folder) = folder else { return Ok(root) };
    match find(objects, root, folder)? {
        Some((EntryMode::Folder, id)) => Ok(id),
        _ => Err(Failure::NoFolder(folder.to_owned())),
    }
}

/// A file of a commit, or of a folder of it; symbolic links are followed inside of that.
pub(super) fn file(
    objects: &Objects<'_>,
    commit: &CommitId,
    folder: Option<&str>,
    path: &str,
    max: usize,
) -> Result<Result<Vec<u8>, NoFile>, Failure> {
    let root = tree(objects, commit, folder)?;
    let id = match resolve(objects, root, path)? {
        Ok(id) => id,
        Err(none) => return Ok(Err(none)),
    };
    let (size, mut contents) = objects.contents(id, ObjectType::Blob)?;
    if size > max as u64 {
        return Err(Failure::FileTooLarge);
    }
    let mut bytes = Vec::new();
    contents.read_to_end(&mut bytes).map_err(|e| Failure::Unreadable(format!("{path}: {e}")))?;
    Ok(Ok(bytes))
}

/// The file to which a path leads below a tree, by way of symbolic links as the kernel follows them. None leaves the tree.
fn resolve(objects: &Objects<'_>, root: Oid, path: &str) -> Result<Result<Oid, NoFile>, Failure> {
    let mut names: VecDeque<Vec<u8>> = path.split('/').map(|name| name.as_bytes().to_vec()).collect();
    let mut folders = vec![root];
    let mut is_link = false;
    let absent = |is_link| Ok(Err(if is_link { NoFile::BrokenLink } else { NoFile::Absent }));
    for _ in 0..=names.len() + MAX_LINK_STEPS {
        let (Some(name), Some(folder)) = (names.pop_front(), folders.last()) else {
            return Ok(Err(NoFile::Folder));
        };
        match name.as_slice() {
            b"" | b"." => continue,
            b".." if folders.len() > 1 => {
                folders.pop();
                continue;
            }
            b".." => return absent(is_link),
            _ => {}
        }
        match entry(objects, *folder, &name)? {
            Some((EntryMode::Folder, id)) => folders.push(id),
            Some((EntryMode::File | EntryMode::Executable, id)) if names.is_empty() => return Ok(Ok(id)),
            Some((EntryMode::Symlink, id)) => {
                is_link = true;
                let target = objects.prefix(id, ObjectType::Blob, MAX_TARGET_LEN)?;
                if target.starts_with(b"/") {
                    return absent(is_link);
                }
                target.split(|byte| *byte == b'/').rev().for_each(|name| names.push_front(name.to_vec()));
            }
            _ => return absent(is_link),
        }
    }
    absent(is_link)
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
        let Some(next) = entry(objects, tree, name.as_bytes())? else { return Ok(None) };
        found = next;
    }
    Ok(Some(found))
}

/// The entry of a tree with this name.
fn entry(objects: &Objects<'_>, tree: Oid, name: &[u8]) -> Result<Option<(EntryMode, Oid)>, Failure> {
    let tree = entries(objects, tree)?;
    let found = tree.iter().find(|entry| entry.name_bytes() == name);
    Ok(found.map(|entry| (EntryMode::of(entry.filemode_raw()), entry.id())))
}
