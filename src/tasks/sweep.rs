//! What is done for tasks from time to time.

use std::time::Duration;

use super::tasks::Tasks;
use crate::periodic::{Activated, Periodic};

/// Removes containers that belong to no task.
pub struct TaskSweep(pub Tasks);

impl Periodic for TaskSweep {
    fn name(&self) -> &'static str {
        "stray-task-containers"
    }

    fn period(&self) -> Duration {
        Duration::from_mins(10)
    }

    async fn activate(&self) -> Result<Activated, String> {
        self.0.adopted().await;
        self.0.remove_strays().await.map_err(|error| error.to_string())?;
        Ok(Activated::default())
    }
}
