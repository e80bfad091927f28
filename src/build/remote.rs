//! Whether a URL leads to the Internet: a developer's key must not make the server send requests to itself, to containers of
//! its engine, to the machine's metadata service, or to anything else that is closed to builds.

use std::net::{IpAddr, UdpSocket};

use super::{builder::Builder, error::BuildError};
use crate::{
    engine::addresses_of,
    model::{
        NetworkTarget, TargetPlace,
        closed_ranges::{closed_to_builds, metadata_services, without_translation},
        host_and_port,
    },
};

impl Builder {
    /// The addresses of a URL's host; `None` if the host is this machine, a container of its engine, or anything else that is
    /// closed to builds. A program that is given the name resolves it again and may get other addresses: git is given these
    /// addresses, the engine cannot be.
    pub async fn remote_addresses(&self, url: &str) -> Result<Option<Vec<IpAddr>>, BuildError> {
        let addresses = addresses(url).await;
        let targets: Vec<_> = addresses.iter().copied().map(without_translation).collect();
        let allowed = &self.0.config.network.allow;
        let is_closed = targets.iter().any(|&address| is_own(address) || is_closed(url, address, allowed))
            || self.0.builds.is_in_engine_network(&targets).await?;
        Ok((!is_closed).then_some(addresses))
    }
}

/// The addresses of a URL's host; empty if it has no host, or the name does not resolve.
async fn addresses(url: &str) -> Vec<IpAddr> {
    let Some((host, _)) = host_and_port(url) else { return Vec::new() };
    addresses_of(host.trim_matches(['[', ']'])).await.unwrap_or_default()
}

/// Whether an address is closed to builds, and `network.allow` does not open it.
fn is_closed(url: &str, address: IpAddr, allowed: &[NetworkTarget]) -> bool {
    let has_port = |target: &NetworkTarget| target.port.is_none() || target.port == port(url);
    let opens = |target: &NetworkTarget| match &target.place {
        TargetPlace::ThisMachine => false,
        TargetPlace::Block(block) => block.contains(address),
        TargetPlace::Name(name) => host_and_port(url).is_some_and(|(host, _)| host.eq_ignore_ascii_case(name)),
    };
    closed_to_builds().iter().any(|block| block.contains(address))
        && (is_metadata(address) || !allowed.iter().any(|target| has_port(target) && opens(target)))
}

/// The port of a URL.
fn port(url: &str) -> Option<u16> {
    let (_, port) = host_and_port(url)?;
    match (port, url.split_once("://")?.0) {
        (Some(port), _) => port.parse().ok(),
        (None, "http") => Some(80),
        (None, "https" | "docker") => Some(443),
        (None, "ssh") => Some(22),
        (None, "git") => Some(9418),
        (None, _) => None,
    }
}

fn is_metadata(address: IpAddr) -> bool {
    metadata_services().iter().any(|block| block.contains(address))
}

fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
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

    async fn leads_to_closed(url: &str, allowed: &[NetworkTarget]) -> bool {
        let targets = addresses(url).await.into_iter().map(without_translation);
        targets.into_iter().any(|address| is_own(address) || is_closed(url, address, allowed))
    }

    #[tokio::test]
    async fn what_is_closed_to_builds_is_recognised() {
        for closed in [
            "http://127.0.0.1:8080/",
            "https://localhost/x.git",
            "http://[::1]/",
            "http://169.254.169.254/latest",
            "http://0.0.0.0/",
            "http://[::ffff:127.0.0.1]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::1]/",
            "http://[fd00:ec2::254]/",
            "https://10.99.98.97/x.git",
            "git://192.168.250.1/x.git",
            "ssh://git@172.31.250.1/x.git",
            "docker://100.64.0.7:5000/x:1",
            "http://[fd12::7]/",
        ] {
            assert!(leads_to_closed(closed, &[]).await, "{closed}");
        }
        for open in ["https://198.51.100.7/x.git", "https://203.0.113.7/", "https://name.invalid/x.git", "nonsense"] {
            assert!(!leads_to_closed(open, &[]).await, "{open}");
        }
    }

    #[tokio::test]
    async fn what_the_operator_opens_to_builds_is_open_and_no_more() {
        let allowed = |text: &str| [text.parse().unwrap()];
        for (url, target, closed) in [
            ("https://10.99.98.97/x.git", "10.99.98.0/24", false),
            ("https://10.99.98.97/x.git", "10.99.98.97:443", false),
            ("http://10.99.98.97/x.git", "10.99.98.97:443", true),
            ("ssh://git@10.99.98.97:2222/x.git", "10.99.98.97:2222", false),
            ("https://10.99.98.97/x.git", "10.99.97.0/24", true),
            ("https://10.99.98.97/x.git", "host", true),
            ("http://169.254.169.254/", "169.254.0.0/16", true),
            ("http://127.0.0.1/", "0.0.0.0/0", true),
        ] {
            assert_eq!(leads_to_closed(url, &allowed(target)).await, closed, "{url} {target}");
        }
    }
}
