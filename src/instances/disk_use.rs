//! Ends instances that have written more files than they may.

use std::time::Duration;

use tokio::{sync::Mutex, time::Instant};

use super::workers::Workers;
use crate::{
    engine::ContainerId,
    periodic::{Activated, Periodic},
    workload::{DISK_WATCH_INTERVAL, DiskWatch},
};

/// Counts the files of instances when the disk has lost space.
pub(super) struct DiskUse {
    pub(super) workers: Workers,
    pub(super) watch: Mutex<DiskWatch>,
}

impl Periodic for DiskUse {
    fn name(&self) -> &'static str {
        "instance-disk-use"
    }

    fn period(&self) -> Duration {
        DISK_WATCH_INTERVAL
    }

    async fn activate(&self) -> Result<Activated, String> {
        let shared = self.workers.shared();
        let mut watch = self.watch.lock().await;
        let (free, began) = (shared.runtime.free_bytes().await, Instant::now());
        if !watch.is_due(free, began) {
            return Ok(Activated::default());
        }
        let limit = shared.config.instances.disk_mib << 20;
        let mut exceeding = 0;
        // One after the other: nobody waits for it.
        for row in shared.store.all_instances().await.map_err(|error| error.to_string())? {
            if row.container.is_none() {
                continue;
            }
            match shared.runtime.written_bytes(&ContainerId::from(&row.id)).await {
                Ok(Some(bytes)) if bytes > limit => {
                    self.workers.handle(row.app).report_overuse(row.id, bytes);
                    exceeding += 1;
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, instance = %row.id, "cannot count what an instance has written"),
            }
        }
        watch.counted(free, began, Instant::now());
        Ok(match exceeding {
            0 => Activated::default(),
            count => Activated::did(format!("instances over instances.disk_mib: {count}")),
        })
    }
}
