//! Scheduled stack updates: security updates reach the apps without an operator.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{deployer::Deployer, error::DeployError};
use crate::progress::{self, Progress};

impl Deployer {
    /// Updates all stacks at the configured interval and rebases the apps that are behind, until `stop`.
    pub async fn update_stacks_by_schedule(self, stop: CancellationToken) {
        let hours = self.0.config.stack.update_hours;
        if hours == 0 {
            return;
        }
        let (deployer, stop) = (&self, &stop);
        let interval = Duration::from_hours(hours);
        while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            let update = progress::relay(
                |progress| async move { deployer.update_all_stacks(&progress, stop).await },
                |line| async move { tracing::info!("{line}") },
            );
            if let Err(error) = stop.run_until_cancelled(update).await.unwrap_or(Ok(())) {
                tracing::error!(%error, "the stacks are not updated; the next update is in {hours} hours");
            }
        }
    }

    async fn update_all_stacks(&self, progress: &Progress, stop: &CancellationToken) -> Result<(), DeployError> {
        for (name, _) in self.0.store.stacks().await? {
            // One that fails keeps its revision, and does not keep the others from being updated.
            if let Err(error) = self.0.stacks.update(&name, progress).await {
                tracing::error!(%error, stack = name, "the stack is not updated; the next update is as scheduled");
            }
        }
        let apps = self.0.store.apps().await?.into_iter().filter(|app| !app.destroying).collect();
        let statuses = self.0.stacks.statuses(apps).await?;
        let behind = statuses.into_iter().filter(|status| status.is_behind).map(|status| status.app).collect();
        self.rebase_all(behind, "schedule", progress, stop).await;
        Ok(())
    }
}
