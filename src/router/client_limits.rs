//! How many connections clients may have: in all, from one client, and to one app. While there is room, nobody is limited
//! further than that one client may have half, and one app three quarters: each may have more only as long as others could
//! still have as much. Whoever comes later finds room, however many have taken their share.
//!
//! When hardly any is left, idle connections are closed: of the clients that have most, those that have been idle for longest.

use std::{
    cmp::Reverse,
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::refusals::RefusalKind;
use crate::model::{AppName, ClientNetwork};

/// An app may have so many times the connections (or requests in flight) that are free.
pub(super) const APP_SHARE: usize = 3;

/// Below this part of the limit, idle connections are closed.
const LOW_PART: usize = 16;

/// This part of the limit is closed at a time.
const CLOSED_PART: usize = 32;

/// The time between two searches for idle connections.
const SEARCH_INTERVAL: Duration = Duration::from_millis(100);

/// In place of the time since which a connection is idle.
const BUSY: u64 = u64::MAX;

pub(super) struct ClientLimits {
    max: AtomicUsize,
    /// The addresses of proxies, each of which stands for many clients: they have no share of their own.
    trusted: Vec<IpAddr>,
    state: Mutex<LimitsState>,
    /// Times of connections are counted from here.
    epoch: Instant,
}

#[derive(Default)]
struct LimitsState {
    connections: HashMap<u64, Arc<Connection>>,
    next: u64,
    clients: HashMap<ClientNetwork, usize>,
    apps: HashMap<AppName, usize>,
    searched: Option<Instant>,
}

/// One connection, as other threads see it.
struct Connection {
    /// None for a trusted proxy.
    client: Option<ClientNetwork>,
    app: Option<AppName>,
    /// Milliseconds from the epoch, or `BUSY`.
    idle_since: AtomicU64,
    unwanted: AtomicBool,
    task: OnceLock<Waker>,
}

/// The place of a client's connection, released when this is dropped.
pub(super) struct ClientSlot {
    limits: Arc<ClientLimits>,
    id: u64,
    connection: Arc<Connection>,
}

/// Why a connection is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The router has as many connections as it may.
    Router { max: usize },
    /// The client has its share.
    Client { client: ClientNetwork, has: usize, max: usize },
    /// The app has its share.
    App { app: AppName, has: usize, max: usize },
}

impl Refusal {
    pub(super) fn kind(&self) -> RefusalKind {
        match self {
            Self::Router { .. } => RefusalKind::Router,
            Self::Client { .. } => RefusalKind::Client,
            Self::App { .. } => RefusalKind::App,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Router { max } => write!(f, "the router has {max} connections, which is its limit; try again later"),
            Self::Client { client, has, max } => write!(
                f,
                "the client {client} has {has} connections, which is its share of the router's {max}; close some, or \
                 try again later"
            ),
            Self::App { app, has, max } => write!(
                f,
                "the app {app} has {has} connections, which is its share of the router's {max}; try again later"
            ),
        }
    }
}

impl ClientLimits {
    pub(super) fn new(trusted: Vec<IpAddr>) -> Arc<Self> {
        let (max, state) = (AtomicUsize::new(usize::MAX), Mutex::default());
        Arc::new(Self { max, trusted, state, epoch: Instant::now() })
    }

    /// Sets the maximum number of connections; those that are open beyond it stay open.
    pub(super) fn set_max(&self, max: usize) {
        self.max.store(max, Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, LimitsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(BUSY - 1)
    }

    /// Admits a connection to the listener of an app; `app` is none if several apps share it.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr, app: Option<&AppName>) -> Result<ClientSlot, Refusal> {
        let max = self.max.load(Relaxed);
        let client = (!self.trusted.contains(&peer.to_canonical())).then(|| ClientNetwork::of(peer));
        let mut state = self.lock();
        let free = max.saturating_sub(state.connections.len());
        if free <= (max / LOW_PART).max(1) {
            state.close_idle((max / CLOSED_PART).max(1));
        }
        if free == 0 {
            return Err(Refusal::Router { max });
        }
        let of_client = client.and_then(|client| state.clients.get(&client).copied()).unwrap_or(0);
        if let Some(client) = client
            && of_client >= free
        {
            return Err(Refusal::Client { client, has: of_client, max });
        }
        if let Some(app) = app {
            let has = state.apps.get(app).copied().unwrap_or(0);
            if has >= free.saturating_mul(APP_SHARE) {
                return Err(Refusal::App { app: app.clone(), has, max });
            }
            state.apps.insert(app.clone(), has + 1);
        }
        if let Some(client) = client {
            state.clients.insert(client, of_client + 1);
        }
        let id = state.next;
        state.next += 1;
        let connection = Arc::new(Connection {
            client,
            app: app.cloned(),
            idle_since: AtomicU64::new(self.millis(Instant::now())),
            unwanted: AtomicBool::new(false),
            task: OnceLock::new(),
        });
        state.connections.insert(id, Arc::clone(&connection));
        Ok(ClientSlot { limits: Arc::clone(self), id, connection })
    }
}

