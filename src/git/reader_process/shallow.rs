//! Commits whose parents the repository does not have, in the file `shallow` (gitformat-shallow in git's documentation).

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use git2::{ObjectType, Oid};

use super::objects::{Objects, oid};
use crate::{git::protocol::Failure, model::CommitId};

/// Longest wait for another process that changes the file, and time between two looks at its lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_INTERVAL: Duration = Duration::from_millis(5);

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
    change(objects.repository.path(), |known| {
        known.extend(missing);
        Ok(())
    })
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

/// Removes what a push has recorded in vain: commits that did not arrive, or arrived with their parents.
pub(super) fn prune(objects: &Objects<'_>) -> Result<(), Failure> {
    let kept = |id: &str| match Oid::from_str(id) {
        Ok(id) => Ok(objects.is_commit(id)? && lacks_parents(objects, id)?),
        Err(_) => Ok(false),
    };
    change(objects.repository.path(), |roots| {
        let mut left = BTreeSet::new();
        for root in roots.iter() {
            if kept(root)? {
                left.insert(root.clone());
            }
        }
        *roots = left;
        Ok(())
    })
}

/// Changes the lines of the file under the same lock as git.
fn change(folder: &Path, change: impl FnOnce(&mut BTreeSet<String>) -> Result<(), Failure>) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::Unreadable(format!("cannot record the end of a shallow history: {e}"));
    let path = folder.join("shallow");
    let lock = Lock::take(folder.join("shallow.lock")).map_err(failed)?;
    let known = match fs::read_to_string(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        known => known.map_err(failed)?,
    };
    let before: BTreeSet<_> = known.lines().map(str::to_owned).collect();
    let mut roots = before.clone();
    change(&mut roots)?;
    if roots == before {
        return Ok(());
    }
    let replaced = if roots.is_empty() { fs::remove_file(&path) } else { lock.rename(&roots, &path) };
    replaced.and_then(|()| File::open(folder)?.sync_all()).map_err(failed)
}

/// The lock of a file, a file itself. Dropping this removes it.
struct Lock {
    file: File,
    /// `None` once it has another name: a lock of this name is another process's then.
    path: Option<PathBuf>,
}

impl Lock {
    /// Takes the lock, which others hold for moments.
    fn take(path: PathBuf) -> io::Result<Self> {
        let until = Instant::now() + LOCK_TIMEOUT;
        loop {
            match File::create_new(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && Instant::now() < until => {
                    std::thread::sleep(LOCK_INTERVAL);
                }
                file => return Ok(Self { file: file?, path: Some(path) }),
            }
        }
    }

    /// Replaces the locked file by these lines, which ends the lock.
    fn rename(mut self, lines: &BTreeSet<String>, to: &Path) -> io::Result<()> {
        lines.iter().try_for_each(|line| writeln!(self.file, "{line}"))?;
        self.file.sync_all()?;
        if let Some(path) = &self.path {
            fs::rename(path, to)?;
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_changed_under_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let (path, lock) = (folder.path().join("shallow"), folder.path().join("shallow.lock"));
        let set = |names: &[&str]| {
            let names: BTreeSet<_> = names.iter().map(|name| (*name).to_owned()).collect();
            change(folder.path(), |roots| {
                *roots = names;
                Ok(())
            })
        };
        set(&[]).unwrap();
        assert!(!path.exists() && !lock.exists());
        set(&["b", "a"]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\nb\n");
        let failed = change(folder.path(), |roots| {
            roots.clear();
            Err(Failure::Empty)
        });
        assert!(failed.is_err() && !lock.exists());
        assert_eq!(fs::read_to_string(&path).unwrap(), "a\nb\n");
        let other = std::thread::spawn({
            fs::write(&lock, "").unwrap();
            let lock = lock.clone();
            move || fs::remove_file(lock)
        });
        set(&["c"]).unwrap();
        other.join().unwrap().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "c\n");
        set(&[]).unwrap();
        assert!(!path.exists() && !lock.exists());
    }
}
