//! Whether what somebody names is really elsewhere: a developer's key must not make the server ask itself, its engine's
//! neighbours or the machine's metadata service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use super::{BuildError, Builder};
use crate::git::host_and_port;

/// Where clouds answer their machines, besides link-local addresses.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

impl Builder {
    /// The addresses of a URL's host; `None` if it is this machine, a container of its engine, or what only the machine
    /// can reach. What fetches by name asks again, unless it is told these: git is, the engine cannot be.
    pub(super) async fn elsewhere(&self, url: &str) -> Result<Option<Vec<IpAddr>>, BuildError> {
        let addresses = addresses(url).await;
        let judged: Vec<_> = addresses.iter().copied().map(plain).collect();
        let here =
            judged.iter().any(|&address| is_own(address)) || self.inner.engine.is_in_engine_network(&judged).await?;
        Ok((!here).then_some(addresses))
    }
}

/// The addresses of a URL's host; none if it has no host, or nobody knows it.
async fn addresses(url: &str) -> Vec<IpAddr> {
    let Some((host, _)) = host_and_port(url) else { return Vec::new() };
    let name = host.trim_matches(['[', ']']).to_owned();
    tokio::net::lookup_host((name, 0)).await.map_or_else(|_| Vec::new(), |all| all.map(|a| a.ip()).collect())
}

/// An IPv4 address that comes in an IPv6 one: as it is mapped, or translated (RFC 6052).
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    match v6.octets() {
        [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
        _ => address.to_canonical(),
    }
}

fn is_own(address: IpAddr) -> bool {
    let special = match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
    };
    special || METADATA.contains(&address) || UdpSocket::bind((address, 0)).is_ok()
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
            assert_eq!(host_and_port(url).map(|(host, _)| host), Some(expected));
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
            "http://[::ffff:127.0.0.1]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[fd00:ec2::254]/",
        ] {
            assert!(addresses(here).await.into_iter().map(plain).any(is_own), "{here}");
        }
        for elsewhere in ["https://192.0.2.7/x.git", "https://name.invalid/x.git", "nonsense"] {
            assert!(!addresses(elsewhere).await.into_iter().map(plain).any(is_own), "{elsewhere}");
        }
    }
}
