//! Counts what the router refuses because of a limit, and logs each kind now and then, so that a flood does not fill the log.

use std::{
    fmt::Display,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The time between two lines of one kind.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What is refused, by the limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

#[derive(Default)]
pub(super) struct Refusals {
    counts: Mutex<[Count; 5]>,
}

#[derive(Default, Clone, Copy)]
struct Count {
    total: u64,
    logged: u64,
    logged_at: Option<Instant>,
}

impl Refusals {
    /// Counts a refusal; logs it with the reason, unless one of its kind was logged just now.
    pub(super) fn count(&self, kind: RefusalKind, reason: &dyn Display) {
        if let Some((since_last, total)) = self.add(kind, Instant::now()) {
            tracing::warn!(since_last, total, "refused: {reason}");
        }
    }

    /// Adds one. If it is to be logged: how many there were since the last that was, and in all.
    fn add(&self, kind: RefusalKind, now: Instant) -> Option<(u64, u64)> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = &mut counts[kind as usize];
        count.total += 1;
        if count.logged_at.is_some_and(|at| now - at < LOG_INTERVAL) {
            return None;
        }
        let since_last = count.total - count.logged;
        *count = Count { total: count.total, logged: count.total, logged_at: Some(now) };
        Some((since_last, count.total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_counted_and_few_are_logged() {
        let refusals = Refusals::default();
        let begin = Instant::now();
        let logged: Vec<_> = (0..100).filter_map(|_| refusals.add(RefusalKind::Client, begin)).collect();
        assert_eq!(logged, [(1, 1)]);
        assert_eq!(refusals.add(RefusalKind::App, begin), Some((1, 1)), "each kind is logged for itself");
        assert_eq!(refusals.add(RefusalKind::Client, begin + LOG_INTERVAL), Some((100, 101)));
    }
}
