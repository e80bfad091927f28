//! How long a client may do nothing.

use std::time::Duration;

use crate::config::Router;

/// Time-outs of clients' HTTP connections. None is met by a body that moves, however slowly.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// For the whole head of a request, from its first byte; and from the begin of the connection to the first byte.
    pub(super) head: Duration,
    /// Until the next bytes of a request's body, while an instance waits for them.
    pub(super) body: Duration,
    /// Until the client takes the next bytes of a response.
    pub(super) send: Duration,
    /// Between two requests.
    pub(super) idle: Duration,
}

impl Timeouts {
    pub(super) fn new(config: &Router) -> Self {
        Self {
            head: Duration::from_secs(config.head_seconds),
            body: Duration::from_secs(config.body_seconds),
            send: Duration::from_secs(config.send_seconds),
            idle: Duration::from_secs(config.idle_seconds),
        }
    }
}
