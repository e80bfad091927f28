//! What health checks need to know of an instance, and what bounds the checks of one app.

use std::{net::IpAddr, sync::Arc};

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::{
    config::Config,
    engine::ContainerId,
    store::{PortMapping, PortScheme, Release},
    workload::Runtime,
};

/// Number of connections of checks to the instances of one app at a time.
const MAX_CONNECTIONS: usize = 8;
/// Number of commands of checks in the containers of one app at a time.
const MAX_COMMANDS: usize = 2;

/// Bounds what the checks of one app do at a time.
#[derive(Debug)]
pub(super) struct CheckSlots {
    pub(super) connections: Semaphore,
    pub(super) commands: Semaphore,
}

impl Default for CheckSlots {
    fn default() -> Self {
        Self { connections: Semaphore::new(MAX_CONNECTIONS), commands: Semaphore::new(MAX_COMMANDS) }
    }
}

/// What checks need to know of an instance; cheap to clone.
#[derive(Clone)]
pub(super) struct CheckTarget {
    pub(super) runtime: Runtime,
    /// Runs what must go on when a check is given up.
    pub(super) tracker: TaskTracker,
    pub(super) container: ContainerId,
    /// Value of its variable `PORT`.
    pub(super) port: u16,
    /// The host that requests ask for, unless the app declares another.
    pub(super) host: String,
    pub(super) release: Arc<Release>,
    pub(super) slots: Arc<CheckSlots>,
}

impl CheckTarget {
    pub(super) fn at(self, address: IpAddr) -> CheckedInstance {
        CheckedInstance { target: self, address }
    }
}

/// An instance, as checks reach it; cheap to clone.
#[derive(Clone)]
pub(super) struct CheckedInstance {
    pub(super) target: CheckTarget,
    pub(super) address: IpAddr,
}

/// The host that requests to an instance ask for: the one in the app's URL, as its users do. An app that serves only the
/// hosts that it knows serves that one, or nobody.
pub(super) fn host(config: &Config, exposed: bool, mappings: &[PortMapping]) -> String {
    let http = mappings.iter().find(|mapping| mapping.scheme == PortScheme::Http).filter(|_| exposed);
    match http.map(|mapping| mapping.host_port) {
        None => "localhost".to_owned(),
        Some(80) => config.hostname.clone(),
        Some(port) => format!("{}:{port}", config.hostname),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_that_of_the_apps_url() {
        let config = Config { hostname: "paas.example".into(), ..Config::default() };
        let mapping = |scheme, host_port| PortMapping { scheme, host_port, container_port: 8080 };
        let (tcp, http) = (mapping(PortScheme::Tcp, 7000), mapping(PortScheme::Http, 10_001));
        assert_eq!(host(&config, true, &[tcp.clone(), http.clone()]), "paas.example:10001");
        assert_eq!(host(&config, true, &[mapping(PortScheme::Http, 80)]), "paas.example");
        assert_eq!(host(&config, true, &[tcp]), "localhost");
        assert_eq!(host(&config, false, &[http]), "localhost");
    }
}
