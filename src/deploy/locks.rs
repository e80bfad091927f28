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
pub(super) struct AppLocks(Mutex<HashMap<AppId, Entry>>);

#[derive(Clone, Default)]
struct Entry {
    lock: Arc<AsyncMutex<()>>,
    destroyed: CancellationToken,
}

impl AppLocks {
    fn entry(&self, app: AppId) -> Entry {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(app).or_default().clone()
    }

    /// Waits, in order of arrival, for the app's turn; says `waiting` when it must wait.
    pub(super) async fn lock(
        &self,
        app: AppId,
        progress: &Progress,
        waiting: &str,
        cancel: &CancellationToken,
    ) -> Result<OwnedMutexGuard<()>, DeployError> {
        let lock = self.entry(app).lock;
        if let Ok(guard) = Arc::clone(&lock).try_lock_owned() {
            return Ok(guard);
        }
        progress.step(waiting).await;
        tokio::select! {
            guard = lock.lock_owned() => Ok(guard),
            () = cancel.cancelled() => Err(DeployError::Cancelled),
        }
    }

    /// Does `work`, and cancels it with `cancel` when the app is destroyed meanwhile.
    pub(super) async fn unless_destroyed<T>(
        &self,
        app: AppId,
        cancel: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> T {
        let destroyed = self.entry(app).destroyed;
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = destroyed.cancelled() => cancel.cancel(),
        }
        work.await
    }

    /// Cancels what runs for the app, and waits until nothing does.
    pub(super) async fn destroyed(&self, app: AppId) -> OwnedMutexGuard<()> {
        let Entry { lock, destroyed } = self.entry(app);
        destroyed.cancel();
        lock.lock_owned().await
    }

    /// Forgets the lock of an app that is gone.
    pub(super) fn forget(&self, app: AppId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&app);
    }
}
