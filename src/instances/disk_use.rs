//! Ends instances that have written more files than they may.

use std::time::Duration;

use super::workers::Workers;
use crate::{
    engine::ContainerId,
    periodic::{Activated, Periodic},
    workload::DiskWatch,
};

/// Watches what instances write.
pub(super) struct InstanceDiskUse {
    workers: Workers,
    watch: DiskWatch,
}

impl InstanceDiskUse {
    pub(super) fn new(workers: Workers) -> Self {
        let shared = workers.shared();
        let watch = DiskWatch::new(shared.runtime.clone(), shared.config.instances.disk_mib);
        Self { workers, watch }
    }
}

impl Periodic for InstanceDiskUse {
    fn name(&self) -> &'static str {
        "instance-disk-use"
    }

    fn period(&self) -> Duration {
        DiskWatch::INTERVAL
    }

    async fn activate(&self) -> Result<Activated, String> {
        let with_container = async {
            let rows = self.workers.shared().store.all_instances().await.map_err(|error| error.to_string())?;
            let rows = rows.into_iter().filter(|row| row.container.is_some());
            Ok(rows.map(|row| (ContainerId::from(&row.id), row)).collect())
        };
        self.watch
            .look(with_container, |row, overuse| self.workers.handle(row.app).report_overuse(row.id, overuse))
            .await
    }
}
