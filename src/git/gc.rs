//! Garbage collection: removes the objects of failed and interrupted pushes, and repacks.
//!
//! While a push waits for its deploy, no ref points to its objects. Therefore no garbage is collected during pushes to the
//! repository, and no record of a shallow history is removed; the end of the last push does it.

use std::{fs, path::Path, sync::atomic::Ordering, time::SystemTime};

use super::{
    command::{output, output_in},
    error::{Result, failed},
    files::blocking,
    groups::Group,
    repository::Repository,
    usage::ObjectGuard,
};

/// A repository with more packs than this is repacked.
const MAX_PACKS: usize = 30;

impl Repository {
    /// Protects the objects of a push from garbage collection; waits while a garbage collection runs.
    pub async fn protect_objects(&self) -> ObjectGuard {
        self.repositories.usage(&self.app).protect_objects().await
    }

    /// Collects garbage. During a push nothing is collected; then [`Self::gc_if_needed`] at the end of the push does it.
    pub async fn gc(&self) -> Result<()> {
        self.repositories.usage(&self.app).has_garbage.store(true, Ordering::Release);
        self.gc_if_needed().await
    }

    /// Collects garbage if the repository is known to have some, or has many packs. To be called after each push.
    pub async fn gc_if_needed(&self) -> Result<()> {
        let usage = self.repositories.usage(&self.app);
        let Some(_lock) = usage.try_lock() else { return Ok(()) };
        self.prune_shallow().await?;
        let has_garbage = usage.has_garbage.swap(false, Ordering::AcqRel);
        let pack_folder = self.path.join("objects/pack");
        let packs = blocking(move || packs(&pack_folder)).await.map_err(failed("read", &self.path))?;
        // A full repository is repacked to the last byte, but not again while nothing can have become garbage.
        let (used, max) = (self.object_use().await?.bytes, self.max_bytes);
        let is_full = if usage.has_deleted_refs.load(Ordering::Acquire) {
            used >= max / 8 * 7
        } else {
            used >= max && used != usage.repacked_bytes.load(Ordering::Acquire)
        };
        if !has_garbage && !is_full && packs.len() <= MAX_PACKS {
            return Ok(());
        }
        let collected = self.collect(&packs, is_full).await;
        match (&collected, is_full) {
            (Err(_), _) => usage.has_garbage.store(true, Ordering::Release),
            (Ok(()), true) => {
                usage.has_deleted_refs.store(false, Ordering::Release);
                usage.repacked_bytes.store(self.object_use().await?.bytes, Ordering::Release);
            }
            (Ok(()), false) => {}
        }
        collected
    }

    /// Notes that refs were deleted: if the repository is almost full, what only they kept is collected.
    pub fn refs_were_deleted(&self) {
        self.repositories.usage(&self.app).has_deleted_refs.store(true, Ordering::Release);
    }

    /// Forgets what shallow pushes have recorded in vain: only while no push runs, since what it recorded may still arrive, and
    /// before garbage is collected, since git takes the history of others to end there.
    async fn prune_shallow(&self) -> Result<()> {
        // A reader that was killed has left it: nothing else changes the file now.
        let lock = self.path.join("shallow.lock");
        if tokio::fs::try_exists(&lock).await.map_err(failed("access", &lock))? {
            self.shell("rm -f shallow.lock").await?;
        }
        self.reader().prune_shallow().await
    }

    async fn collect(&self, packs: &[Pack], is_full: bool) -> Result<()> {
        // Newer versions of git remove these files themselves; older versions use other names for them.
        self.shell("rm -rf objects/incoming-* objects/tmp_objdir-* objects/pack/tmp_* fast_import_crash_*").await?;
        let group = self.repositories.group().await;
        let has_refs = self.reader_in(&group).has_refs().await?;
        if is_full || worth_repacking(packs, has_refs) {
            self.git_in(&group, &["pack-refs", "--all"]).await?;
            self.git_in(&group, &["repack", "-a", "-d", "-q"]).await?;
        }
        self.git_in(&group, &["prune", "--expire=now"]).await
    }

    /// Runs git in a control group, whose limits it may need.
    async fn git_in(&self, group: &Group, arguments: &[&str]) -> Result<()> {
        let mut command = self.repositories.gated_command(&self.path);
        command.args(arguments);
        output_in(group, arguments.first().unwrap_or(&""), command).await.map(drop)
    }

    /// Removes lock files and incomplete packs that killed git processes left. No git may run in this repository.
    pub async fn remove_stale_locks(&self) -> Result<()> {
        self.shell("find . -name '*.lock' -type f -delete; rm -rf objects/incoming-* objects/tmp_objdir-*").await
    }

    /// Runs a shell script in the repository as git's user: root must not follow links that this user may have created.
    async fn shell(&self, script: &str) -> Result<()> {
        let mut command = self.repositories.child("sh", &self.path);
        command.args(["-c", script]);
        output(command).await.map(drop)
    }
}

/// A pack file.
#[derive(Debug)]
struct Pack {
    created_at: SystemTime,
    bytes: u64,
}

/// Packs of a repository, oldest first.
fn packs(folder: &Path) -> std::io::Result<Vec<Pack>> {
    let mut packs = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if Path::new(&entry.file_name()).extension().is_some_and(|extension| extension == "pack") {
            let data = entry.metadata()?;
            packs.push(Pack { created_at: data.modified()?, bytes: data.len() });
        }
    }
    packs.sort_by_key(|pack| pack.created_at);
    Ok(packs)
}

/// Whether to repack the repository, which reads and writes all objects that are kept. At most the objects after the oldest
/// pack, which the last repacking created, can be garbage; they must be at least a quarter of all objects.
fn worth_repacking(packs: &[Pack], has_refs: bool) -> bool {
    let all: u64 = packs.iter().map(|pack| pack.bytes).sum();
    let repacked = if has_refs { packs.first().map_or(0, |pack| pack.bytes) } else { 0 };
    packs.len() > MAX_PACKS || (all > repacked && (all - repacked) * 4 >= all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packs_of(sizes: &[u64]) -> Vec<Pack> {
        sizes.iter().map(|bytes| Pack { created_at: SystemTime::UNIX_EPOCH, bytes: *bytes }).collect()
    }

    #[test]
    fn repacking_is_worth_it_when_much_may_be_garbage_or_there_are_many_packs() {
        assert!(!worth_repacking(&packs_of(&[]), false));
        assert!(worth_repacking(&packs_of(&[10]), false));
        assert!(!worth_repacking(&packs_of(&[10]), true));
        assert!(!worth_repacking(&packs_of(&[1000, 10]), true));
        assert!(worth_repacking(&packs_of(&[1000, 2000]), true));
        assert!(worth_repacking(&packs_of(&[1; 31]), true));
    }
}
