//! Apps come and go, with all that belongs to them.

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use super::{DeployError, Deployer};
use crate::{
    model::{AppName, BranchName},
    progress::Progress,
    store::{App, KeyId, PortMapping},
};

/// Between two attempts at finishing the destruction of an app.
const AGAIN: Duration = Duration::from_secs(10);

/// The first of these ports that the router could not open, and why.
fn of_these(failed: &[(SocketAddr, String)], mappings: &[PortMapping]) -> Option<(u16, String)> {
    let ours = |port: u16| mappings.iter().any(|mapping| mapping.host_port == port);
    failed.iter().map(|(address, reason)| (address.port(), reason.clone())).find(|(port, _)| ours(*port))
}

impl Deployer {
    /// Makes an app: its repository, its row, a port that it keeps. A repository without a row is nobody's, and empty:
    /// whoever makes the app next gets it.
    pub async fn create_app(&self, name: AppName, owner: Option<KeyId>) -> Result<App, DeployError> {
        let this = &self.0;
        let ports = this.config.router.first_port..=this.config.router.last_port;
        let mut avoid = Vec::new();
        this.repositories.create(&name).await?;
        let app = this.store.create_app(name, owner, ports.clone(), avoid.clone()).await?;
        // A port that another program has is seen when the router tries it.
        for _ in 0..ports.len() {
            let mine = this.store.port_mappings(app.id).await?;
            let failed = this.instances.publish_routes().await?.unwrap_or_default();
            let Some((port, _)) = of_these(&failed, &mine) else { break };
            avoid.push(port);
            this.store.move_automatic_port(app.id, ports.clone(), avoid.clone()).await?;
        }
        Ok(app)
    }

    /// Changes the app's port mappings to what `change` makes of them; when one cannot be opened, the old ones stay.
    pub async fn change_ports<E: From<DeployError>>(
        &self,
        app: &App,
        change: impl FnOnce(Vec<PortMapping>) -> Result<Vec<PortMapping>, E> + Send,
    ) -> Result<(), E> {
        let this = &self.0;
        let _one_at_a_time = this.ports.lock().await;
        let before = this.store.port_mappings(app.id).await.map_err(DeployError::from)?;
        let after = change(before.clone())?;
        Ok(self.set_ports(app, before, after).await?)
    }

    async fn set_ports(&self, app: &App, before: Vec<PortMapping>, after: Vec<PortMapping>) -> Result<(), DeployError> {
        let this = &self.0;
        let own = [this.config.ssh.listen.port(), this.config.registry.listen.port()];
        if let Some(mapping) = after.iter().find(|mapping| own.contains(&mapping.host_port)) {
            return Err(DeployError::Port { port: mapping.host_port, reason: "it is paas's own".to_owned() });
        }
        this.store.set_port_mappings(app.id, after.clone()).await?;
        let new = after.iter().find(|mapping| before.iter().all(|old| old.host_port != mapping.host_port));
        let refused = match this.instances.publish_routes().await? {
            Some(failed) => of_these(&failed, &after),
            // Unopened, a port may be another program's; those that were open before are.
            None => new.map(|mapping| (mapping.host_port, "the router does not answer".to_owned())),
        };
        let Some((port, reason)) = refused else { return Ok(()) };
        this.store.set_port_mappings(app.id, before).await?;
        this.instances.publish_routes().await?;
        Err(DeployError::Port { port, reason })
    }

    /// Chooses which branch is deployed, and cloned by default.
    pub async fn set_deploy_branch(&self, app: &App, branch: BranchName) -> Result<(), DeployError> {
        self.0.store.set_deploy_branch(app.id, branch.clone(), false).await?;
        Ok(self.0.repositories.get(&app.name).set_head(&branch).await?)
    }

    /// Destroys an app: from the moment at which its row says so, it is finished even if the server dies. What is under
    /// way for it is cancelled. What cannot be finished now goes on in the background.
    pub async fn destroy_app(&self, app: &App, progress: &Progress) -> Result<(), DeployError> {
        self.0.store.mark_destroying(app.id).await?;
        progress.step(format!("Destroying {}", app.name)).await;
        let destroyed = self.finish_destroying(app).await;
        if destroyed.is_err() {
            self.destroy_in_background(app.clone());
        }
        destroyed.map_err(|source| DeployError::Destroying(Box::new(source)))
    }

    /// Goes on until the app is destroyed.
    pub(super) fn destroy_in_background(&self, app: App) {
        let deployer = self.clone();
        let shutdown = self.0.shutdown.clone();
        let destroying = async move {
            tokio::time::sleep(AGAIN).await;
            while let Err(error) = deployer.finish_destroying(&app).await {
                tracing::warn!(app = %app.name, %error, "the app is not destroyed yet; trying again");
                tokio::time::sleep(AGAIN).await;
            }
            tracing::info!(app = %app.name, "the app is destroyed");
        };
        self.0.tracker.spawn(async move { shutdown.run_until_cancelled(destroying).await });
    }

    /// What is left to do for an app whose row says that it goes; can be done again.
    async fn finish_destroying(&self, app: &App) -> Result<(), DeployError> {
        let this = &self.0;
        let _pushes = this.pushes.destroyed(app.id).await;
        let _releases = this.releases.destroyed(app.id).await;
        this.instances.remove_app(app.id).await?;
        for release in this.store.releases(app.id, u32::MAX).await? {
            this.engine.remove_image_tag(&this.engine.release_tag(&app.name, release.number)).await?;
        }
        this.builder.forget(&app.id.0.to_string()).await?;
        this.builder.forget_dockerfile(&app.name).await?;
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
