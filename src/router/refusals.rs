//! What the router refuses because of a limit: each kind is logged now and then, so that a flood does not fill the log.

use std::{fmt::Display, time::Duration};

use crate::log_limit::LogLimit;

/// The time between two lines of one kind.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What is refused, by the limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RefusalKind {
    /// A connection: the router has as many as it may.
    Router,
    /// A connection: its client has its share.
    Client,
    /// A connection: its app has its share.
    App,
    /// A request or TCP connection: its app has its share of those in flight.
    InFlight,
    /// A connection: the kernel gives the router no socket for it.
    NoSocket,
}

/// Logs refusals.
pub(super) struct Refusals(LogLimit<RefusalKind>);

impl Default for Refusals {
    fn default() -> Self {
        Self(LogLimit::new(1, LOG_INTERVAL))
    }
}

impl Refusals {
    /// Logs a refusal with the reason, unless one of its kind was logged just now.
    pub(super) fn log(&self, kind: RefusalKind, reason: &dyn Display) {
        if let Some(suppressed) = self.0.admit(kind) {
            tracing::warn!(suppressed, "refused: {reason}");
        }
    }
}
