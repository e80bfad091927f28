//! What is below HTTP and TCP mappings: how a client's connection has come to the router. A PROXY protocol header is read, and
//! TLS ended, here and nowhere else.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::socket;

/// A client's connection, as everything above the transport knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transport {
    /// Address of the client.
    pub(super) peer: SocketAddr,
    /// The listener that has accepted the connection; its routes apply.
    pub(super) listener: SocketAddr,
    /// Whether the client's bytes were encrypted on their way.
    pub(super) encrypted: bool,
    /// What the client speaks on it, if the listener's protocol is HTTP.
    pub(super) http: HttpVersion,
}

/// The version of HTTP that was negotiated, or is spoken without a negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HttpVersion {
    /// HTTP/1.1, and 1.0.
    Http1,
}

/// From an accepted socket to the stream of bytes above the transport. Called in the connection's own task.
pub(super) fn establish(stream: TcpStream, peer: SocketAddr, listener: SocketAddr) -> (TcpStream, Transport) {
    socket::tune(&stream);
    (stream, Transport { peer, listener, encrypted: false, http: HttpVersion::Http1 })
}
