//! The watch over what instances and tasks write.

use std::time::Duration;

use super::deployer::Deployer;
use crate::{
    model::Resource,
    periodic::{Activated, Periodic},
    store::StoreError,
    workload::{DiskWatch, Subjects},
};

/// Kills instances and tasks that have written too much, themselves or with the others of their owner.
pub struct WrittenFiles(pub Deployer);

impl Periodic for WrittenFiles {
    fn name(&self) -> &'static str {
        "written-files"
    }

    fn period(&self) -> Duration {
        DiskWatch::INTERVAL
    }

    async fn activate(&self) -> Result<Activated, String> {
        let this = &self.0.0;
        // Else running tasks would not be counted before the disk has lost space again.
        this.tasks.adopted().await;
        let subjects = async {
            let workloads = [this.instances.watched().await?, this.tasks.watched().await?];
            let limits = this.store.owner_limits(Resource::Written).await?;
            Ok(Subjects { workloads: workloads.into_iter().flatten().collect(), limits })
        };
        this.disk_watch.look(subjects).await.map_err(|error: StoreError| error.to_string())
    }
}
