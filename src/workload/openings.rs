//! Brings the openings in the packet filters to what the store declares.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use tokio::sync::Mutex;

use crate::{
    engine::{EngineError, Host, Result, addresses_of},
    model::{AddressBlock, AddressPlan, AppName, TargetPlace, internal_name},
    periodic::{Activated, Periodic},
    store::Store,
};

/// The openings of all apps; cheap to clone.
#[derive(Debug, Clone)]
pub struct Openings {
    store: Store,
    host: Host,
    addresses: AddressPlan,
    /// Held while the store is read and the filters are set, so that what was read earlier is not set later.
    applying: Arc<Mutex<()>>,
}

/// Resolves the names in the packet filters again.
pub struct NetworkNames(pub Openings);

impl Openings {
    /// The openings that this store declares, on this machine.
    pub fn new(store: Store, host: Host, addresses: AddressPlan) -> Self {
        Self { store, host, addresses, applying: Arc::default() }
    }

    /// Brings the packet filters to what the store declares now. Without a change it costs one read of the store.
    pub async fn apply(&self) -> Result<()> {
        let _lock = self.applying.lock().await;
        let openings = self.store.openings(self.addresses).await;
        self.host.set_openings(openings.map_err(|error| EngineError::NoOpenings(error.to_string()))?).await
    }

    /// The internal names of the apps that this one is linked to, and the address that they lead to.
    pub async fn linked_names(&self, app: &AppName) -> Result<Vec<(String, Ipv4Addr)>> {
        let linked = self.store.linked_names(app.clone()).await;
        let linked = linked.map_err(|error| EngineError::NoOpenings(error.to_string()))?;
        Ok(linked.iter().map(|to| (internal_name(to), self.addresses.router_address())).collect())
    }

    /// Networks of containers on this machine, in which nothing can be opened by address.
    pub async fn container_networks(&self) -> Result<Vec<AddressBlock>> {
        self.host.container_networks().await
    }

    /// The addresses that a name resolves to; `None` if it does not.
    pub async fn resolve(&self, name: &str) -> Option<Vec<IpAddr>> {
        addresses_of(name).await
    }

    /// Resolves the names that apps may reach; one that does not resolve keeps its addresses. Returns the number of those
    /// whose addresses changed.
    async fn resolve_all(&self) -> Result<usize, String> {
        let mut changed = 0;
        for (target, known) in self.store.named_targets().await.map_err(|error| error.to_string())? {
            let TargetPlace::Name(name) = &target.place else { continue };
            let Some(addresses) = self.resolve(name).await.filter(|addresses| *addresses != known) else { continue };
            self.store.set_target_addresses(target, addresses).await.map_err(|error| error.to_string())?;
            changed += 1;
        }
        Ok(changed)
    }
}

impl Periodic for NetworkNames {
    fn name(&self) -> &'static str {
        "network-names"
    }

    fn period(&self) -> Duration {
        Duration::from_mins(1)
    }

    fn at_start(&self) -> bool {
        true
    }

    async fn activate(&self) -> Result<Activated, String> {
        let Self(openings) = self;
        let changed = openings.resolve_all().await?;
        openings.apply().await.map_err(|error| error.to_string())?;
        // The names in the configuration, too.
        openings.host.update_firewall().await.map_err(|error| error.to_string())?;
        Ok(match changed {
            0 => Activated::default(),
            changed => Activated::did(format!("names with other addresses than before: {changed}")),
        })
    }
}
