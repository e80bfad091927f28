//! Coordinates pushes and garbage collections of a repository.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use tokio::sync::{Mutex, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// How long the removal of a repository waits for pushes and garbage collections in it.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(10);

/// What uses a repository: any number of pushes, or one garbage collection.
#[derive(Debug, Default)]
pub(super) struct Usage {
    lock: Arc<RwLock<()>>,
    /// Held while a remote repository is fetched.
    pub fetching: Mutex<()>,
    /// Whether the repository is known to have garbage.
    pub has_garbage: AtomicBool,
    /// Whether refs were deleted since the repository was repacked, so that what only they kept is garbage.
    pub has_deleted_refs: AtomicBool,
    /// Size of the objects after the repacking of a full repository, in bytes.
    pub repacked_bytes: AtomicU64,
}

/// Protects the objects of a push: while it exists, no garbage is collected in the repository.
#[derive(Debug)]
pub struct ObjectGuard(#[expect(dead_code, reason = "held for its drop")] OwnedRwLockReadGuard<()>);

impl Usage {
    /// Waits until no garbage collection runs, and prevents further ones.
    pub(super) async fn protect_objects(&self) -> ObjectGuard {
        ObjectGuard(Arc::clone(&self.lock).read_owned().await)
    }

    /// The right to collect garbage; `None` while the repository is in use.
    pub(super) fn try_lock(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        Arc::clone(&self.lock).try_write_owned().ok()
    }

    /// Waits until the repository is not in use; `None` if a push does not end in time.
    pub(super) async fn wait_until_unused(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        tokio::time::timeout(REMOVAL_TIMEOUT, Arc::clone(&self.lock).write_owned()).await.ok()
    }
}
