//! Tasks for the watch over what they write.

use super::tasks::Tasks;
use crate::{
    engine::ContainerId,
    store::StoreError,
    workload::{Overuse, Watched},
};

impl Tasks {
    /// The tasks that this server runs; one that has written too much is stopped.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub async fn watched(&self) -> Result<Vec<Watched>, StoreError> {
        let unended = self.store().unended_tasks().await?;
        let running = unended.into_iter().filter_map(|task| {
            let control = self.running().get(&task.id)?;
            let over = move |overuse: Overuse| {
                control.stop(format!("stopped: {}; {}", overuse.reason(), overuse.hint()));
            };
            Some(Watched { container: ContainerId::from(&task.id), app: task.app, over: Box::new(over) })
        });
        Ok(running.collect())
    }
}
