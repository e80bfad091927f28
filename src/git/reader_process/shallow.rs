//! Commits whose parents the repository does not have, in the file `shallow` (gitformat-shallow in git's documentation).

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use git2::{ObjectType, Oid};

use super::objects::{Objects, oid};
use crate::{git::protocol::Failure, model::CommitId};

/// Bytes of a commit that are read for its parents.
const MAX_BYTES: u64 = 64 * 1024;

/// Records commits that a client has without their parents, so that git does not look for those. A commit whose parents are
/// here stays as it is: otherwise a client could cut off the history of others.
pub(super) fn mark(objects: &Objects<'_>, roots: &[CommitId]) -> Result<(), Failure> {
    let mut missing = BTreeSet::new();
    for root in roots {
        let id = oid(root)?;
        if lacks_parents(objects, id)? {
            missing.insert(id.to_string());
        }
    }
    let folder = objects.repository.path();
    let failed = |e: io::Error| Failure::Unreadable(format!("cannot record the end of a shallow history: {e}"));
    add(folder, missing).map_err(failed)
}

/// Whether the commit or one of its parents is missing.
fn lacks_parents(objects: &Objects<'_>, id: Oid) -> Result<bool, Failure> {
    if !objects.is_commit(id)? {
        return Ok(true);
    }
    let commit = objects.prefix(id, ObjectType::Commit, MAX_BYTES)?;
    let lines = commit.split(|byte| *byte == b'\n').skip(1);
    for parent in lines.map_while(|line| line.strip_prefix(b"parent ")) {
        let parent = std::str::from_utf8(parent).ok().and_then(|id| Oid::from_str(id).ok());
        let parent = parent.ok_or_else(|| Failure::Unreadable(format!("the commit {id} has an invalid parent")))?;
        if !objects.is_commit(parent)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Adds lines to the file, with the same lock as git.
fn add(folder: &Path, mut roots: BTreeSet<String>) -> io::Result<()> {
    let (path, lock) = (folder.join("shallow"), folder.join("shallow.lock"));
    let known = match fs::read_to_string(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        known => known?,
    };
    let before: BTreeSet<_> = known.lines().map(str::to_owned).collect();
    if roots.is_subset(&before) {
        return Ok(());
    }
    roots.extend(before);
    let mut file = File::create_new(&lock)?;
    let mut written = || {
        roots.iter().try_for_each(|root| writeln!(file, "{root}"))?;
        file.sync_all()?;
        fs::rename(&lock, &path)?;
        File::open(folder)?.sync_all()
    };
    written().inspect_err(|_| drop(fs::remove_file(&lock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_once_and_a_lock_is_respected() {
        let folder = tempfile::tempdir().unwrap();
        let read = || fs::read_to_string(folder.path().join("shallow")).unwrap();
        let roots = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        add(folder.path(), roots(&[])).unwrap();
        assert!(!folder.path().join("shallow").exists());
        add(folder.path(), roots(&["b", "c"])).unwrap();
        add(folder.path(), roots(&["a", "b"])).unwrap();
        assert_eq!(read(), "a\nb\nc\n");
        fs::write(folder.path().join("shallow.lock"), "").unwrap();
        assert!(add(folder.path(), roots(&["d"])).is_err());
        add(folder.path(), roots(&["a"])).unwrap();
        assert_eq!(read(), "a\nb\nc\n");
    }
}
