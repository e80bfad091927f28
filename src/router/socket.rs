//! TCP sockets: how they are accepted from clients and connected to instances, their options, and what the kernel knows of
//! them.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream as StdStream},
    sync::Arc,
    time::Duration,
};

use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::TcpStream,
};

use super::balancer::Claim;

/// How long an instance has to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Waits for connections by this thread's runtime. Several runtimes may wait by one descriptor.
pub(super) fn watch(listener: Arc<TcpListener>) -> io::Result<AsyncFd<Arc<TcpListener>>> {
    #[expect(unsafe_code, reason = "a TcpListener owns its descriptor, and the Arc keeps it open")]
    let watched = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) };
    Ok(watched?)
}

/// Accepts a connection. It is not registered with a runtime, so that one that is refused costs little.
pub(super) fn accept(listener: &TcpListener) -> io::Result<(StdStream, SocketAddr)> {
    let (socket, peer) = acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let peer = peer.ok_or(io::ErrorKind::AddrNotAvailable)?.try_into()?;
    Ok((StdStream::from(socket), peer))
}

/// What a time-out must know of a client's stream besides its bytes.
pub(super) trait ClientSocket {
    /// The number of bytes that the client's machine has not acknowledged yet, if that is known. It falls while the client
    /// reads, also if too little to write more.
    fn unacknowledged(&self) -> Option<u32>;

    /// What was written and not sent is dropped when the stream is closed, so that the kernel keeps nothing of it.
    fn discard_unsent(&self);
}

impl ClientSocket for TcpStream {
    fn unacknowledged(&self) -> Option<u32> {
        /// The number of the request SIOCOUTQ (tcp(7)), the same on all architectures but a few old ones.
        const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;
        #[expect(unsafe_code, reason = "rustix has no safe function for SIOCOUTQ, which writes one int")]
        let queued = unsafe { rustix::ioctl::ioctl(self, rustix::ioctl::Getter::<SIOCOUTQ, u32>::new()) };
        queued.ok()
    }

    fn discard_unsent(&self) {
        // Without it the kernel sends on for a while.
        let _ = self.set_zero_linger();
    }
}

/// Maximum number of bytes that the kernel takes for a connection and has not sent, so that a peer that reads nothing costs
/// little memory, which all connections of the machine share.
const MAX_UNSENT_BYTES: u32 = 256 * 1024;

/// Connects to the claimed instance.
pub(super) async fn connect(claim: &Claim) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(claim.address()))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    tune(&stream);
    Ok(stream)
}

/// Sets TCP_NODELAY, keepalives, which detect a peer that disappeared, and a limit of what waits to be sent.
pub(super) fn tune(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let alive = socket2::TcpKeepalive::new().with_time(Duration::from_mins(1)).with_interval(Duration::from_secs(15));
    // A socket that refuses these options carries bytes all the same.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&alive);
    let _ = socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES);
}
