//! Bridges: shared ones for apps, where instances do not see each other, and one for builds.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::atomic::Ordering,
};

use bollard::{
    models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect},
    query_parameters::ListNetworksOptionsBuilder,
};

use super::{Engine, EngineError, Kind, Result, label, status};
use crate::config::AddressPlan;

struct Bridge {
    name: String,
    interface: String,
    subnet: String,
    gateway: String,
}

impl Engine {
    /// The name of app bridge `index`.
    pub fn app_bridge_name(&self, index: u32) -> String {
        format!("paas-{}-apps-{index}", self.server_id())
    }

    /// The name of the bridge for builds.
    pub fn build_bridge_name(&self) -> String {
        format!("paas-{}-builds", self.server_id())
    }

    /// Makes app bridge `index` (0 to 62) unless it is there, and gives back its name. Instances on it reach the
    /// Internet but not the machine's metadata service, the host reaches them, they do not reach each other.
    pub async fn ensure_app_bridge(&self, index: u32) -> Result<String> {
        if index >= AddressPlan::APP_BRIDGES {
            return Err(EngineError::NoSuchBridge(index));
        }
        if !self.inner.closed.load(Ordering::Relaxed) {
            self.close_firewall().await?;
        }
        let (subnet, gateway) = self.inner.plan.app_bridge(index);
        self.ensure_bridge(Bridge {
            name: self.app_bridge_name(index),
            interface: self.interface(&index.to_string()),
            subnet,
            gateway: gateway.to_string(),
        })
        .await
    }

    /// Makes the bridge for builds unless it is there, and closes it towards the host and all private networks; to be
    /// called before each build, since a restart of the engine or a firewall tool may have reordered the rules.
    pub async fn ensure_build_bridge(&self) -> Result<String> {
        self.close_firewall().await?;
        let (subnet, gateway) = self.inner.plan.build_bridge();
        self.ensure_bridge(Bridge {
            name: self.build_bridge_name(),
            interface: self.build_interface(),
            subnet,
            gateway: gateway.to_string(),
        })
        .await
    }

    pub(super) fn build_interface(&self) -> String {
        self.interface("b")
    }

    /// The name of a bridge's interface, of the 15 characters that the kernel allows at the most.
    pub(super) fn interface(&self, which: &str) -> String {
        format!("pa-{}-{which}", self.inner.short_id)
    }

    async fn ensure_bridge(&self, wanted: Bridge) -> Result<String> {
        // One at a time: a network that is just being made is not listed yet, but its addresses are taken.
        let _making = self.inner.bridges.lock().await;
        if self.has_bridge(&wanted).await? {
            return Ok(wanted.name);
        }
        self.check_routes(&wanted).await?;
        let options = [
            ("com.docker.network.bridge.name", wanted.interface.as_str()),
            ("com.docker.network.bridge.enable_icc", "false"),
        ];
        let request = NetworkCreateRequest {
            name: wanted.name.clone(),
            driver: Some("bridge".to_owned()),
            enable_ipv6: Some(false),
            ipam: Some(Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(wanted.subnet.clone()),
                    gateway: Some(wanted.gateway.clone()),
                    ..IpamConfig::default()
                }]),
                ..Ipam::default()
            }),
            options: Some(options.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
            labels: Some(self.labels(Kind::Network)),
            ..NetworkCreateRequest::default()
        };
        match self.docker().create_network(request).await {
            Ok(_) => Ok(wanted.name),
            Err(source) => {
                let text = source.to_string();
                if text.contains("overlap") || text.contains("conflicts with") {
                    return Err(EngineError::AddressesTaken {
                        subnet: wanted.subnet,
                        with: "another Docker network".to_owned(),
                    });
                }
                Err(EngineError::CannotCreateNetwork { name: wanted.name, source })
            }
        }
    }

    /// Whether the bridge is there as wanted. One of ours with other addresses is removed.
    async fn has_bridge(&self, wanted: &Bridge) -> Result<bool> {
        let Some(network) = self.network(&wanted.name).await? else { return Ok(false) };
        let pools = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let has = pools.into_iter().find_map(|pool| pool.subnet).unwrap_or_default();
        if has == wanted.subnet {
            return Ok(true);
        }
        if network.containers.is_some_and(|containers| !containers.is_empty()) {
            let (name, wanted) = (wanted.name.clone(), wanted.subnet.clone());
            return Err(EngineError::RangeChanged { name, has, wanted });
        }
        self.remove_network(&wanted.name).await?;
        Ok(false)
    }

    async fn network(&self, name: &str) -> Result<Option<NetworkInspect>> {
        let network = match self.docker().inspect_network(name, None).await {
            Ok(network) => network,
            Err(e) if status(&e) == Some(404) => return Ok(None),
            Err(source) => return Err(EngineError::CannotInspectNetwork { name: name.to_owned(), source }),
        };
        if self.is_ours(network.labels.as_ref()) {
            return Ok(Some(network));
        }
        Err(EngineError::NotOurs(format!("network {name}")))
    }

    /// Whether one of the addresses lies in a network of the engine, whoever made it: there are other containers.
    pub async fn is_a_neighbour(&self, addresses: &[IpAddr]) -> Result<bool> {
        let networks = self
            .docker()
            .list_networks(None)
            .await
            .map_err(|source| EngineError::CannotInspectNetwork { name: "list".to_owned(), source })?;
        let blocks = networks.into_iter().filter_map(|network| network.ipam?.config).flatten();
        let subnets: Vec<String> = blocks.filter_map(|block| block.subnet).chain([self.inner.plan.range()]).collect();
        Ok(addresses.iter().any(|&address| subnets.iter().any(|subnet| covers(subnet, address))))
    }

    /// Of all servers whose id begins so, those that have networks and no container in any.
    pub async fn idle_servers(&self, beginning: &str) -> Result<Vec<String>> {
        let cannot = |source| EngineError::CannotInspectNetwork { name: "list".to_owned(), source };
        let filter = HashMap::from([("label".to_owned(), vec![label::SERVER.to_owned()])]);
        let options = ListNetworksOptionsBuilder::new().filters(&filter).build();
        let mut idle = BTreeMap::new();
        for network in self.docker().list_networks(Some(options)).await.map_err(cannot)? {
            let server = network.labels.and_then(|mut labels| labels.remove(label::SERVER)).unwrap_or_default();
            let (true, Some(id)) = (server.starts_with(beginning), network.id) else { continue };
            let details = match self.docker().inspect_network(&id, None).await {
                Ok(details) => details,
                Err(e) if status(&e) == Some(404) => continue,
                Err(source) => return Err(cannot(source)),
            };
            let empty = details.containers.is_none_or(|containers| containers.is_empty());
            *idle.entry(server).or_insert(true) &= empty;
        }
        Ok(idle.into_iter().filter_map(|(server, idle)| idle.then_some(server)).collect())
    }

    /// Gives the addresses of this server's networks back, and takes its packet filters and the control group of builds away,
    /// until it needs them again.
    pub async fn leave_networks(&self) -> Result<()> {
        self.remove_networks().await?;
        self.leave_build_group().await;
        self.open_firewall().await
    }

    async fn remove_network(&self, name: &str) -> Result<()> {
        match self.docker().remove_network(name).await {
            Ok(()) => Ok(()),
            Err(e) if status(&e) == Some(404) => Ok(()),
            Err(source) => Err(EngineError::CannotRemoveNetwork { name: name.to_owned(), source }),
        }
    }

    pub(super) async fn remove_networks(&self) -> Result<()> {
        let options = ListNetworksOptionsBuilder::new().filters(&self.filter(Some(Kind::Network))).build();
        let networks = self
            .docker()
            .list_networks(Some(options))
            .await
            .map_err(|source| EngineError::CannotInspectNetwork { name: "list".to_owned(), source })?;
        for id in networks.into_iter().filter_map(|network| network.id) {
            self.remove_network(&id).await?;
        }
        Ok(())
    }

    /// The engine compares with its own networks only; a route of the machine, to a VPN say, would silently be hidden.
    async fn check_routes(&self, wanted: &Bridge) -> Result<()> {
        let path = "/proc/net/route";
        let table = tokio::fs::read_to_string(path)
            .await
            .map_err(|source| EngineError::CannotRead { path: path.into(), source })?;
        let ours = self.interface("");
        let clash = table
            .lines()
            .skip(1)
            .filter_map(route)
            .find(|route| !route.interface.starts_with(&ours) && overlaps(&wanted.subnet, route));
        match clash {
            None => Ok(()),
            Some(route) => Err(EngineError::AddressesTaken {
                subnet: wanted.subnet.clone(),
                with: format!("the route of this machine through {}", route.interface),
            }),
        }
    }
}

