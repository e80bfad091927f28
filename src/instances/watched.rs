//! Instances for the watch over what they write.

use super::reconciler::Instances;
use crate::{
    engine::ContainerId,
    store::StoreError,
    workload::{Overuse, Watched},
};

impl Instances {
    /// The instances that have a container; one that has written too much has failed.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub async fn watched(&self) -> Result<Vec<Watched>, StoreError> {
        let rows = self.shared.store.all_instances().await?;
        let with_container = rows.into_iter().filter(|row| row.container.is_some()).map(|row| {
            let worker = self.worker(row.app);
            let container = ContainerId::from(&row.id);
            Watched {
                container,
                app: row.app,
                over: Box::new(move |overuse: Overuse| worker.report_overuse(row.id, overuse)),
            }
        });
        Ok(with_container.collect())
    }
}
