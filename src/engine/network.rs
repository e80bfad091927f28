//! Bridges: app bridges, which many instances share without reaching each other, and one build bridge.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr},
};

use bollard::{
    models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect},
    query_parameters::ListNetworksOptionsBuilder,
};

use super::{
    error::{Act, EngineError, Result, status},
    handle::{Builds, Connection, Containers, Host},
    label::{self, Kind},
};
use crate::model::{AddressBlock, AddressPlan};

/// Specification of a bridge.
struct Bridge {
    name: String,
    interface: String,
    subnet: String,
    gateway: String,
}

impl Containers {
    /// Name of app bridge `index`.
    pub fn app_bridge_name(&self, index: u32) -> String {
        format!("paas-{}-apps-{index}", self.0.server_id())
    }

    /// Creates the app bridge that has this address, unless it exists; returns its name.
    pub(super) async fn ensure_bridge_of(&self, address: Ipv4Addr) -> Result<String> {
        match self.0.shared.addresses.bridge_of(address) {
            Some(index) => self.ensure_app_bridge(index).await,
            None => Err(EngineError::NoBridge(address)),
        }
    }

    /// Creates app bridge `index` (0 to 62) unless it exists; returns its name. Instances on it can reach the Internet
    /// and, unless `network.instances` says otherwise, private networks, but neither this machine, nor a metadata service, nor
    /// each other. The host can reach them.
    pub async fn ensure_app_bridge(&self, index: u32) -> Result<String> {
        if index >= AddressPlan::APP_BRIDGES {
            return Err(EngineError::NoSuchBridge(index));
        }
        if !self.0.shared.filters.are_set() {
            self.0.host().ensure_firewall().await?;
        }
        let (subnet, gateway) = self.0.shared.addresses.app_bridge(index);
        self.0
            .ensure_bridge(Bridge {
                name: self.app_bridge_name(index),
                interface: self.0.interface(&index.to_string()),
                subnet,
                gateway: gateway.to_string(),
            })
            .await
    }
}

impl Builds {
    /// Name of the build bridge.
    pub fn build_bridge_name(&self) -> String {
        format!("paas-{}-builds", self.0.server_id())
    }

    /// Creates the build bridge unless it exists, and isolates it from the host and all private networks; returns its name.
    /// Must be called before each build, because a restart of the engine or a firewall tool may have changed the packet
    /// filters.
    pub async fn ensure_build_bridge(&self) -> Result<String> {
        self.0.host().ensure_firewall().await?;
        let (subnet, gateway) = self.0.shared.addresses.build_bridge();
        self.0
            .ensure_bridge(Bridge {
                name: self.build_bridge_name(),
                interface: self.0.build_interface(),
                subnet,
                gateway: gateway.to_string(),
            })
            .await
    }

    /// Whether one of the addresses is in a network of the engine, where other containers are.
    pub async fn is_in_engine_network(&self, addresses: &[IpAddr]) -> Result<bool> {
        let subnets = self.0.host().container_networks().await?;
        Ok(addresses.iter().any(|&address| subnets.iter().any(|subnet| subnet.contains(address))))
    }
}

impl Connection {
    /// The address of this machine on the app bridge that has an address.
    pub(super) fn gateway_of(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        let addresses = self.shared.addresses;
        addresses.bridge_of(address).map(|index| addresses.app_bridge(index).1)
    }

    async fn ensure_bridge(&self, wanted: Bridge) -> Result<String> {
        // One at a time: a network that is being created is not listed yet, but its addresses are taken.
        let _lock = self.shared.bridge_lock.lock().await;
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
            Err(e) => {
                let text = e.to_string();
                if text.contains("overlap") || text.contains("conflicts with") {
                    return Err(EngineError::AddressesTaken {
                        subnet: wanted.subnet,
                        with: "another Docker network".to_owned(),
                    });
                }
                Err(EngineError::docker(Act::Create, format!("network {}", wanted.name))(e))
            }
        }
    }

    /// Whether the bridge exists with the wanted subnet. If it has another subnet and is not in use, it is removed.
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

    /// A network by name: `None` if it does not exist, an error if it was not created by this server.
    async fn network(&self, name: &str) -> Result<Option<NetworkInspect>> {
        let network = match self.docker().inspect_network(name, None).await {
            Ok(network) => network,
            Err(e) if status(&e) == Some(404) => return Ok(None),
            Err(e) => return Err(EngineError::docker(Act::Inspect, format!("network {name}"))(e)),
        };
        if self.is_ours(network.labels.as_ref()) {
            return Ok(Some(network));
        }
        Err(EngineError::NotOurs(format!("network {name}")))
    }

    async fn remove_network(&self, name: &str) -> Result<()> {
        match self.docker().remove_network(name).await {
            Ok(()) => Ok(()),
            Err(e) if status(&e) == Some(404) => Ok(()),
            Err(e) => Err(EngineError::docker(Act::Remove, format!("network {name}"))(e)),
        }
    }

    /// Checks that the subnet does not overlap with a route of the machine, such as a VPN's: the bridge would hide that
    /// network, and the engine only checks its own networks.
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

