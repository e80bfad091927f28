//! Outages of the engine, as who watches its events sees them: what ended meanwhile is not to blame, and what could not be
//! removed can be afterwards.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::periodic::Waker;

/// The last outage, and who is woken when the engine responds again.
#[derive(Debug, Default)]
pub(super) struct Outages(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Since when the engine's events are watched without a gap; `None` before, and during an outage.
    watched_since: Option<Timestamp>,
    wakers: Vec<Waker>,
}

impl Outages {
    /// A waker that is woken from now on whenever an outage is over.
    pub(super) fn waker(&self) -> Waker {
        let waker = Waker::default();
        self.lock().wakers.push(waker.clone());
        waker
    }

    /// The events after this time are watched, unless others are already.
    pub(super) fn watch_from(&self, time: Timestamp) {
        self.lock().watched_since.get_or_insert(time);
    }

    /// The connection is lost.
    pub(super) fn begin(&self) {
        self.lock().watched_since = None;
    }

    /// The engine responds again.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.watched_since = Some(Timestamp::now());
        state.wakers.iter().for_each(Waker::wake);
    }

    /// Whether the events of this time were not watched.
    pub(super) fn unwatched(&self, time: Timestamp) -> bool {
        self.lock().watched_since.is_none_or(|since| time <= since)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;

    use super::*;

    #[test]
    fn what_happens_before_the_last_outage_is_over_is_not_watched() {
        let outages = Outages::default();
        let start = Timestamp::now() - 1.hour();
        assert!(outages.unwatched(start));
        outages.watch_from(start);
        outages.watch_from(Timestamp::now());
        assert!(outages.unwatched(start - 1.second()) && !outages.unwatched(start + 1.second()));
        outages.begin();
        assert!(outages.unwatched(Timestamp::now()));
        outages.end();
        assert!(outages.unwatched(start + 1.second()) && !outages.unwatched(Timestamp::now() + 1.second()));
    }
}
