//! What the workers of all apps share.

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    check_target::{self, CheckSlots, CheckTarget},
    container,
    failure::InstanceFailure,
    launch::Launcher,
    logs::Logs,
    pump::Pumps,
    routes::Routes,
};
use crate::{
    config::Config,
    engine::{Container, ContainerId},
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
    /// Why a healthy instance has failed, if its container does not run any more at the instance's address.
    pub(super) fn failure_of(&self, row: &Instance, container: Option<&Container>) -> Option<InstanceFailure> {
        container::failure_of(row, container, self.config.instances.memory_mib)
    }
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
