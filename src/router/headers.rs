//! Headers that a proxy removes (RFC 9110, 7.6.1) and those that it sets.

use std::{cell::RefCell, net::IpAddr};

use hyper::{
    HeaderMap,
    header::{self, HeaderName, HeaderValue},
};
use rand::TryRng as _;

use super::transport::Transport;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Set by other proxies about their clients; removed when a client sets them itself.
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Removes the headers that concern one connection only.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // A client must not remove the headers that frame the message.
            .filter(|name| *name != header::CONTENT_LENGTH && *name != header::HOST)
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, header::TE, header::TRANSFER_ENCODING, header::UPGRADE] {
        headers.remove(name);
    }
}

/// The protocol of an upgrade request. Upgrades to HTTP/2 are left out: the requests on such a connection would bypass the
/// router's checks.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(header::UPGRADE)?;
    let connection = headers.get(header::CONNECTION)?.to_str().ok()?;
    let is_requested = connection.split(',').any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
    let protocols = protocol.to_str().ok()?;
    let is_http2 =
        protocols.split(',').any(|name| name.trim().get(..2).is_some_and(|h2| h2.eq_ignore_ascii_case("h2")));
    (is_requested && !is_http2).then(|| protocol.clone())
}

/// Whether the body's framing is unambiguous: one length, or `chunked` and nothing else.
pub(super) fn is_framed_well(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_none(),
        (Some(coding), None) => {
            coding.as_bytes().eq_ignore_ascii_case(b"chunked") && !headers.contains_key(header::CONTENT_LENGTH)
        }
        (Some(_), Some(_)) => false,
    }
}

/// Whether this is a valid `Host`, with or without a port (RFC 9110, 7.2).
pub(super) fn is_host(host: &[u8]) -> bool {
    !host.is_empty()
        && host.iter().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'_' | b'[' | b']' | b'~' | b'%')
        })
}

/// The client of a connection, as the forwarding headers describe it.
pub(super) struct Peer {
    address: HeaderValue,
    /// Port of the listener.
    port: HeaderValue,
    /// Scheme of the URL that the client has asked for.
    scheme: HeaderValue,
    /// Whether the client is a trusted proxy, whose forwarding headers are believed.
    trusted: bool,
}

impl Peer {
    /// The client of a connection; `trusted` are the addresses of proxies.
    pub(super) fn new(transport: &Transport, trusted: &[IpAddr]) -> Self {
        let peer = transport.peer.ip().to_canonical();
        Self {
            address: HeaderValue::try_from(peer.to_string()).unwrap_or(HeaderValue::from_static("unknown")),
            port: HeaderValue::from(transport.listener.port()),
            scheme: HeaderValue::from_static(if transport.encrypted { "https" } else { "http" }),
            trusted: trusted.contains(&peer),
        }
    }
}

/// Sets the forwarding headers and the request's id. Those that the client sent are replaced, unless it is trusted.
pub(super) fn set_forwarded(headers: &mut HeaderMap, peer: &Peer) {
    let host = headers.get(header::HOST).cloned();
    if !peer.trusted {
        for name in [FORWARDED, REAL_IP] {
            headers.remove(name);
        }
        headers.insert(FORWARDED_FOR, peer.address.clone());
        headers.insert(FORWARDED_PROTO, peer.scheme.clone());
        headers.insert(FORWARDED_PORT, peer.port.clone());
        match host {
            Some(host) => drop(headers.insert(FORWARDED_HOST, host)),
            None => drop(headers.remove(FORWARDED_HOST)),
        }
        headers.insert(REQUEST_ID, request_id());
        return;
    }
    let mut hops: Vec<u8> = Vec::new();
    for before in headers.get_all(FORWARDED_FOR) {
        hops.extend_from_slice(before.as_bytes());
        hops.extend_from_slice(b", ");
    }
    hops.extend_from_slice(peer.address.as_bytes());
    headers.insert(FORWARDED_FOR, HeaderValue::from_bytes(&hops).unwrap_or_else(|_| peer.address.clone()));
    headers.entry(FORWARDED_PROTO).or_insert_with(|| peer.scheme.clone());
    headers.entry(FORWARDED_PORT).or_insert_with(|| peer.port.clone());
    if let Some(host) = host {
        headers.entry(FORWARDED_HOST).or_insert(host);
    }
    if !headers.contains_key(REQUEST_ID) {
        headers.insert(REQUEST_ID, request_id());
    }
}

