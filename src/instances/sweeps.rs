//! What the reconciler does from time to time, in case an event was missed or another program changed something.

use std::time::Duration;

use super::{adopt, workers::Workers};
use crate::periodic::{Activated, Periodic};

/// Has the workers of all apps verify that their instances still run.
pub(super) struct Verification(pub(super) Workers);

/// Removes containers without a row, and restores packet filters: another program that reloads the machine's filters
/// removes them.
pub(super) struct Sweep(pub(super) Workers);

/// Brings the name servers of all instances and tasks up to date with those of the machine, which may change with its
/// network.
pub(super) struct NameServers(pub(super) Workers);

impl Periodic for NameServers {
    fn name(&self) -> &'static str {
        "name-servers"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn at_start(&self) -> bool {
        true
    }

    async fn activate(&self) -> Result<Activated, String> {
        self.0.shared().runtime.update_resolver().await.map_err(|error| error.to_string())?;
        Ok(Activated::default())
    }
}

impl Periodic for Verification {
    fn name(&self) -> &'static str {
        "instance-verification"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(30)
    }

    async fn activate(&self) -> Result<Activated, String> {
        adopt::verify_all(&self.0).await.map_err(|error| error.to_string())?;
        Ok(Activated::default())
    }
}

impl Periodic for Sweep {
    fn name(&self) -> &'static str {
        "stray-containers"
    }

    fn period(&self) -> Duration {
        Duration::from_mins(10)
    }

    async fn activate(&self) -> Result<Activated, String> {
        let shared = self.0.shared();
        let removed = adopt::remove_strays(shared).await.map(drop).map_err(|error| error.to_string());
        let restored = shared.runtime.maintain().await.map_err(|error| error.to_string());
        removed.and(restored)?;
        Ok(Activated::default())
    }
}
