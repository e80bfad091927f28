//! Headers that a proxy removes (RFC 9110, 7.6.1) and those that it sets.

use std::{cell::RefCell, net::IpAddr, time::Duration};

use hyper::{
    HeaderMap, Version,
    header::{self, HeaderName, HeaderValue},
};
use rand::TryRng as _;

use super::transport::Transport;

/// Maximum size of the head of a request or response, bytes.
pub(super) const MAX_HEAD_BYTES: usize = 256 * 1024;

/// Maximum number of header lines of a head. hyper makes two tables of so many times 32 bytes for each head that it parses:
/// larger ones cost noticeably more, since the allocator does not keep blocks of more than 64 KiB at hand.
pub(super) const MAX_HEAD_LINES: usize = 2000;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Headers of which no other spelling passes: those of proxies about their clients (beside all of `x-forwarded-*`), those
/// that frame a message or concern a connection, and the two that gunicorn takes for variables (`SCRIPT_NAME`, `PATH_INFO`).
const RESERVED: [&str; 8] = [
    "x-real-ip",
    "x-request-id",
    "content-length",
    "transfer-encoding",
    "keep-alive",
    "proxy-connection",
    "script-name",
    "path-info",
];

/// The elements of a list that may be spread over several header lines; empty elements are skipped (RFC 9110, 5.3 and
/// 5.6.1).
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    lines
        .flat_map(|line| line.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// Whether a list has this element, in any case of its letters.
fn has_element(headers: &HeaderMap, name: &HeaderName, element: &[u8]) -> bool {
    elements(headers, name).any(|one| one.eq_ignore_ascii_case(element))
}

/// Removes the headers that concern one connection only.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // One look at the names is cheaper than to look up each of these.
    let is_own = |name: &HeaderName| {
        matches!(*name, header::CONNECTION | header::TE | header::TRANSFER_ENCODING | header::UPGRADE)
            || *name == KEEP_ALIVE
            || *name == PROXY_CONNECTION
    };
    if !headers.keys().any(is_own) {
        return;
    }
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = elements(headers, &header::CONNECTION)
            .filter_map(|name| HeaderName::from_bytes(name).ok())
            // A client must not remove the headers that frame the message, or say where it goes.
            .filter(|name| !matches!(*name, header::CONTENT_LENGTH | header::HOST))
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

/// The protocols of an upgrade request, as one list. Upgrades to HTTP/2 are left out: the requests on such a connection
/// would bypass the router's checks.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    if !headers.contains_key(header::UPGRADE) || !has_element(headers, &header::CONNECTION, b"upgrade") {
        return None;
    }
    let protocols: Vec<&[u8]> = elements(headers, &header::UPGRADE).collect();
    let is_http2 = |name: &&[u8]| name.get(..2).is_some_and(|h2| h2.eq_ignore_ascii_case(b"h2"));
    if protocols.is_empty() || protocols.iter().any(is_http2) {
        return None;
    }
    HeaderValue::from_bytes(&protocols.join(&b", "[..])).ok()
}

/// Whether the client takes trailers (RFC 9110, 10.1.4).
pub(super) fn takes_trailers(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TE)
        && has_element(headers, &header::TE, b"trailers")
        && has_element(headers, &header::CONNECTION, b"te")
}