impl Host {
    /// Ids of the servers that have networks, but no container in any of them; only ids with this prefix.
    pub async fn idle_servers(&self, prefix: &str) -> Result<Vec<String>> {
        let filter = HashMap::from([("label".to_owned(), vec![label::SERVER.to_owned()])]);
        let options = ListNetworksOptionsBuilder::new().filters(&filter).build();
        let mut idle = BTreeMap::new();
        let networks = self.0.docker().list_networks(Some(options)).await;
        for network in networks.map_err(EngineError::docker(Act::List, "networks"))? {
            let server = network.labels.and_then(|mut labels| labels.remove(label::SERVER)).unwrap_or_default();
            let (true, Some(id)) = (server.starts_with(prefix), network.id) else { continue };
            let details = match self.0.docker().inspect_network(&id, None).await {
                Ok(details) => details,
                Err(e) if status(&e) == Some(404) => continue,
                Err(e) => return Err(EngineError::docker(Act::Inspect, format!("network {id}"))(e)),
            };
            let empty = details.containers.is_none_or(|containers| containers.is_empty());
            *idle.entry(server).or_insert(true) &= empty;
        }
        Ok(idle.into_iter().filter_map(|(server, idle)| idle.then_some(server)).collect())
    }

    /// The subnets of all networks of the engine, and the addresses of this server.
    pub async fn container_networks(&self) -> Result<Vec<AddressBlock>> {
        let networks = self.0.docker().list_networks(None).await;
        let networks = networks.map_err(EngineError::docker(Act::List, "networks"))?;
        let blocks = networks.into_iter().filter_map(|network| network.ipam?.config).flatten();
        let subnets = blocks.filter_map(|block| block.subnet).chain([self.0.shared.addresses.range()]);
        Ok(subnets.filter_map(|subnet| subnet.parse().ok()).collect())
    }

    /// Removes all networks of this server.
    pub(super) async fn remove_networks(&self) -> Result<()> {
        let options = ListNetworksOptionsBuilder::new().filters(&self.0.filter(Some(Kind::Network))).build();
        let networks = self.0.docker().list_networks(Some(options)).await;
        let networks = networks.map_err(EngineError::docker(Act::List, "networks"))?;
        for id in networks.into_iter().filter_map(|network| network.id) {
            self.0.remove_network(&id).await?;
        }
        Ok(())
    }
}

/// A route of the machine.
struct KernelRoute<'a> {
    interface: &'a str,
    address: u32,
    mask: u32,
}

/// Reads a line of `/proc/net/route`; `None` for a default route.
fn route(line: &str) -> Option<KernelRoute<'_>> {
    let mut fields = line.split_ascii_whitespace();
    let interface = fields.next()?;
    let mut number = |n| u32::from_str_radix(fields.nth(n)?, 16).ok().map(|n| u32::from_be_bytes(n.to_ne_bytes()));
    let (address, mask) = (number(0)?, number(5)?);
    (mask != 0).then_some(KernelRoute { interface, address, mask })
}

/// Whether a subnet, given as `address/bits`, and the destination of a route overlap.
fn overlaps(subnet: &str, route: &KernelRoute<'_>) -> bool {
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
    #[cfg(target_endian = "little")]
    fn overlapping_routes_are_detected() {
        let docker0 = route("docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0").unwrap();
        assert_eq!(docker0.interface, "docker0");
        assert!(overlaps("172.17.4.0/22", &docker0));
        assert!(!overlaps("172.18.0.0/22", &docker0));
        let wide = route("tun0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0").unwrap();
        assert!(overlaps("10.210.0.0/22", &wide));
        assert!(route("eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0").is_none());
    }
}
