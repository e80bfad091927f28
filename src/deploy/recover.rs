//! After a start: what an earlier server left half done is given up or finished, before any door opens.

use std::time::Duration;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{DeployError, Deployer};
use crate::store::App;

/// Between two attempts at finishing the destruction of an app.
const AGAIN: Duration = Duration::from_secs(10);

impl Deployer {
    /// Sets the branch of each app's newest pushed release to its commit, and finishes apps that were being destroyed:
    /// these in the background, on `tracker` until `shutdown`, since what holds one up must not keep the doors shut.
    pub async fn recover(&self, tracker: &TaskTracker, shutdown: &CancellationToken) -> Result<(), DeployError> {
        let this = &self.0;
        for app in this.store.apps().await? {
            if app.destroying {
                let (deployer, shutdown) = (self.clone(), shutdown.clone());
                tracker.spawn(async move { shutdown.run_until_cancelled(deployer.keep_destroying(&app)).await });
                continue;
            }
            this.repositories.create(&app.name).await?;
            let repository = this.repositories.get(&app.name);
            repository.remove_stale_locks().await?;
            let Some((branch, commit)) = this.store.newest_push(app.id).await? else { continue };
            let actual = repository.ref_value(&branch).await?;
            if actual.as_ref() != Some(&commit) {
                tracing::info!(app = %app.name, %branch, %commit, "the ref follows the release that is live");
                repository.update_ref(&branch, &commit, actual.as_ref()).await?;
            }
        }
        Ok(())
    }

    /// Destroys until it is done.
    async fn keep_destroying(&self, app: &App) {
        while let Err(error) = self.finish_destroying(app).await {
            tracing::warn!(app = %app.name, %error, "the app is not destroyed yet; trying again");
            tokio::time::sleep(AGAIN).await;
        }
        tracing::info!(app = %app.name, "the app is destroyed, as was asked before the restart");
    }
}
