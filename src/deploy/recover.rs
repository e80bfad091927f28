//! Recovery at start, before connections are accepted: completes what an earlier server left unfinished.

use super::{deployer::Deployer, error::DeployError};
use crate::{git::RefChange, store::App};

impl Deployer {
    /// Sets the branches, and the other refs of atomic pushes, that a server which died after the commit point did not set,
    /// and goes on destroying the volumes and, in the background, the apps that were being destroyed. A broken repository of
    /// one app, or disk of a volume, does not keep the server from starting.
    pub async fn recover(&self) -> Result<(), DeployError> {
        self.0.buildpacks.remove_unrecorded().await?;
        if let Err(error) = self.0.volumes.remove_discarded().await {
            tracing::warn!(%error, "a volume is not destroyed yet; the next start tries it again");
        }
        for app in self.0.store.apps().await? {
            if app.destroying {
                self.destroy_in_background(app);
            } else if let Err(error) = self.recover_repository(&app).await {
                tracing::error!(app = %app.name, %error, "the app's repository cannot be used; the app keeps running");
            }
        }
        Ok(())
    }

    async fn recover_repository(&self, app: &App) -> Result<(), DeployError> {
        self.0.repositories.create(&app.name).await?;
        let repository = self.0.repositories.get(&app.name);
        repository.remove_stale_locks().await?;
        if let Some(release) = self.0.store.newest_push(app.id).await?.filter(|release| !release.ref_set) {
            tracing::info!(app = %app.name, branch = %release.branch, "setting the branch to the live release");
            let mut pushed = repository.pinned_with(&release.commit).await?;
            pushed.push((release.branch.clone().into(), Some(release.commit.clone())));
            let (names, new): (Vec<_>, Vec<_>) = pushed.into_iter().unzip();
            let states = repository.reader().ref_states(&names).await?;
            let mut changes = Vec::new();
            for ((name, new), state) in names.iter().zip(&new).zip(&states) {
                // The refs may have been set just before that server died.
                if *new != state.id {
                    changes.push(RefChange { name, old: state.id.as_ref(), new: new.as_ref() });
                }
            }
            self.set_refs(app, &repository, &release, &changes).await?;
        }
        repository.unpin_commit().await?;
        // The end of the next push tries it again.
        if let Err(error) = repository.reader().prune_shallow().await {
            tracing::warn!(app = %app.name, %error, "cannot clean up after a shallow push");
        }
        Ok(())
    }
}
