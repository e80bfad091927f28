//! Whether a URL leads to another machine: a developer's key must not make the server send requests to itself, to
//! containers of its engine, or to the machine's metadata service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use super::{builder::Builder, error::BuildError};
use crate::model::host_and_port;

/// Addresses of the metadata services of clouds, besides link-local ones.
const METADATA_SERVICES: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

impl Builder {
    /// The addresses of a URL's host; `None` if the host is this machine, a container of its engine, or a service that
    /// only this machine can reach. A program that is given the name resolves it again and may get other addresses: git
    /// is given these addresses, the engine cannot be.
    pub(super) async fn remote_addresses(&self, url: &str) -> Result<Option<Vec<IpAddr>>, BuildError> {
        let addresses = addresses(url).await;
        let targets: Vec<_> = addresses.iter().copied().map(without_translation).collect();
        let is_local =
            targets.iter().any(|&address| is_own(address)) || self.0.builds.is_in_engine_network(&targets).await?;
        Ok((!is_local).then_some(addresses))
    }
}

/// The addresses of a URL's host; empty if it has no host, or the name does not resolve.
async fn addresses(url: &str) -> Vec<IpAddr> {
    let Some((host, _)) = host_and_port(url) else { return Vec::new() };
    let name = host.trim_matches(['[', ']']).to_owned();
    tokio::net::lookup_host((name, 0)).await.map_or_else(|_| Vec::new(), |all| all.map(|a| a.ip()).collect())
}

/// The IPv4 address in an IPv6 address that is mapped or translated (RFC 6052); any other address as it is.
fn without_translation(address: IpAddr) -> IpAddr {
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
    special || METADATA_SERVICES.contains(&address) || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_url_is_found() {
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
    async fn addresses_of_this_machine_are_recognised() {
        for local in [
            "http://127.0.0.1:8080/",
            "https://localhost/x.git",
            "http://[::1]/",
            "http://169.254.169.254/latest",
            "http://0.0.0.0/",
            "http://[::ffff:127.0.0.1]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[fd00:ec2::254]/",
        ] {
            assert!(addresses(local).await.into_iter().map(without_translation).any(is_own), "{local}");
        }
        for remote in ["https://192.0.2.7/x.git", "https://name.invalid/x.git", "nonsense"] {
            assert!(!addresses(remote).await.into_iter().map(without_translation).any(is_own), "{remote}");
        }
    }
}
