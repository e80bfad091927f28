//! What failed, interrupted and many pushes leave behind, and when it may be removed.
//!
//! The objects of a push that waits for its deploy are reachable from no ref, so nothing is collected while any push
//! to the repository is under way: the last one does it.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::{Repository, Result, blocking, failed, finish};

/// So many packs are put together into one.
const MANY_PACKS: usize = 30;

/// How long the removal of a repository waits for what is under way in it.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Use {
    lock: Arc<RwLock<()>>,
    untidy: AtomicBool,
}

impl Use {
    /// Waits until nothing writes in the repository any more, though not for a push that hangs.
    pub(super) async fn end(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        tokio::time::timeout(PATIENCE, Arc::clone(&self.lock).write_owned()).await.ok()
    }
}

/// A push is under way: nothing in the repository is collected until it is dropped.
#[derive(Debug)]
pub struct InUse(#[expect(dead_code, reason = "held for its drop")] OwnedRwLockReadGuard<()>);

impl Repository {
    fn uses(&self) -> Arc<Use> {
        let mut uses = self.repositories.0.uses.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(uses.entry(self.app.clone()).or_default())
    }

    /// Keeps the objects of a push; waits while a collection is under way.
    pub async fn keep(&self) -> InUse {
        InUse(Arc::clone(&self.uses().lock).read_owned().await)
    }

    /// Says that something is to be collected, and collects it unless a push is under way: then its end does.
    pub async fn gc(&self) -> Result<()> {
        self.uses().untidy.store(true, Ordering::Release);
        self.tidy().await
    }

    /// After each push: removes what no ref needs, if there is some, and puts packs together, if there are many.
    pub async fn tidy(&self) -> Result<()> {
        let uses = self.uses();
        let Ok(_alone) = Arc::clone(&uses.lock).try_write_owned() else { return Ok(()) };
        let untidy = uses.untidy.swap(false, Ordering::AcqRel);
        let pack_folder = self.path.join("objects/pack");
        let packs = blocking(move || packs(&pack_folder)).await.map_err(failed("read", &self.path))?;
        if !untidy && packs.len() <= MANY_PACKS {
            return Ok(());
        }
        let tidied = self.collect(&packs).await;
        if tidied.is_err() {
            uses.untidy.store(true, Ordering::Release);
        }
        tidied
    }

    async fn collect(&self, packs: &[Pack]) -> Result<()> {
        // Newer versions of git remove these by themselves; older ones know them by another name.
        self.shell("rm -rf objects/incoming-* objects/tmp_objdir-* objects/pack/tmp_*").await?;
        let has_refs = !self.git(&["for-each-ref", "--count=1"]).await?.trim().is_empty();
        if worth_packing(packs, has_refs) {
            self.git(&["pack-refs", "--all"]).await?;
            self.git(&["repack", "-a", "-d", "-q"]).await?;
        }
        self.git(&["prune", "--expire=now"]).await.map(drop)
    }

    /// Removes locks that a killed git left, and what it had received. No git may run in this repository.
    pub async fn remove_stale_locks(&self) -> Result<()> {
        self.shell("find . -name '*.lock' -type f -delete; rm -rf objects/incoming-* objects/tmp_objdir-*").await
    }

    /// The folder is its user's, who could put links in it: so that user, and not root, removes files there.
    async fn shell(&self, script: &str) -> Result<()> {
        let mut command = self.repositories.child("sh", &self.path);
        command.args(["-c", script]);
        finish(command).await.map(drop)
    }
}

#[derive(Debug)]
struct Pack {
    made: SystemTime,
    bytes: u64,
}

fn packs(folder: &Path) -> std::io::Result<Vec<Pack>> {
    let mut packs = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if Path::new(&entry.file_name()).extension().is_some_and(|extension| extension == "pack") {
            let data = entry.metadata()?;
            packs.push(Pack { made: data.modified()?, bytes: data.len() });
        }
    }
    packs.sort_by_key(|pack| pack.made);
    Ok(packs)
}

/// Packing anew reads and writes all that is kept. What came after the oldest pack, which is the one made last time, is
/// the most that can be won; it must be a good part of the whole.
fn worth_packing(packs: &[Pack], has_refs: bool) -> bool {
    let all: u64 = packs.iter().map(|pack| pack.bytes).sum();
    let kept = if has_refs { packs.first().map_or(0, |pack| pack.bytes) } else { 0 };
    packs.len() > MANY_PACKS || (all > kept && (all - kept) * 4 >= all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sizes: &[u64]) -> Vec<Pack> {
        sizes.iter().map(|bytes| Pack { made: SystemTime::UNIX_EPOCH, bytes: *bytes }).collect()
    }

    #[test]
    fn packing_is_worth_it_when_much_may_go_or_packs_pile_up() {
        assert!(!worth_packing(&of(&[]), false));
        assert!(worth_packing(&of(&[10]), false));
        assert!(!worth_packing(&of(&[10]), true));
        assert!(!worth_packing(&of(&[1000, 10]), true));
        assert!(worth_packing(&of(&[1000, 2000]), true));
        assert!(worth_packing(&of(&[1; 31]), true));
    }
}
