//! Locks by app: one push, and one rollout, at a time for each app. A push or rebuild can be cancelled by another caller.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, SetOnce};
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
    queue: WorkQueue,
}

/// Pushes and rebuilds that hold the lock or wait for it, in order of arrival.
type WorkQueue = Arc<Mutex<Vec<Arc<WorkState>>>>;

struct WorkState {
    cancel: CancellationToken,
    /// Name of the user who cancelled it.
    cancelled_by: OnceLock<String>,
    /// Set at the end: whether it ended because it was cancelled.
    ended: SetOnce<bool>,
}

/// A push or rebuild of an app, from its arrival to its end.
pub(super) struct Work {
    state: Arc<WorkState>,
    queue: WorkQueue,
}

/// What became of an attempt to cancel the push or rebuild of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CancelOutcome {
    /// There was none.
    NothingRuns,
    /// It ended for another reason, or was past its commit point.
    TooLate,
    /// It was cancelled, and has ended.
    Cancelled,
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

    /// Begins a push or rebuild, which [`Self::cancel`] finds until it ends. `client` is cancelled when its client
    /// disconnects.
    pub(super) fn begin(&self, app: AppId, client: &CancellationToken) -> Work {
        let state =
            Arc::new(WorkState { cancel: client.child_token(), cancelled_by: OnceLock::new(), ended: SetOnce::new() });
        let queue = self.get(app).queue;
        guard(&queue).push(Arc::clone(&state));
        Work { state, queue }
    }

    /// Cancels the app's push or rebuild that came first, and waits until it has ended.
    pub(super) async fn cancel(&self, app: AppId, by: &str) -> CancelOutcome {
        let first = guard(&self.get(app).queue).first().cloned();
        let Some(work) = first else { return CancelOutcome::NothingRuns };
        // If two callers cancel the same work, it was the first of them.
        let _ = work.cancelled_by.set(by.to_owned());
        work.cancel.cancel();
        if *work.ended.wait().await { CancelOutcome::Cancelled } else { CancelOutcome::TooLate }
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
        let AppLock { lock, destroyed, queue: _ } = self.get(app);
        destroyed.cancel();
        lock.lock_owned().await
    }

    /// Drops the lock of an app that is destroyed.
    pub(super) fn forget(&self, app: AppId) {
        guard(&self.locks).remove(&app);
    }

    fn get(&self, app: AppId) -> AppLock {
        guard(&self.locks).entry(app).or_default().clone()
    }
}

impl Work {
    /// The work builds nothing, so that nobody cancels it.
    pub(super) fn builds_nothing(&self) {
        guard(&self.queue).retain(|other| !Arc::ptr_eq(other, &self.state));
    }

    /// Cancelled when the client disconnects, or another caller cancels the work.
    pub(super) fn cancel(&self) -> &CancellationToken {
        &self.state.cancel
    }

    /// The error that tells who cancelled the work, in place of one that only tells that it was cancelled.
    pub(super) fn explain(&self, error: DeployError) -> DeployError {
        match self.state.cancelled_by.get() {
            Some(by) if error.is_cancellation() => DeployError::CancelledBy { by: by.clone() },
            _ => error,
        }
    }

    /// Ends the work with its result.
    pub(super) fn end<T>(self, result: Result<T, DeployError>) -> Result<T, DeployError> {
        let result = result.map_err(|error| self.explain(error));
        let _ = self.state.ended.set(result.as_ref().is_err_and(DeployError::is_cancelled_by_caller));
        result
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Already set, unless the future of the work was dropped.
        let _ = self.state.ended.set(false);
        guard(&self.queue).retain(|other| !Arc::ptr_eq(other, &self.state));
    }
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::build::BuildError;

    const APP: AppId = AppId(1);

    fn locks() -> AppLocks {
        AppLocks::new("waiting")
    }

