//! The port mappings of apps: changed only to ports that the router can open.

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::Mutex;

use super::error::DeployError;
use crate::{
    config::Config,
    instances::Instances,
    store::{App, PortMapping, PortScheme, Store},
};

/// Assigns, checks and changes port mappings.
pub struct Ports {
    config: Arc<Config>,
    store: Store,
    instances: Instances,
    /// Held while an app's port mappings are read and changed.
    change: Mutex<()>,
}

impl Ports {
    pub(super) fn new(config: Arc<Config>, store: Store, instances: Instances) -> Self {
        Self { config, store, instances, change: Mutex::default() }
    }

    /// Moves the port of a new app until the router can open it: only the router sees that another program has a port.
    pub(super) async fn settle_automatic(&self, app: &App) -> Result<(), DeployError> {
        let ports = self.config.router.first_port..=self.config.router.last_port;
        let mut avoid = Vec::new();
        for _ in 0..ports.len() {
            let mappings = self.store.port_mappings(app.id).await?;
            let failed = self.instances.publish_routes().await?.unwrap_or_default();
            let Some((port, _)) = self.first_failed(&failed, &mappings) else { break };
            avoid.push(port);
            self.store.move_automatic_port(app.id, ports.clone(), avoid.clone()).await?;
        }
        Ok(())
    }

    /// Replaces the app's port mappings by the result of `change`. If the router cannot open one of them, the old ones
    /// stay.
    pub async fn change<E: From<DeployError>>(
        &self,
        app: &App,
        change: impl FnOnce(Vec<PortMapping>) -> Result<Vec<PortMapping>, E> + Send,
    ) -> Result<(), E> {
        let _one_at_a_time = self.change.lock().await;
        let before = self.store.port_mappings(app.id).await.map_err(DeployError::from)?;
        let after = change(before.clone())?;
        Ok(self.set(app, before, after).await?)
    }

    async fn set(&self, app: &App, before: Vec<PortMapping>, after: Vec<PortMapping>) -> Result<(), DeployError> {
        let own = [self.config.ssh.listen.port(), self.config.registry.listen.port()];
        if let Some(mapping) = after.iter().find(|mapping| own.contains(&mapping.host_port)) {
            return Err(DeployError::Port { port: mapping.host_port, reason: "paas itself listens on it".to_owned() });
        }
        self.store.set_port_mappings(app.id, after.clone()).await?;
        let new = after.iter().find(|mapping| before.iter().all(|old| old.host_port != mapping.host_port));
        let refused = match self.instances.publish_routes().await? {
            Some(failed) => self.first_failed(&failed, &after),
            // Without the router, nobody knows whether a new port is free; a port that was open before is.
            None => new.map(|mapping| (mapping.host_port, "the router does not respond".to_owned())),
        };
        let Some((port, reason)) = refused else { return Ok(()) };
        self.store.set_port_mappings(app.id, before).await?;
        self.instances.publish_routes().await?;
        Err(DeployError::Port { port, reason })
    }

    /// The first port of these mappings that the router could not open, and why. At the internal address of linked apps it can
    /// as soon as an instance runs.
    fn first_failed(&self, failed: &[(SocketAddr, String)], mappings: &[PortMapping]) -> Option<(u16, String)> {
        let is_mapped = |port: u16| mappings.iter().any(|mapping| mapping.host_port == port);
        let outside = failed.iter().filter(|(address, _)| self.config.router.listen.contains(&address.ip()));
        outside.map(|(address, reason)| (address.port(), reason.clone())).find(|(port, _)| is_mapped(*port))
    }

    /// The URL of a mapped port.
    pub fn url(&self, mapping: &PortMapping) -> String {
        let scheme = match mapping.scheme {
            PortScheme::Http => "http",
            PortScheme::Tcp => "tcp",
        };
        format!("{scheme}://{}:{}", self.config.hostname, mapping.host_port)
    }
}