/// How long an instance says that it keeps the connection when nothing is sent on it: `Keep-Alive: timeout=5, max=100`
/// (RFC 2068, 19.7.1.1). Zero if it takes no more requests on it (RFC 9112, 9.3).
pub(super) fn keep_alive(version: Version, headers: &HeaderMap) -> Option<Duration> {
    let (mut has_connection, mut has_keep_alive) = (false, false);
    for name in headers.keys() {
        has_connection |= *name == header::CONNECTION;
        has_keep_alive |= *name == KEEP_ALIVE;
    }
    let has_option = |option: &[u8]| has_connection && has_element(headers, &header::CONNECTION, option);
    if has_option(b"close") || (version == Version::HTTP_10 && !has_option(b"keep-alive")) {
        return Some(Duration::ZERO);
    }
    if !has_keep_alive {
        return None;
    }
    let mut timeout = None;
    for element in elements(headers, &KEEP_ALIVE) {
        let Some((name, value)) = str::from_utf8(element).ok().and_then(|element| element.split_once('=')) else {
            continue;
        };
        let Ok(value) = value.trim().trim_matches('"').parse::<u32>() else { continue };
        match name.trim().to_ascii_lowercase().as_str() {
            "timeout" => timeout = Some(Duration::from_secs(value.into())),
            "max" if value == 0 => return Some(Duration::ZERO),
            _ => {}
        }
    }
    timeout
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

/// Leaves at most one `Content-Length` on a response, and none beside `Transfer-Encoding` (RFC 9112, 6.2): an instance may have
/// repeated it, in lines of its own or as a list. Returns false if the content has a coding that the router does not undo.
pub(super) fn simplify_framing(headers: &mut HeaderMap) -> bool {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
        // Frameworks add a second `chunked` to content that is chunked once.
        return elements(headers, &header::TRANSFER_ENCODING)
            .all(|coding| coding.eq_ignore_ascii_case(b"chunked") || coding.eq_ignore_ascii_case(b"identity"));
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return true };
    if lengths.next().is_some() || !first.as_bytes().iter().all(u8::is_ascii_digit) {
        let first = elements(headers, &header::CONTENT_LENGTH).next().map(HeaderValue::from_bytes);
        match first {
            Some(Ok(length)) => drop(headers.insert(header::CONTENT_LENGTH, length)),
            Some(Err(_)) | None => drop(headers.remove(header::CONTENT_LENGTH)),
        }
    }
    true
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

/// Removes what an app could take for a statement of the router.
///
/// CGI, WSGI, PHP and Rack turn a header's name into a variable, in which `X_Forwarded_For` and `X.Forwarded.For` are the same
/// as `X-Forwarded-For`: names that only differ from the router's own, or from those that frame a message, in such
/// characters are removed. So is `Proxy`, whose variable `HTTP_PROXY` is also the address of a proxy. Forwarding headers
/// with their ordinary spelling are removed too, unless the client is trusted.
fn remove_imitations(headers: &mut HeaderMap, trusted: bool) {
    let is_imitation = |name: &HeaderName| {
        let name = name.as_str().as_bytes();
        let is_plain = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
        if is_plain {
            return match name[0] {
                b'x' => !trusted && (name.starts_with(b"x-forwarded-") || name == b"x-real-ip"),
                b'f' => !trusted && name == b"forwarded",
                b'p' => name == b"proxy",
                _ => false,
            };
        }
        let folded: Vec<u8> = name.iter().map(|byte| if byte.is_ascii_alphanumeric() { *byte } else { b'-' }).collect();
        folded.starts_with(b"x-forwarded-") || RESERVED.iter().any(|reserved| folded == reserved.as_bytes())
    };
    let imitations: Vec<HeaderName> = headers.keys().filter(|name| is_imitation(name)).cloned().collect();
    for name in imitations {
        headers.remove(name);
    }
}

/// Removes from a request's trailers what must not reach an instance as a header either: it may merge them with its headers
/// (RFC 9110, 6.5.1).
pub(super) fn clean_trailers(trailers: &mut HeaderMap) {
    remove_imitations(trailers, false);
    trailers.remove(REQUEST_ID);
}

/// Sets the forwarding headers and the request's id. Those that the client sent are replaced, unless it is trusted.
pub(super) fn set_forwarded(headers: &mut HeaderMap, peer: &Peer) {
    let host = headers.get(header::HOST).cloned();
    remove_imitations(headers, peer.trusted);
    if !peer.trusted {
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
    let mut hops: Vec<&[u8]> = elements(headers, &FORWARDED_FOR).collect();
    hops.push(peer.address.as_bytes());
    let hops = hops.join(&b", "[..]);
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
pub(super) fn request_id() -> HeaderValue {
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
    fn several_lines_of_one_name_are_one_list() {
        let lines = |name: &'static str, values: &[&'static str]| {
            let pair = |value: &&'static str| (HeaderName::from_static(name), HeaderValue::from_static(value));
            values.iter().map(pair).collect::<HeaderMap>()
        };
        for connection in [
            &["keep-alive", "Upgrade"][..],
            &["keep-alive, Upgrade"],
            &["upgrade", "keep-alive"],
            &["keep-alive,,Upgrade ,"],
            &["", ",", "\tUPGRADE\t,"],
        ] {
            let mut headers = lines("connection", connection);
            headers.extend(lines("upgrade", &["websocket"]));
            assert_eq!(upgrade(&headers).unwrap(), "websocket", "{connection:?}");
        }
        let with = |protocols| {
            let mut headers = lines("connection", &["upgrade"]);
            headers.extend(lines("upgrade", protocols));
            upgrade(&headers)
        };
        assert_eq!(with(&["foo,", "websocket"]).unwrap(), "foo, websocket");
        assert_eq!(with(&["websocket", "h2c"]), None);
        assert_eq!(with(&["", ","]), None);

        let mut headers = map(&[("x-one", "1"), ("x-two", "2"), ("x-three", "3"), ("accept", "*/*")]);
        headers.extend(lines("connection", &["x-one", ", ,X-Two ,", "x-three"]));
        headers.append("connection", HeaderValue::from_bytes(b"\xff, accept").unwrap());
        remove_hop_by_hop(&mut headers);
        assert!(headers.is_empty(), "{headers:?}");

        let mut headers = lines("te", &["gzip", "Trailers;q=1, trailers"]);
        assert!(!takes_trailers(&headers), "TE is not named in Connection");
        headers.extend(lines("connection", &["close", "TE"]));
        assert!(takes_trailers(&headers));

        for (values, expected) in [
            (&["timeout=5, max=100"][..], Some(Duration::from_secs(5))),
            (&["max=100,", "Timeout = \"2\""], Some(Duration::from_secs(2))),
            (&["timeout=5, max=0"], Some(Duration::ZERO)),
            (&["timeout=soon", "300"], None),
        ] {
            assert_eq!(keep_alive(Version::HTTP_11, &lines("keep-alive", values)), expected, "{values:?}");
        }
        for (version, connection, expected) in [
            (Version::HTTP_11, &["keep-alive", "x, Close"][..], Some(Duration::ZERO)),
            (Version::HTTP_11, &["keep-alive"], None),
            (Version::HTTP_10, &["x", "Keep-Alive"], None),
            (Version::HTTP_10, &[], Some(Duration::ZERO)),
        ] {
            assert_eq!(keep_alive(version, &lines("connection", connection)), expected, "{version:?} {connection:?}");
        }
    }

    #[test]
    fn the_framing_of_a_response_is_simplified() {
        let framed = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = map(&[]);
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let is_understood = simplify_framing(&mut headers);
            let lengths: Vec<_> =
                headers.get_all("content-length").iter().map(|length| length.to_str().unwrap().to_owned()).collect();
            (is_understood, lengths.join("|"))
        };
        let (cl, te) = ("content-length", "transfer-encoding");
        assert_eq!(framed(&[]), (true, String::new()));
        assert_eq!(framed(&[(cl, "2")]), (true, "2".into()));
        assert_eq!(framed(&[(cl, "2"), (cl, "2")]), (true, "2".into()));
        assert_eq!(framed(&[(cl, "2, 2")]), (true, "2".into()));
        assert_eq!(framed(&[(cl, "9"), (te, "chunked")]), (true, String::new()));
        assert_eq!(framed(&[(te, "chunked"), (te, "Chunked")]), (true, String::new()));
        assert!(!framed(&[(te, "gzip, chunked")]).0 && !framed(&[(te, "gzip"), (te, "chunked")]).0);
    }

    #[test]
    fn other_spellings_of_the_routers_headers_are_removed() {
        let spellings = [
            "x_forwarded_for",
            "x-forwarded_for",
            "x.forwarded.for",
            "x_forwarded_proto",
            "x*forwarded-host",
            "x_forwarded_anything",
            "x_real_ip",
            "x_request_id",
            "transfer_encoding",
            "content_length",
            "keep_alive",
            "script_name",
            "path_info",
        ];
        let others =
            ["my_header", "x_forwarded", "x-real-ip-2", "x-requested-with", "forwarded-by", "proxy-authorization"];
        let ordinary = ["x-forwarded-for", "x-forwarded-prefix", "x-forwarded-ssl", "x-real-ip", "forwarded"];
        let all = |names: &[&'static str]| names.iter().map(|name| (*name, "6.6.6.6")).collect::<Vec<_>>();
        for trusted in [false, true] {
            let mut headers = map(&[all(&spellings), all(&["proxy"]), all(&others), all(&ordinary)].concat());
            remove_imitations(&mut headers, trusted);
            let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
            left.sort_unstable();
            let mut expected = if trusted { [&others[..], &ordinary].concat() } else { others.to_vec() };
            expected.sort_unstable();
            assert_eq!(left, expected, "trusted: {trusted}");
        }
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

#[cfg(test)]
mod properties {
    use std::collections::BTreeSet;

    use proptest::{
        collection::vec,
        prelude::{Strategy, any, prop_oneof},
        sample::select,
    };

    use super::*;
    use crate::{
        properties::{check, text_near},
        router::transport::HttpVersion,
    };

    fn headers() -> impl Strategy<Value = HeaderMap> {
        let names = [
            "host",
            "connection",
            "content-length",
            "transfer-encoding",
            "te",
            "upgrade",
            "keep-alive",
            "proxy-connection",
            "x-forwarded-for",
            "x_forwarded_for",
            "x.forwarded.host",
            "x-request-id",
            "x_request-id",
            "x-real-ip",
            "forwarded",
            "proxy",
            "content_length",
            "accept",
        ];
        let values =
            ["close", "keep-alive, Upgrade", "x-a, content-length, te", "chunked", "gzip, chunked", "5", "5, 5", "+5"];
        let values: Vec<_> =
            values.iter().chain(&["websocket", "h2c", "timeout=5, max=0", "trailers", "1.1.1.1"]).copied().collect();
        let name = prop_oneof![8 => select(names.to_vec()).prop_map(str::to_owned), 1 => text_near(&names)];
        let value = prop_oneof![2 => select(values.clone()).prop_map(str::to_owned), 1 => text_near(&values)];
        vec((name, value), 0..10).prop_map(|lines| {
            let line = |(name, value): (String, String)| {
                Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value.as_bytes()).ok()?))
            };
            lines.into_iter().filter_map(line).fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            })
        })
    }

    /// The variable that CGI makes of a header's name.
    fn variable(name: &str) -> String {
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
    }

    #[test]
    fn a_client_cannot_say_what_only_the_router_says() {
        let transport = Transport {
            peer: "10.0.0.9:40000".parse().unwrap(),
            listener: "[::]:5000".parse().unwrap(),
            encrypted: false,
            http: HttpVersion::Http1,
        };
        let peer = Peer::new(&transport, &[]);
        check(headers(), |mut headers| {
            let host = headers.get(header::HOST).cloned();
            remove_hop_by_hop(&mut headers);
            set_forwarded(&mut headers, &peer);
            let said: BTreeSet<_> = headers.keys().map(|name| variable(name.as_str())).collect();
            let own = ["X_FORWARDED_FOR", "X_FORWARDED_PROTO", "X_FORWARDED_PORT", "X_FORWARDED_HOST", "X_REQUEST_ID"];
            let forged = said.iter().filter(|name| {
                (name.starts_with("X_FORWARDED_") && !own.contains(&name.as_str()))
                    || [
                        "X_REAL_IP",
                        "FORWARDED",
                        "PROXY",
                        "KEEP_ALIVE",
                        "TRANSFER_ENCODING",
                        "CONNECTION",
                        "UPGRADE",
                        "TE",
                    ]
                    .contains(&name.as_str())
            });
            assert_eq!(forged.collect::<Vec<_>>(), [""; 0]);
            // Each variable has one origin.
            assert_eq!(said.len(), headers.keys_len());
            assert_eq!(headers.get_all(FORWARDED_FOR).iter().collect::<Vec<_>>(), ["10.0.0.9"]);
            assert_eq!(
                (&headers[FORWARDED_PROTO], &headers[FORWARDED_PORT]),
                (&"http".parse().unwrap(), &"5000".parse().unwrap())
            );
            assert_eq!(headers.get(FORWARDED_HOST), host.as_ref());
            assert!(headers.get_all(REQUEST_ID).iter().count() == 1 && headers[REQUEST_ID].len() == 32);
        });
    }

    #[test]
    fn framing_is_simple_or_refused() {
        check(headers(), |mut headers| {
            if is_framed_well(&headers) {
                let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
                let codings = headers.get_all(header::TRANSFER_ENCODING).iter().count();
                assert!(lengths + codings <= 1);
            }
            if simplify_framing(&mut headers) {
                let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
                assert!(lengths <= 1 && (lengths == 0 || !headers.contains_key(header::TRANSFER_ENCODING)));
            }
            let _ = (keep_alive(Version::HTTP_11, &headers), takes_trailers(&headers));
            if let Some(protocols) = upgrade(&headers) {
                assert!(
                    !String::from_utf8_lossy(protocols.as_bytes())
                        .to_ascii_lowercase()
                        .split(", ")
                        .any(|one| one.starts_with("h2"))
                );
            }
            clean_trailers(&mut headers);
            assert!(!headers.keys().any(|name| variable(name.as_str()).starts_with("X_FORWARDED_")));
        });
    }

    #[test]
    fn hosts_have_no_separators() {
        check((text_near(&["a.example.org:80", "[::1]:80", "u@a"]), any::<u8>()), |(text, byte)| {
            for host in [text.as_bytes(), &[byte]] {
                assert!(!is_host(host) || !host.iter().any(|byte| b" \t\r\n/?#@,\\\0".contains(byte)));
            }
        });
    }
}
