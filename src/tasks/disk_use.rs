//! Ends tasks that have written more files than they may.

use std::time::Duration;

use super::{running::Control, tasks::Tasks};
use crate::{
    engine::ContainerId,
    periodic::{Activated, Periodic},
    workload::{DiskWatch, Overuse},
};

/// Watches what tasks write.
pub struct TaskDiskUse {
    tasks: Tasks,
    watch: DiskWatch,
}

impl TaskDiskUse {
    /// For these tasks.
    pub fn new(tasks: Tasks) -> Self {
        let watch = DiskWatch::new(tasks.runtime().clone(), tasks.disk_mib());
        Self { tasks, watch }
    }
}

impl Periodic for TaskDiskUse {
    fn name(&self) -> &'static str {
        "task-disk-use"
    }

    fn period(&self) -> Duration {
        DiskWatch::INTERVAL
    }

    async fn activate(&self) -> Result<Activated, String> {
        let running = async {
            Ok(self.tasks.running().into_iter().map(|(id, control)| (ContainerId::from(&id), control)).collect())
        };
        let stop = |control: Control, overuse: Overuse| {
            control.stop(format!("stopped: {}; {}", overuse.reason(), overuse.hint()));
        };
        self.watch.look(running, stop).await
    }
}
