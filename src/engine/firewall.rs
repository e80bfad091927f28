//! Packet filters of this server: a build reaches the Internet and nothing else; an instance reaches neither this machine,
//! nor a metadata service, nor other containers, except what an admin opens. What is closed is rejected, so that it fails at
//! once.

use std::net::IpAddr;

use tokio_util::sync::CancellationToken;

use super::{
    error::{EngineError, Result},
    filter_changes::{FilterChanges, has_containers},
    handle::Host,
};
use crate::model::Opening;

impl Host {
    /// Sets the packet filters; cheap if they are set already.
    pub async fn ensure_firewall(&self) -> Result<()> {
        self.0.shared.filters.resolve().await;
        self.restore_firewall().await.map(drop)
    }

    /// Restores the packet filters whenever another program changes them, until `shutdown`.
    pub async fn watch_firewall(self, shutdown: CancellationToken) {
        let _ = shutdown.run_until_cancelled(self.restore_forever()).await;
    }

    async fn restore_forever(&self) {
        let mut changes = FilterChanges::new(&self.0.filter_chains()).await;
        let interfaces = self.0.interface("");
        let mut reported = None;
        loop {
            changes.next(|| has_containers(&interfaces)).await;
            if !self.0.shared.filters.are_wanted() {
                continue;
            }
            match self.restore_firewall().await {
                Ok(restored) => {
                    if restored {
                        tracing::warn!("another program changed the packet filters; they are restored");
                    }
                    reported = None;
                }
                Err(error) => {
                    let text = error.to_string();
                    if reported.as_ref() != Some(&text) {
                        tracing::error!(error = text, "the packet filters are not restored; this is repeated");
                    }
                    reported = Some(text);
                }
            }
        }
    }

    /// Replaces the openings of all apps. Once this returns, a connection that none of them allows is cut. Cheap if nothing
    /// changes: no program is run.
    pub async fn set_openings(&self, openings: Vec<Opening>) -> Result<()> {
        if self.0.shared.filters.declare(openings) { self.restore_firewall().await.map(drop) } else { Ok(()) }
    }

    /// Sets the packet filters, with the names as they resolved last; whether they were not as they should be.
    async fn restore_firewall(&self) -> Result<bool> {
        let set = self.0.shared.filters.set(nameservers().await).await;
        set.map_err(|source| EngineError::CannotFilter { source })
    }

    /// Removes the packet filters.
    pub(super) async fn remove_firewall(&self) -> Result<()> {
        self.0.shared.filters.remove().await.map_err(|source| EngineError::CannotFilter { source })
    }
}

/// Name servers to which Docker forwards the queries of containers: those of the machine, except loopback addresses.
pub(crate) async fn nameservers() -> Vec<IpAddr> {
    let mut found = Vec::new();
    for path in ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"] {
        let text = tokio::fs::read_to_string(path).await.unwrap_or_default();
        let addresses = text.lines().filter_map(|line| {
            let address = line.trim().strip_prefix("nameserver")?.trim();
            address.parse::<IpAddr>().ok().filter(|a| !a.is_loopback() && !a.is_unspecified())
        });
        for address in addresses {
            if !found.contains(&address) {
                found.push(address);
            }
        }
    }
    found
}
