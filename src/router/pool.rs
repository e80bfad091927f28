//! The upstreams of one worker: connections to instances, kept by the instance's identity and port, never by its address
//! alone.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio_util::task::TaskTracker;

use super::{balancer::Claim, socket, upload::RequestBody};
use crate::model::InstanceId;

/// Maximum number of idle upstreams that one worker keeps to one port of an instance.
const MAX_IDLE: usize = 64;

/// How long an upstream may be idle. This is shorter than the idle timeout of common servers, so that the router is the
/// side that closes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// How often expired upstreams are closed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// An HTTP connection to an instance.
pub(super) type Upstream = SendRequest<RequestBody>;

#[derive(Default)]
pub(super) struct Pool {
    idle: RefCell<HashMap<InstanceId, Vec<IdleUpstreams>>>,
    tasks: TaskTracker,
}

/// The idle upstreams to one address of an instance; the one used last is used first.
struct IdleUpstreams {
    address: SocketAddr,
    upstreams: Vec<(Upstream, Instant)>,
}

impl Pool {
    /// Takes an idle upstream that is still open, as far as the router knows.
    pub(super) fn take(&self, claim: &Claim) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(claim.instance())?.iter_mut().find(|kept| kept.address == claim.address())?;
        while let Some((upstream, since)) = kept.upstreams.pop() {
            if !upstream.is_closed() && since.elapsed() < IDLE_TIMEOUT {
                return Some(upstream);
            }
        }
        None
    }

    /// Opens a new upstream.
    pub(super) async fn connect(self: &Rc<Self>, claim: &Claim) -> io::Result<Upstream> {
        let stream = socket::connect(claim).await?;
        let handshake = Builder::new().max_buf_size(256 * 1024).handshake(TokioIo::new(stream)).await;
        let (upstream, connection) = handshake.map_err(io::Error::other)?;
        // The task ends with the connection, which ends when its last sender is dropped.
        self.tasks.spawn_local(async move { drop(connection.with_upgrades().await) });
        Ok(upstream)
    }

    /// Keeps an upstream whose exchange is over, if its instance is still in the route table.
    pub(super) fn put(&self, claim: &Claim, upstream: Upstream) {
        if upstream.is_closed() || !claim.is_listed() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let addresses = match idle.get_mut(claim.instance()) {
            Some(addresses) => addresses,
            None => idle.entry(claim.instance().clone()).or_default(),
        };
        let kept = if let Some(at) = addresses.iter().position(|kept| kept.address == claim.address()) {
            &mut addresses[at].upstreams
        } else {
            addresses.push(IdleUpstreams { address: claim.address(), upstreams: Vec::new() });
            let last = addresses.len() - 1;
            &mut addresses[last].upstreams
        };
        if kept.len() < MAX_IDLE {
            kept.push((upstream, Instant::now()));
        }
    }

    /// Periodically closes the upstreams that were idle for too long, and those to instances that are not listed any
    /// more. Never returns.
    pub(super) async fn sweep_periodically(&self, is_listed: impl Fn(&InstanceId) -> bool) {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            ticks.tick().await;
            self.sweep(&is_listed);
        }
    }

    fn sweep(&self, is_listed: impl Fn(&InstanceId) -> bool) {
        self.idle.borrow_mut().retain(|instance, addresses| {
            addresses.retain_mut(|kept| {
                kept.upstreams.retain(|(upstream, since)| !upstream.is_closed() && since.elapsed() < IDLE_TIMEOUT);
                !kept.upstreams.is_empty()
            });
            !addresses.is_empty() && is_listed(instance)
        });
    }
}
