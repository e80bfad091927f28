//! What the workers of all apps share.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    check_target::{self, CheckSlots, CheckTarget},
    launch::Launcher,
    logs::Logs,
    pump::Pumps,
    routes::Routes,
};
use crate::{
    config::Config,
    engine::ContainerId,
    store::{Instance, PortMapping, Release, Store},
    workload::Runtime,
};

/// What the workers of all apps share.
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    pub(super) store: Store,
    pub(super) runtime: Runtime,
    pub(super) routes: Routes,
    pub(super) launcher: Launcher,
    pub(super) pumps: Pumps,
    pub(super) logs: Logs,
    pub(super) tracker: TaskTracker,
    pub(super) shutdown: CancellationToken,
}

impl Shared {
    /// What checks need to know of an instance of this release, to which these port mappings lead if it is exposed.
    pub(super) fn check_target(
        &self,
        row: &Instance,
        release: Arc<Release>,
        exposed: bool,
        mappings: &[PortMapping],
        slots: Arc<CheckSlots>,
    ) -> CheckTarget {
        CheckTarget {
            runtime: self.runtime.clone(),
            tracker: self.tracker.clone(),
            container: ContainerId::from(&row.id),
            port: row.port_of(mappings.first().filter(|_| exposed)),
            host: check_target::host(&self.config, exposed, mappings),
            release,
            slots,
        }
    }
}