impl LimitsState {
    /// Asks so many idle connections to close.
    fn close_idle(&mut self, count: usize) {
        if self.searched.is_some_and(|at| at.elapsed() < SEARCH_INTERVAL) {
            return;
        }
        self.searched = Some(Instant::now());
        let mut idle: HashMap<Option<ClientNetwork>, Vec<(u64, &Connection)>> = HashMap::new();
        for connection in self.connections.values() {
            let since = connection.idle_since.load(Relaxed);
            if since != BUSY && !connection.unwanted.load(Relaxed) {
                idle.entry(connection.client).or_default().push((since, connection));
            }
        }
        // With each, how many its client has if those before it are closed. Proxies come last.
        let mut candidates = Vec::new();
        for (client, mut connections) in idle {
            connections.sort_by_key(|(since, _)| *since);
            let has = client.and_then(|client| self.clients.get(&client).copied()).unwrap_or(0);
            let ranked = connections.into_iter().enumerate();
            candidates
                .extend(ranked.map(|(n, (since, connection))| (has.saturating_sub(n), Reverse(since), connection)));
        }
        candidates.sort_by_key(|(has, since, _)| Reverse((*has, *since)));
        for (_, _, connection) in candidates.into_iter().take(count) {
            connection.unwanted.store(true, Relaxed);
            if let Some(task) = connection.task.get() {
                task.wake_by_ref();
            }
        }
    }
}

impl ClientSlot {
    /// The connection has a request in flight, or carries bytes that are none.
    pub(super) fn set_busy(&self) {
        self.connection.idle_since.store(BUSY, Relaxed);
    }

    /// The connection has no request from now on.
    pub(super) fn set_idle(&self, now: Instant) {
        self.connection.idle_since.store(self.limits.millis(now), Relaxed);
    }

    /// Ready when the connection should be closed if it is idle. To be polled by the task that serves it alone.
    pub(super) fn poll_unwanted(&self, cx: &Context<'_>) -> Poll<()> {
        // A task's waker stays the same.
        self.connection.task.get_or_init(|| cx.waker().clone());
        if self.connection.unwanted.load(Relaxed) {
            self.connection.unwanted.store(false, Relaxed);
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for ClientSlot {
    fn drop(&mut self) {
        fn release<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
            if let Some(count) = counts.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(key);
                }
            }
        }
        let mut state = self.limits.lock();
        state.connections.remove(&self.id);
        if let Some(client) = &self.connection.client {
            release(&mut state.clients, client);
        }
        if let Some(app) = &self.connection.app {
            release(&mut state.apps, app);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(max: usize) -> Arc<ClientLimits> {
        let limits = ClientLimits::new(vec!["192.0.2.99".parse().unwrap()]);
        limits.set_max(max);
        limits
    }

    fn admit(limits: &Arc<ClientLimits>, last: u8, app: &str) -> Result<ClientSlot, Refusal> {
        limits.admit(IpAddr::from([192, 0, 2, last]), Some(&app.parse().unwrap()))
    }

    fn fill(limits: &Arc<ClientLimits>, client: u8, app: &str) -> Vec<ClientSlot> {
        std::iter::from_fn(|| admit(limits, client, app).ok()).collect()
    }

    #[test]
    fn a_client_has_at_most_half_and_always_leaves_room() {
        let limits = limits(100);
        let one = fill(&limits, 1, "a");
        assert_eq!(one.len(), 50);
        let refused = admit(&limits, 1, "b").err().unwrap().to_string();
        assert!(refused.starts_with("the client 192.0.2.1 has 50 connections, which is its share of"), "{refused}");
        let two = fill(&limits, 2, "b");
        assert_eq!(two.len(), 25);
        let ipv6 = limits.admit("2001:db8::1".parse().unwrap(), None).unwrap();
        assert!(limits.admit("2001:db8::2".parse().unwrap(), None).is_ok());
        drop((one, two, ipv6));
        let state = limits.lock();
        assert!(state.connections.is_empty() && state.clients.is_empty() && state.apps.is_empty());
    }

    #[test]
    fn an_app_has_at_most_three_quarters() {
        let limits = limits(100);
        let slots: Vec<_> = (0..=255).filter_map(|client| admit(&limits, client, "a").ok()).collect();
        assert_eq!(slots.len(), 75);
        let refused = admit(&limits, 200, "a").err().unwrap().to_string();
        assert!(refused.starts_with("the app a has 75 connections"), "{refused}");
        assert!(admit(&limits, 200, "b").is_ok());
    }

    #[test]
    fn a_trusted_proxy_is_limited_by_app_alone() {
        let limits = limits(100);
        let slots = fill(&limits, 99, "a");
        assert_eq!(slots.len(), 75);
    }

    #[test]
    fn the_idle_connections_of_the_client_that_has_most_are_closed_first() {
        let limits = limits(8);
        let unwanted = |slots: &[ClientSlot]| -> Vec<bool> {
            slots.iter().map(|slot| slot.connection.unwanted.load(Relaxed)).collect()
        };
        let most = fill(&limits, 1, "a");
        assert_eq!(most.len(), 4);
        most[0].set_busy();
        for (since, slot) in (0..).zip(&most).skip(1) {
            slot.connection.idle_since.store(since, Relaxed);
        }
        let mut others: Vec<_> =
            (2..=5).map(|client| admit(&limits, client, &format!("app-{client}")).unwrap()).collect();
        assert_eq!(unwanted(&most), [false, true, false, false], "the one that has been idle for longest");
        limits.lock().searched = None;
        assert_eq!(admit(&limits, 6, "b").err(), Some(Refusal::Router { max: 8 }));
        assert_eq!(unwanted(&most), [false, true, true, false]);
        assert_eq!(unwanted(&others), [false; 4]);
        // A connection that became busy meanwhile stays, and may be asked again.
        let cx = Context::from_waker(Waker::noop());
        assert!(most[1].poll_unwanted(&cx).is_ready() && most[1].poll_unwanted(&cx).is_pending());
        others.extend(most);
        for slot in &others {
            slot.set_busy();
            slot.connection.unwanted.store(false, Relaxed);
        }
        limits.lock().searched = None;
        assert!(admit(&limits, 6, "b").is_err());
        assert_eq!(unwanted(&others), [false; 8], "none is idle");
    }
}
