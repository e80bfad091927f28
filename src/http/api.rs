//! What all requests share.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{limits::Limits, routes::Routes, running::Background, spool::Spool, writers::Writers};
use crate::{
    config::Config,
    operations::{self, Operations},
    store::Store,
};

/// The HTTP API; cheap to clone.
#[derive(Clone)]
pub struct Api(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) max_connections: usize,
    pub(super) store: Store,
    pub(super) operations: Operations,
    pub(super) routes: Routes,
    pub(super) limits: Limits,
    pub(super) background: Background,
    pub(super) writers: Writers,
    pub(super) spool: Spool,
    /// What goes on when the client has left.
    pub(super) tracker: TaskTracker,
    /// Cancels what still runs when the server has waited long enough.
    pub(super) abort: CancellationToken,
}

impl Api {
    /// The API of these operations. What clients ask runs on `tracker`, until `abort`.
    ///
    /// # Errors
    ///
    /// If the folder of uploads cannot be prepared, or the database fails.
    pub async fn new(
        config: &Config,
        store: Store,
        operations: Operations,
        tracker: TaskTracker,
        abort: CancellationToken,
    ) -> operations::Result<Self> {
        Ok(Self(Arc::new(Shared {
            max_connections: config.http.max_connections,
            spool: Spool::open(config).await?,
            background: Background::new(&store).await?,
            limits: Limits::new(&config.http),
            routes: Routes::new(),
            writers: Writers::default(),
            store,
            operations,
            tracker,
            abort,
        })))
    }
}