/// Whether a subnet, as `address/bits`, has an address.
fn covers(subnet: &str, address: IpAddr) -> bool {
    let Some((base, bits)) = subnet.split_once('/') else { return false };
    let (Ok(base), Ok(bits)) = (base.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let differ = match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => u128::from(base.to_bits() ^ address.to_bits()) << 96,
        (IpAddr::V6(base), IpAddr::V6(address)) => base.to_bits() ^ address.to_bits(),
        _ => return false,
    };
    differ.leading_zeros() >= bits
}

struct Route<'a> {
    interface: &'a str,
    address: u32,
    mask: u32,
}

/// A line of `/proc/net/route`; `None` for a default route.
fn route(line: &str) -> Option<Route<'_>> {
    let mut fields = line.split_ascii_whitespace();
    let interface = fields.next()?;
    let mut number = |n| u32::from_str_radix(fields.nth(n)?, 16).ok().map(|n| u32::from_be_bytes(n.to_ne_bytes()));
    let (address, mask) = (number(0)?, number(5)?);
    (mask != 0).then_some(Route { interface, address, mask })
}

fn overlaps(subnet: &str, route: &Route<'_>) -> bool {
    let parsed = subnet.split_once('/').and_then(|(address, bits)| {
        let address: std::net::Ipv4Addr = address.parse().ok()?;
        let bits: u32 = bits.parse().ok()?;
        Some((address.to_bits(), u32::MAX.checked_shl(32 - bits).unwrap_or(0)))
    });
    parsed.is_some_and(|(address, mask)| (address ^ route.address) & mask & route.mask == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_cover_their_addresses() {
        for (subnet, address, expected) in [
            ("10.210.0.0/16", "10.210.7.9", true),
            ("10.210.0.0/16", "10.211.0.1", false),
            ("172.17.0.0/16", "172.17.0.2", true),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("192.0.2.7/32", "192.0.2.7", true),
            ("192.0.2.7/32", "192.0.2.6", false),
            ("fd00:1::/64", "fd00:1::5", true),
            ("fd00:1::/64", "fd00:2::5", false),
            ("fd00:1::/64", "10.0.0.1", false),
            ("nonsense", "10.0.0.1", false),
        ] {
            assert_eq!(covers(subnet, address.parse().unwrap()), expected, "{subnet} {address}");
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn routes_that_overlap_are_seen() {
        let docker0 = route("docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0").unwrap();
        assert_eq!(docker0.interface, "docker0");
        assert!(overlaps("172.17.4.0/22", &docker0));
        assert!(!overlaps("172.18.0.0/22", &docker0));
        let wide = route("tun0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0").unwrap();
        assert!(overlaps("10.210.0.0/22", &wide));
        assert!(route("eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0").is_none());
    }
}
