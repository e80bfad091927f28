//! Commits whose parents the repository does not have, in the file `shallow` (gitformat-shallow in git's documentation).

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use git2::Oid;

use super::{
    commit,
    objects::{Objects, oid},
};
use crate::{git::protocol::Failure, model::CommitId};

/// Longest wait for another process that changes the file, and time between two looks at its lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_INTERVAL: Duration = Duration::from_millis(5);

/// Records commits that a client has without their parents, so that git does not look for those. A commit whose parents are
/// here stays as it is: otherwise a client could cut off the history of others.
pub(super) fn mark(objects: &Objects<'_>, roots: &[CommitId]) -> Result<(), Failure> {
    let mut missing = BTreeSet::new();
    for root in roots {
        let id = oid(root)?;
        let too_long = || Failure::Unreadable(format!("the commit {id} has too many parents"));
        if lacks_parents(objects, id)?.ok_or_else(too_long)? {
            missing.insert(id.to_string());
        }
    }
    change(objects.repository.path(), |known| {
        known.extend(missing);
        Ok(())
    })
}

/// Whether the commit or one of its parents is missing; `None` if it has more parents than are read.
fn lacks_parents(objects: &Objects<'_>, id: Oid) -> Result<Option<bool>, Failure> {
    if !objects.is_commit(id)? {
        return Ok(Some(true));
    }
    let Some(parents) = commit::parents(objects, id)? else { return Ok(None) };
    for parent in parents {
        if !objects.is_commit(parent)? {
            return Ok(Some(true));
        }
    }
    Ok(Some(false))
}

/// Removes what a push has recorded in vain: commits that did not arrive, or arrived with their parents.
pub(super) fn prune(objects: &Objects<'_>) -> Result<(), Failure> {
    let kept = |id: &str| match Oid::from_str(id) {
        // Without the record of a commit whose parents are missing, nothing could read the history.
        Ok(id) => Ok(objects.is_commit(id)? && lacks_parents(objects, id)?.unwrap_or(true)),
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
    let lock = Lock::take(folder.join("shallow.lock"), || std::thread::sleep(LOCK_INTERVAL)).map_err(failed)?;
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
    /// Takes the lock, which others hold for moments; waits by `pause` while one does.
    fn take(path: PathBuf, mut pause: impl FnMut()) -> io::Result<Self> {
        let until = Instant::now() + LOCK_TIMEOUT;
        loop {
            match File::create_new(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && Instant::now() < until => pause(),
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
        set(&[]).unwrap();
        assert!(!path.exists() && !lock.exists());
    }

    #[test]
    fn a_lock_that_another_process_holds_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("shallow.lock");
        fs::write(&lock, "").unwrap();
        let mut pauses = 0;
        let taken = Lock::take(lock.clone(), || {
            pauses += 1;
            if pauses == 3 {
                fs::remove_file(&lock).unwrap();
            }
        });
        drop(taken.unwrap());
        assert_eq!((pauses, lock.exists()), (3, false));
    }
}
