//! How long an instance keeps connections on which nothing is sent: what it says, and what one worker has seen. Few servers
//! say it, and one that closes a connection at the moment at which a request is sent loses that request.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

/// How long an upstream may be idle if nothing is known of the instance: shorter than the idle timeout of common servers.
const MAX_IDLE: Duration = Duration::from_secs(4);

/// How long before the end that an instance has announced an upstream is no longer used.
const MARGIN: Duration = Duration::from_secs(1);

/// How long it counts that an instance closed a connection.
const MEMORY: Duration = Duration::from_mins(1);

/// What one worker has seen of the idle connections to one port of an instance.
pub(super) struct PortLifetime {
    /// The longest time after which one was still open.
    open_after: Cell<Duration>,
    /// The shortest time after which the instance closed one without having announced it, and when that was.
    closed_after: Cell<Duration>,
    closed_at: Cell<Option<Instant>>,
}

impl Default for PortLifetime {
    fn default() -> Self {
        Self {
            open_after: Cell::new(Duration::ZERO),
            closed_after: Cell::new(Duration::MAX),
            closed_at: Cell::new(None),
        }
    }
}

impl PortLifetime {
    fn was_open(&self, idle: Duration) {
        self.open_after.set(self.open_after.get().max(idle));
    }

    fn was_closed(&self, idle: Duration) {
        self.closed_after.set(self.closed_after.get().min(idle));
        self.closed_at.set(Some(Instant::now()));
    }

    /// Forgets what was long ago: that an instance closed a connection early, at a restart of a worker process for example,
    /// says nothing about its ordinary timeout.
    pub(super) fn forget(&self) {
        if self.closed_at.get().is_some_and(|at| at.elapsed() > MEMORY) {
            self.closed_at.set(None);
            self.closed_after.set(Duration::MAX);
        }
    }
}

/// One connection's part of it.
pub(super) struct ConnectionLifetime {
    port: Rc<PortLifetime>,
    /// Since when the connection has been idle, if it is.
    idle_since: Cell<Option<Instant>>,
    /// How long it was idle before the request that is sent on it.
    idle_before: Cell<Duration>,
    /// How long it may be idle by the instance's last `Keep-Alive` header, with the margin.
    announced: Cell<Option<Duration>>,
}

impl ConnectionLifetime {
    pub(super) fn new(port: Rc<PortLifetime>) -> Rc<Self> {
        Rc::new(Self { port, idle_since: Cell::new(None), idle_before: Cell::default(), announced: Cell::new(None) })
    }

    /// Takes what a response's `Keep-Alive` header says.
    pub(super) fn announce(&self, timeout: Option<Duration>) {
        self.announced.set(timeout.map(|timeout| timeout.saturating_sub(MARGIN).max(timeout / 2)));
    }

    /// How long the connection has been idle.
    pub(super) fn idle(&self) -> Duration {
        self.idle_since.get().map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether a request may be sent after this time that is repeated if the connection turns out to be closed.
    pub(super) fn is_usable(&self, idle: Duration) -> bool {
        idle < MAX_IDLE.min(self.announced.get().unwrap_or(MAX_IDLE)).min(self.port.closed_after.get() / 2)
    }

    /// Whether a request may be sent after this time that must not be repeated: connections have been open for at least
    /// twice as long, or for longer by the instance's own words.
    pub(super) fn is_safe(&self, idle: Duration) -> bool {
        idle < (self.port.open_after.get() / 2).max(self.announced.get().unwrap_or_default())
    }

    /// The exchange is over. Returns whether the connection may be used again.
    pub(super) fn begin_idle(&self) -> bool {
        let usable = self.is_usable(Duration::ZERO);
        if usable {
            self.idle_since.set(Some(Instant::now()));
        }
        usable
    }

    /// The router uses the connection that was idle for this time.
    pub(super) fn begin_use(&self, idle: Duration) {
        self.idle_since.set(None);
        self.idle_before.set(idle);
    }

    /// A response came on the connection: it was open, however long it had been idle.
    pub(super) fn answered(&self) {
        self.port.was_open(self.idle_before.get());
    }

    /// The connection has been seen open after this time.
    pub(super) fn was_open(&self, idle: Duration) {
        self.port.was_open(idle);
    }

    /// The router closes the idle connection.
    pub(super) fn end_idle(&self) {
        self.idle_since.set(None);
    }

    /// The connection has ended; if the router did not end it, the instance did.
    pub(super) fn closed(&self) {
        if let Some(since) = self.idle_since.take() {
            self.port.was_closed(since.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_must_not_be_repeated_stays_far_from_the_end() {
        let ms = Duration::from_millis;
        let port = Rc::new(PortLifetime::default());
        let one = ConnectionLifetime::new(Rc::clone(&port));
        assert!(one.is_usable(ms(3900)) && !one.is_usable(ms(4000)));
        assert!(!one.is_safe(ms(0)), "nothing is known");
        one.was_open(ms(1000));
        one.was_open(ms(200));
        assert!(one.is_safe(ms(499)) && !one.is_safe(ms(500)));
        one.begin_use(ms(1600));
        one.answered();
        assert!(one.is_safe(ms(799)));

        one.announce(Some(Duration::from_secs(3)));
        assert!(one.is_safe(ms(1999)) && !one.is_safe(ms(2000)) && !one.is_usable(ms(2000)));
        one.announce(Some(Duration::from_secs(1)));
        assert!(one.is_usable(ms(499)) && !one.is_usable(ms(500)));
        one.announce(Some(Duration::ZERO));
        assert!(!one.begin_idle());
        one.closed();
        assert_eq!(port.closed_after.get(), Duration::MAX, "the router closed it");
        one.announce(None);

        port.was_closed(ms(2000));
        assert!(one.is_usable(ms(999)) && !one.is_usable(ms(1000)));
        port.forget();
        assert!(!one.is_usable(ms(1000)), "it was just now");
        port.closed_at.set(Instant::now().checked_sub(MEMORY + ms(1)));
        port.forget();
        assert!(one.is_usable(ms(1000)));
    }

    #[test]
    fn only_what_the_instance_closes_counts() {
        let port = Rc::new(PortLifetime::default());
        let one = ConnectionLifetime::new(Rc::clone(&port));
        one.closed();
        assert!(one.begin_idle());
        one.end_idle();
        one.closed();
        assert_eq!(port.closed_after.get(), Duration::MAX);
        assert!(one.begin_idle());
        one.closed();
        assert!(port.closed_after.get() < Duration::MAX);
    }
}
