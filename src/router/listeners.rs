//! The listening sockets: opened and closed with each route table, and handed over to a new router.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};
use tokio_util::sync::CancellationToken;

use super::{
    protocol::{Listener, Protocol},
    worker::{Accept, ThreadHandle},
};

/// Maximum number of connections that wait to be accepted.
const BACKLOG: i32 = 4096;

#[derive(Default)]
pub(super) struct Listeners {
    open: HashMap<SocketAddr, OpenListener>,
}

struct OpenListener {
    socket: TcpListener,
    protocol: Protocol,
    closed: CancellationToken,
}

impl Listeners {
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
            let socket = match self.open.get(&listener.address) {
                Some(open) if open.protocol == listener.protocol => continue,
                // The socket is kept, so that no connection is refused while the protocol changes.
                Some(open) => {
                    open.closed.cancel();
                    open.socket.try_clone()
                }
                None => bind(listener.address),
            };
            let opened = match socket {
                Ok(socket) => self.adopt(listener.address, listener.protocol, socket, workers).await,
                Err(error) => Err(error),
            };
            if let Err(error) = opened {
                failed.push((listener.address, error.to_string()));
            }
        }
        failed
    }

    /// Accepts from a socket that is already listening.
    pub(super) async fn adopt(
        &mut self,
        address: SocketAddr,
        protocol: Protocol,
        socket: TcpListener,
        workers: &[ThreadHandle],
    ) -> io::Result<()> {
        let closed = CancellationToken::new();
        for worker in workers {
            let accept = Accept { address, protocol, socket: socket.try_clone()?, closed: closed.clone() };
            let _ = worker.listeners.send(accept).await;
        }
        self.open.insert(address, OpenListener { socket, protocol, closed });
        Ok(())
    }

    /// The sockets, for a new router.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (SocketAddr, Protocol, &TcpListener)> {
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
