//! What the task of a connection, its handler and its running commands share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::flow::Flow;

/// The state of one connection.
pub(super) struct ConnectionState {
    pub(super) flow: Arc<Flow>,
    /// Cancelled when the client is authenticated.
    pub(super) authenticated: CancellationToken,
    /// Number of running commands.
    pub(super) running: watch::Sender<usize>,
    pub(super) opened: Instant,
    /// Milliseconds from `opened` to the last traffic.
    active_at: AtomicU64,
}

impl ConnectionState {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            flow: Arc::default(),
            authenticated: CancellationToken::new(),
            running: watch::Sender::new(0),
            opened: Instant::now(),
            active_at: AtomicU64::new(0),
        })
    }

    /// Records traffic.
    pub(super) fn touch(&self) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active_at.store(now, Ordering::Relaxed);
    }

    /// When there was traffic last.
    pub(super) fn active_at(&self) -> Instant {
        self.opened + Duration::from_millis(self.active_at.load(Ordering::Relaxed))
    }
}

/// Counts a command as running until it is dropped.
pub(super) struct Running(Arc<ConnectionState>);

impl Running {
    pub(super) fn new(connection: Arc<ConnectionState>) -> Self {
        connection.running.send_modify(|running| *running += 1);
        Self(connection)
    }

    pub(super) fn connection(&self) -> &ConnectionState {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}