/// A random id: 128 bits as hex. The operating system is asked for a block of random bytes at a time.
fn request_id() -> HeaderValue {
    const BLOCK: usize = 4096;
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    thread_local! {
        static RANDOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let bytes: [u8; 16] = RANDOM.with_borrow_mut(|random| {
        if random.len() < 16 {
            random.resize(BLOCK, 0);
            if rand::rngs::SysRng.try_fill_bytes(random).is_err() {
                random.clear();
                return rand::random();
            }
        }
        let rest = random.len() - 16;
        let bytes = random[rest..].try_into().unwrap_or_default();
        random.truncate(rest);
        bytes
    });
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::transport::HttpVersion;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn hop_by_hop_headers_are_removed() {
        let mut headers = map(&[
            ("connection", "close, X-Secret, content-length"),
            ("x-secret", "1"),
            ("te", "trailers"),
            ("content-length", "3"),
            ("accept", "*/*"),
        ]);
        remove_hop_by_hop(&mut headers);
        let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["content-length", "accept"]);
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let transport = Transport {
            peer: "[::ffff:10.0.0.9]:40000".parse().unwrap(),
            listener: "[::]:5000".parse().unwrap(),
            encrypted: false,
            http: HttpVersion::Http1,
        };
        let peer = Peer::new(&transport, &["10.0.0.8".parse().unwrap()]);
        let pairs = [
            ("host", "a.org"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "mine"),
            ("x-real-ip", "1.1.1.1"),
        ];
        let mut headers = map(&pairs);
        set_forwarded(&mut headers, &peer);
        assert_eq!(headers["x-forwarded-for"], "10.0.0.9");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "a.org");
        assert_eq!(headers["x-request-id"].len(), 32);
        assert!(!headers.contains_key("x-real-ip"));
        let peer = Peer::new(&transport, &["10.0.0.9".parse().unwrap()]);
        let mut headers = map(&pairs);
        set_forwarded(&mut headers, &peer);
        assert_eq!(headers["x-forwarded-for"], "1.1.1.1, 10.0.0.9");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-port"], "5000");
        assert_eq!(headers["x-request-id"], "mine");

        let encrypted = Transport { encrypted: true, ..transport };
        let mut headers = map(&[("x-forwarded-proto", "http")]);
        set_forwarded(&mut headers, &Peer::new(&encrypted, &[]));
        assert_eq!(headers["x-forwarded-proto"], "https");
    }

    #[test]
    fn ambiguous_framing_and_upgrades_are_refused() {
        assert!(is_framed_well(&map(&[])));
        assert!(is_framed_well(&map(&[("content-length", "3")])));
        assert!(is_framed_well(&map(&[("transfer-encoding", "Chunked")])));
        assert!(!is_framed_well(&map(&[("transfer-encoding", "gzip, chunked")])));
        assert!(!is_framed_well(&map(&[("transfer-encoding", "chunked"), ("content-length", "3")])));
        let mut twice = map(&[("transfer-encoding", "identity")]);
        twice.append("transfer-encoding", HeaderValue::from_static("chunked"));
        assert!(!is_framed_well(&twice));
        assert!(upgrade(&map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")])).is_some());
        assert!(upgrade(&map(&[("connection", "keep-alive"), ("upgrade", "websocket")])).is_none());
        assert!(upgrade(&map(&[("connection", "upgrade"), ("upgrade", "H2C")])).is_none());
        assert!(is_host(b"a.example.org:80") && is_host(b"[::1]:80"));
        assert!(!is_host(b"") && !is_host(b"a b") && !is_host(b"u@a") && !is_host(b"a/b") && !is_host(b"a,b"));
    }
}
