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
}

impl ThreadState {
    pub(super) fn new(shared: Arc<RouterState>) -> Rc<Self> {
        let (pool, connections, draining) = (Rc::default(), TaskTracker::new(), Cell::new(false));
        Rc::new(Self { shared, pool, connections, draining })
    }
}
