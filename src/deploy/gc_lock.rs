//! The lock between garbage collection and operations whose images and packages no row names yet.

use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Held for reading by any number of such operations, for writing by the one garbage collection that runs. Cheap to
/// clone.
#[derive(Debug, Clone, Default)]
pub(super) struct GcLock(Arc<RwLock<()>>);

impl GcLock {
    /// Keeps garbage collection from starting; waits for one that runs.
    pub(super) async fn hold_off(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.0).read_owned().await
    }

    /// Lets garbage collection run, unless an operation holds it off.
    pub(super) fn try_collect(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        Arc::clone(&self.0).try_write_owned().ok()
    }
}
