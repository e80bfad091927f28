//! Apps come and go, with all that belongs to them.

use std::io::ErrorKind;

use super::{DeployError, Deployer};
use crate::{
    model::{AppName, BranchName},
    progress::Progress,
    store::{App, KeyId, PortMapping},
};

impl Deployer {
    /// Makes an app: its row, a port that it keeps, its repository.
    pub async fn create_app(&self, name: AppName, owner: Option<KeyId>) -> Result<App, DeployError> {
        let this = &self.0;
        let ports = this.config.router.first_port..=this.config.router.last_port;
        let mut avoid = Vec::new();
        let app = this.store.create_app(name, owner, ports.clone(), avoid.clone()).await?;
        this.repositories.create(&app.name).await?;
        // A port that another program has is seen when the router tries it.
        for _ in 0..ports.len() {
            let mine = this.store.port_mappings(app.id).await?;
            match self.refused(&mine).await? {
                None => break,
                Some((port, _)) => {
                    avoid.push(port);
                    this.store.move_automatic_port(app.id, ports.clone(), avoid.clone()).await?;
                }
            }
        }
        Ok(app)
    }

    /// Replaces the app's port mappings; when one cannot be opened, the old ones stay.
    pub async fn set_ports(&self, app: &App, mappings: Vec<PortMapping>) -> Result<(), DeployError> {
        let this = &self.0;
        let before = this.store.port_mappings(app.id).await?;
        let ports = this.config.router.first_port..=this.config.router.last_port;
        let automatic = before.len() == 1 && ports.contains(&before[0].host_port);
        this.store.set_port_mappings(app.id, mappings.clone()).await?;
        let Some((port, reason)) = self.refused(&mappings).await? else { return Ok(()) };
        this.store.set_port_mappings(app.id, if automatic { Vec::new() } else { before }).await?;
        this.instances.publish_routes().await?;
        Err(DeployError::Port { port, reason })
    }

    /// Publishes the routes; the first of these ports that could not be opened, and why.
    async fn refused(&self, mappings: &[PortMapping]) -> Result<Option<(u16, String)>, DeployError> {
        let failed = self.0.instances.publish_routes().await?;
        let of_ours = |port: u16| mappings.iter().any(|m| m.host_port == port);
        Ok(failed.into_iter().map(|(address, reason)| (address.port(), reason)).find(|(port, _)| of_ours(*port)))
    }

    /// Chooses which branch is deployed, and cloned by default.
    pub async fn set_deploy_branch(&self, app: &App, branch: BranchName) -> Result<(), DeployError> {
        self.0.store.set_deploy_branch(app.id, branch.clone(), false).await?;
        Ok(self.0.repositories.get(&app.name).set_head(&branch).await?)
    }

    /// Destroys an app: from the moment at which its row says so, it is finished even if the server dies.
    pub async fn destroy_app(&self, app: &App, progress: &Progress) -> Result<(), DeployError> {
        self.0.store.mark_destroying(app.id).await?;
        progress.step(format!("Destroying {}", app.name)).await;
        self.finish_destroying(app).await
    }

    /// What is left to do for an app whose row says that it goes; can be done again.
    pub(super) async fn finish_destroying(&self, app: &App) -> Result<(), DeployError> {
        let this = &self.0;
        this.instances.remove_app(app.id).await?;
        for release in this.store.releases(app.id, u32::MAX).await? {
            this.engine.remove_image_tag(&this.engine.release_tag(&app.name, release.number)).await?;
        }
        this.builder.forget(&app.name).await?;
        this.repositories.remove(&app.name).await?;
        let logs = self.build_logs(app.id);
        match tokio::fs::remove_dir_all(&logs).await {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(DeployError::File { act: "remove", path: logs, source });
            }
            _ => {}
        }
        this.store.forget_app(app.id).await?;
        this.instances.publish_routes().await?;
        this.pushes.forget(app.id);
        this.releases.forget(app.id);
        Ok(())
    }
}
