//! Whether what somebody names is really elsewhere: a developer's key must not make the server ask itself, its engine's
//! neighbours or the machine's metadata service.

use std::net::{IpAddr, UdpSocket};

/// Whether a URL names this machine, or what only it can reach.
pub(super) async fn is_here(url: &str) -> bool {
    let Some(host) = host(url) else { return false };
    let name = host.trim_matches(['[', ']']).to_owned();
    // What cannot be resolved cannot be fetched either, and that is said better there.
    let addresses: Vec<IpAddr> =
        tokio::net::lookup_host((name, 0)).await.map_or_else(|_| Vec::new(), |all| all.map(|a| a.ip()).collect());
    addresses.into_iter().any(|address| is_special(address) || UdpSocket::bind((address, 0)).is_ok())
}

fn is_special(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.octets() == [100, 100, 100, 200]
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
    }
}

/// The host of `scheme://user@host:port/path`.
fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    if host.starts_with('[') {
        return host.split_inclusive(']').next();
    }
    host.split(':').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found() {
        for (url, expected) in [
            ("https://a.b/c", "a.b"),
            ("http://user:pw@a.b:80/c", "a.b"),
            ("git://[::1]:9418/x", "[::1]"),
            ("docker://127.0.0.1:5000/x:1", "127.0.0.1"),
            ("https://evil@169.254.169.254#x", "169.254.169.254"),
        ] {
            assert_eq!(host(url), Some(expected));
        }
    }

    #[tokio::test]
    async fn what_is_here_is_known() {
        for here in [
            "http://127.0.0.1:8080/",
            "https://localhost/x.git",
            "http://[::1]/",
            "http://169.254.169.254/latest",
            "http://0.0.0.0/",
        ] {
            assert!(is_here(here).await, "{here}");
        }
        for elsewhere in ["https://192.0.2.7/x.git", "https://name.invalid/x.git", "nonsense"] {
            assert!(!is_here(elsewhere).await, "{elsewhere}");
        }
    }
}
