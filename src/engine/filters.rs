//! What the packet filters depend on: the configuration, names as they resolve, and the openings of apps.

mod rules;
mod table;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Mutex, PoisonError},
};

use futures_util::future::join_all;
use tokio::sync::OnceCell;

use super::{child::ChildError, lookup::addresses_of};
use crate::{
    config::{Config, InstanceNetwork},
    model::{Destination, NetworkTarget, Opening, TargetPlace, host_and_port},
};
pub(super) use rules::FilterNames;
use rules::{Family, FilterInput, ServerOpening};

/// Port of a proxy whose URL names none, for curl; other programs take that of the scheme.
const CURL_PROXY_PORT: u16 = 1080;

/// What the packet filters depend on, besides the addresses of this server.
#[derive(Debug)]
pub(super) struct Filters {
    names: FilterNames,
    settings: Settings,
    /// Held while the packet filters are read and changed.
    lock: tokio::sync::Mutex<()>,
    /// Set once the names of the configuration were resolved for the first time.
    first_resolved: OnceCell<()>,
    state: Mutex<State>,
}

/// What the configuration says.
#[derive(Debug)]
struct Settings {
    instances: InstanceNetwork,
    /// `network.allow`.
    allow: Vec<NetworkTarget>,
    /// Hosts and ports of the proxies of builds.
    proxies: Vec<(String, u16)>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the packet filters are to be there: they were set, and not removed.
    wanted: bool,
    /// Whether the packet filters were set since this process started, with these openings.
    set: bool,
    /// Openings of apps.
    openings: Vec<Opening>,
    /// Addresses that names of the configuration resolved to when they last resolved.
    resolved: Vec<(String, Vec<IpAddr>)>,
}

