//! One at a time for each app: pushes, and the bringing-up of releases.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;

use super::DeployError;
use crate::{progress::Progress, store::AppId};

#[derive(Default)]
pub(super) struct AppLocks(Mutex<HashMap<AppId, Arc<AsyncMutex<()>>>>);

impl AppLocks {
    /// Waits, in order of arrival, for the app's turn; says `waiting` when it must wait.
    pub(super) async fn lock(
        &self,
        app: AppId,
        progress: &Progress,
        waiting: &str,
        cancel: &CancellationToken,
    ) -> Result<OwnedMutexGuard<()>, DeployError> {
        let lock = Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(app).or_default());
        if let Ok(guard) = Arc::clone(&lock).try_lock_owned() {
            return Ok(guard);
        }
        progress.step(waiting).await;
        tokio::select! {
            guard = lock.lock_owned() => Ok(guard),
            () = cancel.cancelled() => Err(DeployError::Cancelled),
        }
    }

    /// Forgets the lock of an app that is gone.
    pub(super) fn forget(&self, app: AppId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&app);
    }
}
