//! The lock between the removal of unused packages and operations whose packages no row names yet.

use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Held for reading by any number of such operations, for writing while packages are removed. Cheap to
/// clone.
#[derive(Debug, Clone, Default)]
pub(super) struct GcLock(Arc<RwLock<()>>);

impl GcLock {
    /// Keeps packages; waits for a removal that runs.
    pub(super) async fn hold_off(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.0).read_owned().await
    }

    /// Lets unused packages be removed, whatever their age, unless an operation holds that off.
    pub(super) fn try_collect(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        Arc::clone(&self.0).try_write_owned().ok()
    }
}
