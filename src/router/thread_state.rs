//! What the connections of one worker thread share.

use std::{cell::Cell, rc::Rc, sync::Arc};

use tokio_util::task::TaskTracker;

use super::{pool::Pool, routes::RouterState};

pub(super) struct ThreadState {
    pub(super) shared: Arc<RouterState>,
    pub(super) pool: Rc<Pool>,
    pub(super) connections: TaskTracker,
    /// Whether each response tells its client to close the connection.
    pub(super) draining: Cell<bool>,
    /// Number of threads that share the descriptors.
    workers: usize,
}

impl ThreadState {
    pub(super) fn new(shared: Arc<RouterState>, workers: usize) -> Rc<Self> {
        let (pool, connections, draining) = (Rc::default(), TaskTracker::new(), Cell::new(false));
        Rc::new(Self { shared, pool, connections, draining, workers })
    }

    /// Maximum number of idle upstreams that this thread keeps.
    pub(super) fn max_idle_upstreams(&self) -> usize {
        self.shared.idle_upstreams() / self.workers
    }
}
