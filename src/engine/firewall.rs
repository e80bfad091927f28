//! Packet filters of this server: a build reaches the Internet and nothing else; an instance reaches neither this machine,
//! nor a metadata service, nor other containers, except what an admin opens. What is closed is rejected, so that it fails at
//! once.

use tokio_util::sync::CancellationToken;

use super::{
    error::{EngineError, Result},
    filter_changes::{FilterChanges, has_containers},
    handle::Host,
    resolver::nameservers,
};
use crate::model::Opening;

impl Host {
    /// Sets the packet filters; cheap if they are set already. The names of the configuration are resolved once: see
    /// [`Self::update_firewall`].
    pub async fn ensure_firewall(&self) -> Result<()> {
        self.0.shared.filters.resolve_once().await;
        self.restore_firewall().await.map(drop)
    }

    /// Resolves the names of the configuration again, which may take seconds, and sets the packet filters.
    pub async fn update_firewall(&self) -> Result<()> {
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
        let filters = &self.0.shared.filters;
        if !filters.declare(openings) {
            return Ok(());
        }
        self.ensure_firewall().await
    }

    /// Sets the packet filters, with the names as they resolved last; whether they were not as they should be.
    async fn restore_firewall(&self) -> Result<bool> {
        let set = self.0.shared.filters.set(nameservers().await, uplinks().await).await;
        set.map_err(|source| EngineError::CannotFilter { source })
    }

    /// Removes packet filters that a server which does not exist any more has left for the range of this one, whose networks
    /// exist: they would reject what instances answer to the router.
    pub async fn remove_left_filters(&self) -> Result<()> {
        self.0.shared.filters.remove_left().await.map_err(|source| EngineError::CannotFilter { source })
    }

    /// Removes the packet filters.
    pub(super) async fn remove_firewall(&self) -> Result<()> {
        self.0.shared.filters.remove().await.map_err(|source| EngineError::CannotFilter { source })
    }
}

/// Interfaces of this machine's default routes.
async fn uplinks() -> Vec<String> {
    let table = tokio::fs::read_to_string("/proc/net/route").await.unwrap_or_default();
    let mut found: Vec<_> = table.lines().skip(1).filter_map(uplink).map(str::to_owned).collect();
    found.dedup();
    found
}

/// The interface of a line of `/proc/net/route`, if it is a default route.
fn uplink(line: &str) -> Option<&str> {
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    let is_default = fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000");
    fields.first().copied().filter(|_| is_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_found() {
        assert_eq!(uplink("br-lan\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0"), Some("br-lan"));
        assert_eq!(uplink("docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0"), None);
        assert_eq!(uplink(""), None);
    }
}
