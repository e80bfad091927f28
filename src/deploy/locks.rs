//! Locks by app: one push, and one rollout, at a time for each app.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;

use super::error::DeployError;
use crate::{progress::Progress, store::AppId};

pub(super) struct AppLocks {
    locks: Mutex<HashMap<AppId, AppLock>>,
    /// Reported to a caller that must wait.
    waiting: &'static str,
}

#[derive(Clone, Default)]
struct AppLock {
    lock: Arc<AsyncMutex<()>>,
    destroyed: CancellationToken,
}

impl AppLocks {
    /// No locks yet; `waiting` is reported to a caller that must wait for one.
    pub(super) fn new(waiting: &'static str) -> Self {
        Self { locks: Mutex::default(), waiting }
    }

    /// Waits for the app's lock, in order of arrival.
    pub(super) async fn lock(
        &self,
        app: AppId,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<OwnedMutexGuard<()>, DeployError> {
        let lock = self.get(app).lock;
        if let Ok(guard) = Arc::clone(&lock).try_lock_owned() {
            return Ok(guard);
        }
        progress.step(self.waiting).await;
        tokio::select! {
            guard = lock.lock_owned() => Ok(guard),
            () = cancel.cancelled() => Err(DeployError::Cancelled),
        }
    }

    /// Runs `work` to its end; if the app is destroyed meanwhile, cancels `cancel`.
    pub(super) async fn unless_destroyed<T>(
        &self,
        app: AppId,
        cancel: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> T {
        let destroyed = self.get(app).destroyed;
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = destroyed.cancelled() => cancel.cancel(),
        }
        work.await
    }

    /// Cancels the work of an app that is being destroyed, and takes the lock once it has ended.
    pub(super) async fn lock_destroyed(&self, app: AppId) -> OwnedMutexGuard<()> {
        let AppLock { lock, destroyed } = self.get(app);
        destroyed.cancel();
        lock.lock_owned().await
    }

    /// Drops the lock of an app that is destroyed.
    pub(super) fn forget(&self, app: AppId) {
        self.all().remove(&app);
    }

    fn get(&self, app: AppId) -> AppLock {
        self.all().entry(app).or_default().clone()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<AppId, AppLock>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
