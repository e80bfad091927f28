//! Connections of one worker to instances, kept by the instance's identity and port, never by its address alone.

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
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use super::{balancer::Claim, body::RequestBody};
use crate::model::InstanceId;

/// Idle connections that one worker keeps to one port of an instance.
const MOST_IDLE: usize = 64;

/// How long a connection may idle: below what servers commonly allow, so that ours ends first.
const IDLE: Duration = Duration::from_secs(4);

/// How long an instance has to accept.
const CONNECT: Duration = Duration::from_secs(3);

pub(super) type Connection = SendRequest<RequestBody>;

#[derive(Default)]
pub(super) struct Pool {
    idle: RefCell<HashMap<InstanceId, Vec<Idle>>>,
    pub(super) tasks: TaskTracker,
}

/// The idle connections to one address of an instance; the last used is used first.
struct Idle {
    address: SocketAddr,
    connections: Vec<(Connection, Instant)>,
}

impl Pool {
    /// A connection that was used before and is open still, as far as we know.
    pub(super) fn take(&self, claim: &Claim) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(claim.instance())?.iter_mut().find(|kept| kept.address == claim.address())?;
        while let Some((connection, since)) = kept.connections.pop() {
            if !connection.is_closed() && since.elapsed() < IDLE {
                return Some(connection);
            }
        }
        None
    }

    /// A new connection.
    pub(super) async fn connect(self: &Rc<Self>, claim: &Claim) -> io::Result<Connection> {
        let stream = reach(claim).await?;
        let handshake = Builder::new().max_buf_size(256 * 1024).handshake(TokioIo::new(stream)).await;
        let (connection, io) = handshake.map_err(io::Error::other)?;
        // It ends with the connection, which ends when its last sender is dropped.
        self.tasks.spawn_local(async move { drop(io.with_upgrades().await) });
        Ok(connection)
    }

    /// Keeps a connection whose exchange is over, while its instance is in the table.
    pub(super) fn put(&self, claim: &Claim, connection: Connection) {
        if connection.is_closed() || !claim.is_listed() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let addresses = match idle.get_mut(claim.instance()) {
            Some(addresses) => addresses,
            None => idle.entry(claim.instance().clone()).or_default(),
        };
        let kept = if let Some(at) = addresses.iter().position(|kept| kept.address == claim.address()) {
            &mut addresses[at].connections
        } else {
            addresses.push(Idle { address: claim.address(), connections: Vec::new() });
            let last = addresses.len() - 1;
            &mut addresses[last].connections
        };
        if kept.len() < MOST_IDLE {
            kept.push((connection, Instant::now()));
        }
    }

    /// Closes what has idled for too long, and whatever leads to an instance that is gone.
    pub(super) fn sweep(&self, is_listed: impl Fn(&InstanceId) -> bool) {
        self.idle.borrow_mut().retain(|instance, addresses| {
            addresses.retain_mut(|kept| {
                kept.connections.retain(|(connection, since)| !connection.is_closed() && since.elapsed() < IDLE);
                !kept.connections.is_empty()
            });
            !addresses.is_empty() && is_listed(instance)
        });
    }
}

/// Connects to an instance.
pub(super) async fn reach(claim: &Claim) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(CONNECT, TcpStream::connect(claim.address()))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    tune(&stream);
    Ok(stream)
}

/// No delay, and an end for connections whose other side went without a word.
pub(super) fn tune(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let alive = socket2::TcpKeepalive::new().with_time(Duration::from_mins(1)).with_interval(Duration::from_secs(15));
    // A socket that refuses these carries bytes all the same.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&alive);
}
