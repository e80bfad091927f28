//! After a start: what an earlier server left half done is finished, before any door opens.

use super::{DeployError, Deployer};
use crate::store::App;

impl Deployer {
    /// Sets branches that a server which died after its commit point could not set, and finishes apps that were being
    /// destroyed: these in the background. What is wrong with one app's repository does not keep the doors shut.
    pub async fn recover(&self) -> Result<(), DeployError> {
        self.remove_stray_packages().await?;
        for app in self.0.store.apps().await? {
            if app.destroying {
                self.destroy_in_background(app);
            } else if let Err(error) = self.recover_repository(&app).await {
                tracing::error!(app = %app.name, %error, "the app's repository cannot be used; it runs on");
            }
        }
        Ok(())
    }

    async fn recover_repository(&self, app: &App) -> Result<(), DeployError> {
        self.0.repositories.create(&app.name).await?;
        let repository = self.0.repositories.get(&app.name);
        repository.remove_stale_locks().await?;
        if let Some(release) = self.0.store.newest_push(app.id).await?.filter(|release| !release.ref_set) {
            tracing::info!(app = %app.name, branch = %release.branch, "the branch follows the release that is live");
            let actual = repository.ref_value(&release.branch).await?;
            self.set_ref(app, &repository, &release, actual.as_ref()).await?;
        }
        Ok(repository.unpin_commit().await?)
    }
}
