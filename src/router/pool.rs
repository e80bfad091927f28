//! The upstreams of one worker: connections to instances, kept by the instance's identity and port, never by its address
//! alone.
//!
//! An instance may close a connection while the next request is on its way. A request that may be sent twice is then sent
//! again (`dispatch.rs`); any other one, a POST for example, would be lost, because nobody knows whether the instance has
//! acted on it (RFC 9110, 9.2.2). So these get only an upstream that is far from the end of the instance's idle timeout, as
//! `lifetime.rs` has learnt it, or else a new one.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio_util::task::TaskTracker;

use super::{
    balancer::Claim,
    headers::{MAX_HEAD_BYTES, MAX_HEAD_LINES},
    lifetime::{ConnectionLifetime, PortLifetime},
    socket,
    upload::RequestBody,
    upstream_stream::UpstreamStream,
};
use crate::model::InstanceId;

/// Maximum number of idle upstreams that one worker keeps to one port of an instance.
const MAX_IDLE: usize = 64;

/// How often expired upstreams are closed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// An HTTP connection to an instance.
pub(super) struct Upstream {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) lifetime: Rc<ConnectionLifetime>,
}

#[derive(Default)]
pub(super) struct Pool {
    ports: RefCell<HashMap<InstanceId, Vec<Port>>>,
    /// Number of idle upstreams. Of those that are found closed meanwhile it still counts some, until the next sweep.
    idle: Cell<usize>,
    tasks: TaskTracker,
}

/// The idle upstreams to one address of an instance; the one used last is used first.
struct Port {
    address: SocketAddr,
    idle: Vec<Upstream>,
    lifetime: Rc<PortLifetime>,
}

impl Pool {
    /// Takes an idle upstream that is still open, as far as the router knows. A request that may not be repeated gets one
    /// only if the instance is not about to close it.
    pub(super) fn take(&self, claim: &Claim, repeatable: bool) -> Option<Upstream> {
        let mut ports = self.ports.borrow_mut();
        let port = ports.get_mut(claim.instance())?.iter_mut().find(|port| port.address == claim.address())?;
        while let Some(upstream) = port.idle.pop() {
            self.idle.set(self.idle.get().saturating_sub(1));
            let idle = upstream.lifetime.idle();
            if upstream.sender.is_closed() || !upstream.lifetime.is_usable(idle) {
                upstream.lifetime.end_idle();
                continue;
            }
            if repeatable || upstream.lifetime.is_safe(idle) {
                upstream.lifetime.begin_use(idle);
                return Some(upstream);
            }
            // The others have been idle for longer.
            port.idle.push(upstream);
            self.idle.set(self.idle.get() + 1);
            return None;
        }
        None
    }

    /// Opens a new upstream.
    pub(super) async fn connect(self: &Rc<Self>, claim: &Claim) -> io::Result<Upstream> {
        let stream = UpstreamStream::new(socket::connect(claim).await?);
        let handshake = Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .max_header_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEAD_LINES)
            // A proxy removes these, or replaces them by a space (RFC 9112, 5.1 and 5.2).
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        let lifetime = ConnectionLifetime::new(self.port_lifetime(claim));
        let ended = Rc::clone(&lifetime);
        // The task ends with the connection, which ends when its last sender is dropped.
        self.tasks.spawn_local(async move {
            drop(connection.with_upgrades().await);
            ended.closed();
        });
        Ok(Upstream { sender, lifetime })
    }

    /// Keeps an upstream whose exchange is over, if its instance is still in the route table and fewer than `max` are kept.
    pub(super) fn put(&self, claim: &Claim, upstream: Upstream, max: usize) {
        if upstream.sender.is_closed() || !claim.is_listed() || self.idle.get() >= max {
            return;
        }
        self.with_port(claim, |port| {
            if port.idle.len() < MAX_IDLE && upstream.lifetime.begin_idle() {
                port.idle.push(upstream);
                self.idle.set(self.idle.get() + 1);
            }
        });
    }

    /// Whether there are idle upstreams to this port of the instance.
    pub(super) fn has_idle(&self, claim: &Claim) -> bool {
        self.with_port(claim, |port| !port.idle.is_empty())
    }

    /// Closes the idle upstreams to this port of the instance.
    pub(super) fn close_idle(&self, claim: &Claim) {
        self.with_port(claim, |port| {
            self.idle.set(self.idle.get().saturating_sub(port.idle.len()));
            for upstream in port.idle.drain(..) {
                upstream.lifetime.end_idle();
            }
        });
    }

    fn port_lifetime(&self, claim: &Claim) -> Rc<PortLifetime> {
        self.with_port(claim, |port| Rc::clone(&port.lifetime))
    }

    fn with_port<T>(&self, claim: &Claim, act: impl FnOnce(&mut Port) -> T) -> T {
        let mut ports = self.ports.borrow_mut();
        let ports = match ports.get_mut(claim.instance()) {
            Some(ports) => ports,
            None => ports.entry(claim.instance().clone()).or_default(),
        };
        let at = ports.iter().position(|port| port.address == claim.address()).unwrap_or_else(|| {
            ports.push(Port { address: claim.address(), idle: Vec::new(), lifetime: Rc::default() });
            ports.len() - 1
        });
        act(&mut ports[at])
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
        self.ports.borrow_mut().retain(|instance, ports| {
            for port in &mut *ports {
                port.lifetime.forget();
                port.idle.retain(|upstream| {
                    let idle = upstream.lifetime.idle();
                    let keep = !upstream.sender.is_closed() && upstream.lifetime.is_usable(idle);
                    if keep {
                        // It was open at the sweep before; whether it is at this moment, its task may not know yet.
                        upstream.lifetime.was_open(idle.saturating_sub(SWEEP_INTERVAL));
                    } else {
                        upstream.lifetime.end_idle();
                    }
                    keep
                });
            }
            is_listed(instance)
        });
        self.idle.set(self.ports.borrow().values().flatten().map(|port| port.idle.len()).sum());
    }
}