impl Filters {
    pub(super) fn new(config: &Config, names: FilterNames) -> Self {
        let outbound = &config.outbound;
        let proxies = [&outbound.http_proxy, &outbound.https_proxy].into_iter().flatten();
        Self {
            names,
            settings: Settings {
                instances: config.network.instances,
                allow: config.network.allow.clone(),
                proxies: proxies.flat_map(|url| proxy(url)).collect(),
            },
            lock: tokio::sync::Mutex::default(),
            first_resolved: OnceCell::new(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the openings of apps; whether the packet filters must be set for that.
    pub(super) fn declare(&self, mut openings: Vec<Opening>) -> bool {
        openings.sort();
        openings.dedup();
        let mut state = self.state();
        let changed = state.openings != openings;
        state.openings = openings;
        state.set &= !changed;
        !state.set
    }

    /// Whether the packet filters were set since this process started.
    pub(super) fn are_set(&self) -> bool {
        self.state().set
    }

    /// Sets the packet filters; whether they were not as they should be.
    pub(super) async fn set(&self, nameservers: Vec<Ipv4Addr>, uplinks: Vec<String>) -> Result<bool, ChildError> {
        let _lock = self.lock.lock().await;
        let input = self.input(nameservers, uplinks);
        let result = set_tables(&input).await;
        let mut state = self.state();
        state.wanted = true;
        // What was declared meanwhile is to be set again.
        state.set = result.is_ok() && state.openings == input.openings;
        result
    }

    /// Whether the packet filters are to be there.
    pub(super) fn are_wanted(&self) -> bool {
        self.state().wanted
    }

    /// Removes the packet filters.
    pub(super) async fn remove(&self) -> Result<(), ChildError> {
        let _lock = self.lock.lock().await;
        {
            let mut state = self.state();
            (state.set, state.wanted) = (false, false);
        }
        let input = self.input(Vec::new(), Vec::new());
        for family in [Family::V4, Family::V6] {
            table::remove(&input.rules(family)).await?;
        }
        table::remove_raw(&self.names.interfaces).await;
        Ok(())
    }

    /// Removes packet filters that a server which does not exist any more has left for the range of this one.
    pub(super) async fn remove_left(&self) -> Result<(), ChildError> {
        let _lock = self.lock.lock().await;
        table::remove_closing(self.names.router, &self.names.interfaces).await
    }

    fn input(&self, nameservers: Vec<Ipv4Addr>, uplinks: Vec<String>) -> FilterInput<'_> {
        FilterInput {
            names: &self.names,
            nameservers,
            uplinks,
            proxies: self.proxies(),
            instances: self.settings.instances,
            allowed: self.allowed(),
            openings: self.state().openings.clone(),
        }
    }

    /// Resolves the names of the configuration, unless that was done before: a name server that does not respond is to hold
    /// up one build, not every build.
    pub(super) async fn resolve_once(&self) {
        self.first_resolved.get_or_init(|| self.resolve()).await;
    }

    /// Resolves the names of the configuration, all at the same time. One that does not resolve keeps the addresses that it
    /// had.
    pub(super) async fn resolve(&self) {
        let allowed = self.settings.allow.iter().filter_map(|target| match &target.place {
            TargetPlace::Name(name) => Some(name),
            TargetPlace::ThisMachine | TargetPlace::Block(_) => None,
        });
        let mut names: Vec<_> = self.settings.proxies.iter().map(|(host, _)| host).chain(allowed).collect();
        names.sort();
        names.dedup();
        let found = join_all(names.iter().map(|name| addresses_of(name))).await;
        let mut state = self.state();
        for (name, addresses) in names.into_iter().zip(found) {
            let Some(addresses) = addresses else { continue };
            state.resolved.retain(|(known, _)| known != name);
            state.resolved.push((name.clone(), addresses));
        }
    }

    fn addresses_of(&self, name: &str) -> Vec<IpAddr> {
        let state = self.state();
        let known = state.resolved.iter().find(|(known, _)| known == name);
        known.map_or_else(Vec::new, |(_, addresses)| addresses.clone())
    }

    fn proxies(&self) -> Vec<SocketAddr> {
        let proxies = self.settings.proxies.iter();
        proxies
            .flat_map(|(host, port)| self.addresses_of(host).into_iter().map(|a| SocketAddr::new(a, *port)))
            .collect()
    }

    fn allowed(&self) -> Vec<ServerOpening> {
        let opening = |destination, port| ServerOpening { destination, port };
        let openings = self.settings.allow.iter().flat_map(|target| match &target.place {
            TargetPlace::ThisMachine => vec![opening(Destination::ThisMachine, target.port)],
            TargetPlace::Block(block) => vec![opening(Destination::Block(*block), target.port)],
            TargetPlace::Name(name) => {
                let addresses = self.addresses_of(name).into_iter();
                addresses.map(|address| opening(Destination::Resolved(address), target.port)).collect()
            }
        });
        openings.collect()
    }
}

async fn set_tables(input: &FilterInput<'_>) -> Result<bool, ChildError> {
    let changed = table::ensure(&input.rules(Family::V4)).await?;
    table::ensure_raw(&input.names.to_filters()).await?;
    match table::ensure(&input.rules(Family::V6)).await {
        // Our containers have no IPv6 address, so the filters are not needed where ip6tables is missing.
        Err(e) if e.is_missing() || !std::path::Path::new("/proc/net/if_inet6").exists() => Ok(changed),
        other => Ok(other? || changed),
    }
}

/// Host and ports of a proxy.
fn proxy(url: &str) -> Vec<(String, u16)> {
    let with_scheme = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let Some((host, port)) = host_and_port(&with_scheme).filter(|(host, _)| !host.is_empty()) else {
        return Vec::new();
    };
    let host = host.trim_matches(['[', ']']).to_owned();
    let default = if with_scheme.starts_with("https:") { 443 } else { 80 };
    match port.and_then(|port| port.parse().ok()) {
        Some(port) => vec![(host, port)],
        None => vec![(host.clone(), default), (host, CURL_PROXY_PORT)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_build_resolves_no_name_that_was_resolved_before() {
        let mut config = Config::default();
        config.outbound.http_proxy = Some("http://localhost:3128".to_owned());
        let names = FilterNames {
            chains: "PAAS-1".into(),
            build_interface: "pa-1-b".into(),
            interfaces: "pa-1-+".into(),
            own_range: "10.210.0.0/16".into(),
            router: Ipv4Addr::new(10, 210, 0, 1),
        };
        let filters = Filters::new(&config, names);
        let is_open = || !filters.proxies().is_empty();
        filters.resolve_once().await;
        assert!(is_open());
        filters.state().resolved.clear();
        filters.resolve_once().await;
        assert!(!is_open(), "it was not resolved again");
        filters.resolve().await;
        assert!(is_open());
    }

    #[test]
    fn host_and_port_of_a_proxy_are_found() {
        let proxy = |url| proxy(url).into_iter().map(|(host, port)| format!("{host} {port}")).collect::<Vec<_>>();
        assert_eq!(proxy("http://user:secret@proxy.example:3128/"), ["proxy.example 3128"]);
        assert_eq!(proxy("10.0.0.5:3128"), ["10.0.0.5 3128"]);
        assert_eq!(proxy("http://[fd00::7]:3128"), ["fd00::7 3128"]);
        assert_eq!(proxy("http://proxy"), ["proxy 80", "proxy 1080"]);
        assert_eq!(proxy("https://proxy"), ["proxy 443", "proxy 1080"]);
        assert_eq!(proxy(""), [""; 0]);
    }
}
