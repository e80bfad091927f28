//! After a start: what an earlier server left half done is given up or finished, before any door opens.

use super::{DeployError, Deployer};

impl Deployer {
    /// Gives up whatever was on trial or being built; call before the reconciler starts.
    pub async fn abandon_interrupted(store: &crate::store::Store) -> Result<(), DeployError> {
        Ok(store.abandon_all_interrupted().await?)
    }

    /// Sets the branch of each app's newest pushed release to its commit, and finishes apps that were being destroyed.
    pub async fn recover(&self) -> Result<(), DeployError> {
        let this = &self.0;
        for app in this.store.apps().await? {
            if app.destroying {
                self.finish_destroying(&app).await?;
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
}
