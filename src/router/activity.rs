//! Whether a client's connection is idle.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{client_limits::ClientSlot, client_stream::RequestLine};

/// The requests in flight on a client's connection. It is polled now and then, which is cheaper than a timer for each
/// request.
pub(super) struct Activity {
    requests: Cell<usize>,
    /// When the last response had ended, or the connection began.
    since: Cell<Instant>,
    /// Whether the client may still be sending the body of a request that was answered.
    unread: Cell<bool>,
    line: RequestLine,
    slot: ClientSlot,
}

impl Activity {
    pub(super) fn new(line: RequestLine, slot: ClientSlot) -> Rc<Self> {
        Rc::new(Self { requests: Cell::new(0), since: Cell::new(Instant::now()), unread: Cell::new(false), line, slot })
    }

    /// Waits until the connection should make room for another. It may have a request then.
    pub(super) async fn unwanted(&self) {
        std::future::poll_fn(|cx| self.slot.poll_unwanted(cx)).await;
    }

    /// How long the connection has had no request.
    pub(super) fn idle(&self) -> Option<Duration> {
        (self.requests.get() == 0).then(|| self.since.get().elapsed())
    }

    pub(super) fn set_unread(&self, unread: bool) {
        self.unread.set(unread);
    }

    pub(super) fn is_unread(&self) -> bool {
        self.unread.get()
    }

    pub(super) fn begin(self: &Rc<Self>) -> Busy {
        self.requests.set(self.requests.get() + 1);
        self.slot.set_busy();
        Busy(Rc::clone(self))
    }
}

/// Counts as a request in flight until it is dropped.
pub(super) struct Busy(Rc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        let now = Instant::now();
        self.0.requests.set(self.0.requests.get() - 1);
        self.0.since.set(now);
        if self.0.requests.get() == 0 {
            self.0.slot.set_idle(now);
        }
        self.0.line.answered();
    }
}
