//! The workers of all apps, each started when it is first needed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as StdMutex, PoisonError},
};

use tokio_util::task::TaskTracker;

use super::{shared::Shared, waiting::WorkerHandle, worker};
use crate::store::AppId;

/// The workers of all apps; cheap to clone.
#[derive(Clone)]
pub(super) struct Workers {
    shared: Arc<Shared>,
    tracker: TaskTracker,
    handles: Arc<Handles>,
}

type Handles = StdMutex<HashMap<AppId, Arc<WorkerHandle>>>;

/// Removes the handle of a worker that has ended, even by a panic: the next caller then starts a new worker.
struct RemoveOnDrop {
    handles: Arc<Handles>,
    app: AppId,
}

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.app);
    }
}

impl Workers {
    pub(super) fn new(shared: Arc<Shared>, tracker: TaskTracker) -> Self {
        Self { shared, tracker, handles: Arc::default() }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The handle of an app's worker, which is started if it does not run.
    pub(super) fn handle(&self, app: AppId) -> Arc<WorkerHandle> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = handles.entry(app).or_insert_with(|| {
            let handle = Arc::new(WorkerHandle::new());
            let worker = worker::run(Arc::clone(&self.shared), app, Arc::clone(&handle));
            let remove = RemoveOnDrop { handles: Arc::clone(&self.handles), app };
            self.tracker.spawn(async move {
                let _remove = remove;
                worker.await;
            });
            handle
        });
        Arc::clone(handle)
    }
}
