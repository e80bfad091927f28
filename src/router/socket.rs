//! TCP connections to instances, and the socket options of all TCP connections.

use std::{io, time::Duration};

use tokio::net::TcpStream;

use super::balancer::Claim;

/// How long an instance has to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Connects to the claimed instance.
pub(super) async fn connect(claim: &Claim) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(claim.address()))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    tune(&stream);
    Ok(stream)
}

/// Sets TCP_NODELAY, and keepalives, which detect a peer that disappeared.
pub(super) fn tune(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let alive = socket2::TcpKeepalive::new().with_time(Duration::from_mins(1)).with_interval(Duration::from_secs(15));
    // A socket that refuses these options carries bytes all the same.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&alive);
}
