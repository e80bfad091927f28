//! Headers that a proxy takes away (RFC 9110, 7.6.1) and those that it sets.

use std::{cell::RefCell, fmt::Write as _, net::IpAddr};

use hyper::{
    HeaderMap,
    header::{self, HeaderName, HeaderValue},
};
use rand::TryRng as _;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Takes away what is between two neighbours only.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // What frames the message is not for a client to take away.
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

/// Whether this is a request to leave HTTP behind, and for what.
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let connection = headers.get(header::CONNECTION)?.to_str().ok()?;
    let asked = connection.split(',').any(|option| option.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| asked).cloned()
}

/// Says who asked, and gives the request a name. What a client says of this is replaced, unless it is trusted.
pub(super) fn set_forwarded(headers: &mut HeaderMap, peer: IpAddr, port: &HeaderValue, trusted: bool) {
    let mut text = peer.to_canonical().to_string();
    if trusted && let Some(before) = headers.get(&FORWARDED_FOR).and_then(|value| value.to_str().ok()) {
        text = format!("{before}, {text}");
    }
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(FORWARDED_FOR, value);
    }
    let set = |headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>| {
        if trusted && headers.contains_key(&name) {
            return;
        }
        match value {
            Some(value) => drop(headers.insert(name, value)),
            None => drop(headers.remove(name)),
        }
    };
    set(headers, FORWARDED_PROTO, Some(HeaderValue::from_static("http")));
    set(headers, FORWARDED_PORT, Some(port.clone()));
    let host = headers.get(header::HOST).cloned();
    set(headers, FORWARDED_HOST, host);
    if !(trusted && headers.contains_key(&REQUEST_ID)) {
        headers.insert(REQUEST_ID, request_id());
    }
}

/// A random name: 128 bits as hex, drawn from the operating system a block at a time.
fn request_id() -> HeaderValue {
    const BLOCK: usize = 4096;
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
    let mut text = String::with_capacity(32);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn what_is_between_neighbours_goes() {
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
        let peer = IpAddr::from([10, 0, 0, 9]);
        let port = HeaderValue::from_static("5000");
        let pairs = [
            ("host", "a.org"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "mine"),
        ];
        let mut headers = map(&pairs);
        set_forwarded(&mut headers, peer, &port, false);
        assert_eq!(headers["x-forwarded-for"], "10.0.0.9");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "a.org");
        assert_eq!(headers["x-request-id"].len(), 32);
        let mut headers = map(&pairs);
        set_forwarded(&mut headers, peer, &port, true);
        assert_eq!(headers["x-forwarded-for"], "1.1.1.1, 10.0.0.9");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-port"], "5000");
        assert_eq!(headers["x-request-id"], "mine");
    }
}