    #[tokio::test]
    async fn a_cancelled_push_names_who_cancelled_it_and_the_canceller_waits_for_its_end() {
        let locks = locks();
        let client = CancellationToken::new();
        let work = locks.begin(APP, &client);
        let mut cancelling = pin!(locks.cancel(APP, "ann"));
        assert!(cancelling.as_mut().now_or_never().is_none(), "the push has not ended");
        assert!(work.cancel().is_cancelled() && !client.is_cancelled());
        let mut second = pin!(locks.cancel(APP, "bob"));
        assert!(second.as_mut().now_or_never().is_none());
        let error = work.end::<()>(Err(BuildError::Cancelled.into())).unwrap_err();
        assert_eq!(error.to_string(), "the build was cancelled by ann (builds:cancel)");
        assert_eq!((cancelling.await, second.await), (CancelOutcome::Cancelled, CancelOutcome::Cancelled));
        assert_eq!(locks.cancel(APP, "ann").await, CancelOutcome::NothingRuns);
    }

    #[tokio::test]
    async fn an_error_that_was_reported_with_the_name_counts_as_cancelled() {
        let locks = locks();
        let work = locks.begin(APP, &CancellationToken::new());
        let mut cancelling = pin!(locks.cancel(APP, "ann"));
        assert!(cancelling.as_mut().now_or_never().is_none());
        let explained = work.explain(BuildError::Cancelled.into());
        let _ = work.end::<()>(Err(DeployError::AlreadyReported(Box::new(explained))));
        assert_eq!(cancelling.await, CancelOutcome::Cancelled);
    }

    #[tokio::test]
    async fn a_push_past_its_commit_point_or_with_another_failure_is_not_reported_as_cancelled() {
        let locks = locks();
        for result in [Ok(()), Err(DeployError::NoProcess)] {
            let work = locks.begin(APP, &CancellationToken::new());
            let mut cancelling = pin!(locks.cancel(APP, "ann"));
            assert!(cancelling.as_mut().now_or_never().is_none());
            let message = result.as_ref().err().map(ToString::to_string);
            assert_eq!(work.end(result).err().map(|error| error.to_string()), message);
            assert_eq!(cancelling.await, CancelOutcome::TooLate);
        }
        let work = locks.begin(APP, &CancellationToken::new());
        let mut cancelling = pin!(locks.cancel(APP, "ann"));
        assert!(cancelling.as_mut().now_or_never().is_none());
        drop(work);
        assert_eq!(cancelling.await, CancelOutcome::TooLate);
    }

    #[tokio::test]
    async fn only_the_first_push_of_the_app_is_cancelled() {
        let locks = locks();
        let other = locks.begin(AppId(2), &CancellationToken::new());
        let first = locks.begin(APP, &CancellationToken::new());
        let second = locks.begin(APP, &CancellationToken::new());
        let mut cancelling = pin!(locks.cancel(APP, "ann"));
        assert!(cancelling.as_mut().now_or_never().is_none());
        let cancelled = [&first, &second, &other].map(|work| work.cancel().is_cancelled());
        assert_eq!(cancelled, [true, false, false]);
        drop(first);
        assert_eq!(cancelling.await, CancelOutcome::TooLate);
        let deletion = locks.begin(APP, &CancellationToken::new());
        deletion.builds_nothing();
        assert!(!deletion.cancel().is_cancelled());
        let mut cancelling = pin!(locks.cancel(APP, "ann"));
        assert!(cancelling.as_mut().now_or_never().is_none());
        assert!(second.cancel().is_cancelled(), "it came next");
    }

    #[tokio::test]
    async fn a_push_that_waits_for_the_lock_can_be_cancelled() {
        let locks = locks();
        let (progress, _lines) = Progress::channel();
        let _held = locks.lock(APP, &progress, &CancellationToken::new()).await.unwrap();
        let work = locks.begin(APP, &CancellationToken::new());
        let cancel = work.cancel().clone();
        let mut waiting = pin!(locks.lock(APP, &progress, &cancel));
        assert!(waiting.as_mut().now_or_never().is_none());
        let mut cancelling = pin!(locks.cancel(APP, "ann"));
        assert!(cancelling.as_mut().now_or_never().is_none());
        let locked = waiting.await;
        let error = work.end(locked).unwrap_err();
        assert_eq!(error.to_string(), "the build was cancelled by ann (builds:cancel)");
    }

    #[tokio::test]
    async fn a_client_that_disconnects_is_not_reported_as_a_caller_who_cancels() {
        let locks = locks();
        let client = CancellationToken::new();
        let work = locks.begin(APP, &client);
        client.cancel();
        assert!(work.cancel().is_cancelled());
        assert!(matches!(work.end::<()>(Err(DeployError::Cancelled)), Err(DeployError::Cancelled)));
    }
}
