//! The listening sockets: opened and closed with each route table, and handed over to a new router.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use rustix::io::Errno;
use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};
use tokio_util::sync::CancellationToken;

use super::{
    protocol::{Listener, Protocol},
    worker::{Accept, ThreadHandle},
};

/// Maximum number of connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// The listening sockets. All workers share the one descriptor of each.
pub(super) struct Listeners {
    open: HashMap<SocketAddr, OpenListener>,
    /// Maximum number of sockets.
    max: usize,
}

struct OpenListener {
    socket: Arc<TcpListener>,
    protocol: Protocol,
    closed: CancellationToken,
}

impl Listeners {
    pub(super) fn new(max: usize) -> Self {
        Self { open: HashMap::new(), max }
    }

    /// Opens new listeners and closes those that are not wanted any more; returns those that cannot be opened, and why.
    pub(super) async fn apply(&mut self, wanted: &[Listener], workers: &[ThreadHandle]) -> Vec<(SocketAddr, String)> {
        self.open.retain(|address, open| {
            let stays =
                wanted.iter().any(|listener| listener.address == *address && listener.protocol != Protocol::Unknown);
            if !stays {
                open.closed.cancel();
            }
            stays
        });
        let mut failed = Vec::new();
        for listener in wanted {
            match listener.protocol {
                Protocol::Http | Protocol::Tcp => {}
                Protocol::Unknown => {
                    let why = "the router does not know its protocol; upgrade the router".to_owned();
                    failed.push((listener.address, why));
                    continue;
                }
            }
            // The socket stays, so that no connection is refused while the protocol changes.
            if let Some(open) = self.open.get_mut(&listener.address) {
                open.protocol = listener.protocol;
                continue;
            }
            let bound = if self.open.len() < self.max { bind(listener.address) } else { Err(Errno::MFILE.into()) };
            match bound {
                Ok(socket) => self.adopt(listener.address, listener.protocol, socket, workers).await,
                Err(error) => failed.push((listener.address, self.reason(&error))),
            }
        }
        failed
    }

    /// Why a port cannot be opened.
    fn reason(&self, error: &io::Error) -> String {
        match Errno::from_io_error(error) {
            Some(Errno::MFILE | Errno::NFILE) => format!(
                "the router has no file descriptor left for it: {} ports are open, of {} that its limit of descriptors \
                 allows; start the router with a higher limit (LimitNOFILE, or ulimit -n)",
                self.open.len(),
                self.max
            ),
            Some(_) | None => error.to_string(),
        }
    }

    /// Accepts from a socket that is already listening.
    pub(super) async fn adopt(
        &mut self,
        address: SocketAddr,
        protocol: Protocol,
        socket: TcpListener,
        workers: &[ThreadHandle],
    ) {
        let (socket, closed) = (Arc::new(socket), CancellationToken::new());
        for worker in workers {
            let accept = Accept { address, socket: Arc::clone(&socket), closed: closed.clone() };
            let _ = worker.listeners.send(accept).await;
        }
        self.open.insert(address, OpenListener { socket, protocol, closed });
    }

    /// The sockets, for a new router.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (SocketAddr, Protocol, &Arc<TcpListener>)> {
        self.open.iter().map(|(address, open)| (*address, open.protocol, &open.socket))
    }

    /// Stops accepting. A new router that has the sockets, too, goes on accepting.
    pub(super) fn close(&mut self) {
        for open in self.open.values() {
            open.closed.cancel();
        }
        self.open.clear();
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(SocketProtocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
