//! Creating and destroying apps, with everything that belongs to them.

use std::{io::ErrorKind, time::Duration};

use super::{deployer::Deployer, error::DeployError, rebuild::DeployBranchState};
use crate::{
    model::{AppName, BranchName},
    progress::Progress,
    store::{App, UserId},
};

/// Time between two attempts to finish the destruction of an app.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

impl Deployer {
    /// Creates an app: its repository, its row, and a port that it keeps. A repository without a row is empty and
    /// belongs to nobody: the next app of this name gets it.
    pub async fn create_app(&self, name: AppName, owner: Option<UserId>) -> Result<App, DeployError> {
        let this = &self.0;
        let ports = this.config.router.first_port..=this.config.router.last_port;
        this.repositories.create(&name).await?;
        let app = this.store.create_app(name, owner, ports, Vec::new()).await?;
        this.ports.settle_automatic(&app).await?;
        Ok(app)
    }

    /// Sets the branch that is deployed, and cloned by default. What a clone checks out stays as it is until the repository has
    /// it, if that exists.
    pub async fn set_deploy_branch(&self, app: &App, branch: BranchName) -> Result<DeployBranchState, DeployError> {
        self.0.store.set_deploy_branch(app.id, branch.clone(), false).await?;
        let repository = self.0.repositories.get(&app.name);
        let reader = repository.reader();
        let state = self.deploy_branch_state(app, Some(&branch), &reader).await?;
        if state.tip.is_some() || !reader.has_head().await? {
            repository.set_head(&branch).await?;
        }
        Ok(state)
    }

    /// Destroys an app, and cancels its pushes and rollouts. Once its row is marked, the destruction is completed even
    /// if the server dies; what fails now is tried again in the background.
    pub async fn destroy_app(&self, app: &App, progress: &Progress) -> Result<(), DeployError> {
        self.0.store.mark_destroying(app.id).await?;
        progress.step(format!("Destroying {}", app.name)).await;
        let destroyed = self.finish_destroying(app).await;
        if destroyed.is_err() {
            self.destroy_in_background(app.clone());
        }
        destroyed.map_err(|source| DeployError::Destroying(Box::new(source)))
    }

    /// Tries to finish the destruction of an app until that succeeds.
    pub(super) fn destroy_in_background(&self, app: App) {
        let deployer = self.clone();
        let shutdown = self.0.shutdown.clone();
        let destroying = async move {
            tokio::time::sleep(RETRY_INTERVAL).await;
            while let Err(error) = deployer.finish_destroying(&app).await {
                tracing::warn!(app = %app.name, %error, "the app is not destroyed yet; trying again");
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            tracing::info!(app = %app.name, "the app is destroyed");
        };
        self.0.tracker.spawn(async move { shutdown.run_until_cancelled(destroying).await });
    }

    /// Removes what is left of an app whose row is marked as being destroyed. Idempotent.
    async fn finish_destroying(&self, app: &App) -> Result<(), DeployError> {
        let this = &self.0;
        let _pushes = this.pushes.lock_destroyed(app.id).await;
        let _releases = this.releases.lock_destroyed(app.id).await;
        this.tasks.remove_app(app.id).await?;
        this.instances.remove_app(app.id).await?;
        this.volumes.remove_app(app.id).await?;
        for release in this.store.releases(app.id, u32::MAX).await? {
            this.engine_images.remove_image_tag(&this.engine_images.release_tag(&app.name, release.number)).await?;
        }
        this.builder.remove_disk(&app.id.0.to_string()).await?;
        this.repositories.remove(&app.name).await?;
        let logs = self.build_logs(app.id);
        match tokio::fs::remove_dir_all(&logs).await {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(DeployError::File { act: "remove", path: logs, source });
            }
            _ => {}
        }
        // Links from and to it are closed before another app can get one of its ports.
        this.instances.publish_routes().await?;
        this.store.forget_app(app.id).await?;
        this.instances.publish_routes().await?;
        this.pushes.forget(app.id);
        this.releases.forget(app.id);
        Ok(())
    }
}
