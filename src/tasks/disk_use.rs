//! Ends tasks that have written more files than they may.

use std::time::Duration;

use tokio::{sync::Mutex, time::Instant};

use super::tasks::Tasks;
use crate::{
    engine::ContainerId,
    periodic::{Activated, Periodic},
    workload::{DISK_WATCH_INTERVAL, DiskWatch, wrote_too_much},
};

/// Counts the files of tasks when the disk has lost space.
pub struct TaskDiskUse {
    tasks: Tasks,
    watch: Mutex<DiskWatch>,
}

impl TaskDiskUse {
    /// For these tasks.
    pub fn new(tasks: Tasks) -> Self {
        Self { tasks, watch: Mutex::default() }
    }
}

impl Periodic for TaskDiskUse {
    fn name(&self) -> &'static str {
        "task-disk-use"
    }

    fn period(&self) -> Duration {
        DISK_WATCH_INTERVAL
    }

    async fn activate(&self) -> Result<Activated, String> {
        let (runtime, limit_mib) = (self.tasks.runtime(), self.tasks.disk_mib());
        let running = self.tasks.running();
        let mut watch = self.watch.lock().await;
        let (free, began) = (runtime.free_bytes().await, Instant::now());
        if running.is_empty() || !watch.is_due(free, began) {
            return Ok(Activated::default());
        }
        for (id, control) in running {
            let container = ContainerId::from(&id);
            match runtime.written_bytes(&container).await {
                Ok(Some(bytes)) if bytes > limit_mib << 20 => {
                    let (reason, hint) = wrote_too_much(bytes, limit_mib);
                    control.stop(format!("stopped: {reason}; {hint}"));
                    // What it writes in its grace period fills the disk, too.
                    if let Err(error) = runtime.kill(&container).await {
                        tracing::warn!(%error, task = %id, "cannot end a task that writes too much; it is stopped");
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, task = %id, "cannot count what a task has written"),
            }
        }
        watch.counted(free, began, Instant::now());
        Ok(Activated::default())
    }
}
