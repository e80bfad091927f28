//! Scheduled stack updates: security updates reach the apps without an operator.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{deployer::Deployer, error::DeployError};
use crate::{
    periodic::{Activated, Periodic},
    progress::{self, Progress},
};

/// Updates all stacks at the configured interval and rebases the apps that are behind.
pub struct StackUpdates {
    deployer: Deployer,
    period: Duration,
}

impl StackUpdates {
    /// The updates that are configured, if any are.
    pub fn configured(deployer: &Deployer) -> Option<Self> {
        let hours = deployer.0.config.stack.update_hours;
        (hours > 0).then(|| Self { deployer: deployer.clone(), period: Duration::from_hours(hours) })
    }
}

impl Periodic for StackUpdates {
    fn name(&self) -> &'static str {
        "stack-updates"
    }

    fn period(&self) -> Duration {
        self.period
    }

    async fn activate(&self) -> Result<Activated, String> {
        self.deployer.floor().check().map_err(|below| below.to_string())?;
        let update = progress::relay(
            |progress| async move { self.deployer.update_all_stacks(&progress, &self.deployer.0.shutdown).await },
            |line| async move { tracing::info!("{line}") },
        );
        update.await.map(Activated::did).map_err(|error| error.to_string())
    }
}

impl Deployer {
    async fn update_all_stacks(&self, progress: &Progress, stop: &CancellationToken) -> Result<String, DeployError> {
        let mut failed = 0;
        for (name, _) in self.0.store.stacks().await? {
            // One that fails keeps its revision, and does not keep the others from being updated.
            if let Err(error) = self.0.stacks.update(&name, progress).await {
                tracing::error!(%error, stack = name, "the stack is not updated; the next update is as scheduled");
                failed += 1;
            }
        }
        let apps = self.0.store.apps().await?.into_iter().filter(|app| !app.destroying).collect();
        let statuses = self.0.stacks.statuses(apps).await?;
        let behind: Vec<_> = statuses.into_iter().filter(|status| status.is_behind).map(|status| status.app).collect();
        let count = behind.len();
        self.rebase_all(behind, "schedule", progress, stop).await;
        Ok(format!("apps that were behind: {count}; stacks that could not be updated: {failed}"))
    }
}
