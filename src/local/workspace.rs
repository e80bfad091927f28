//! The workspace of local builds: a data folder with the same engine, image store and builder as a server's.

use std::{fs::File, path::Path, sync::Arc};

use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    address_range, data_dir,
    error::{LocalError, Result},
};
use crate::{
    build::{BuildBudget, Builder, Package},
    config::Config,
    engine::{Engine, ImageId, Kind},
    git::Repositories,
    images::{ImageStore, Registry, Stack, StackDefinition},
    model::{BuildpackSource, Digest, Secret},
    progress::Progress,
};

/// Everything that local builds need, from [`Workspace::open`] to [`Workspace::close`].
pub(super) struct Workspace {
    pub(super) engine: Engine,
    pub(super) images: ImageStore,
    pub(super) config: Arc<Config>,
    pub(super) builder: Builder,
    pub(super) stack: Stack,
    repositories: Repositories,
    registry_token: Secret,
    tracker: TaskTracker,
    stopped: CancellationToken,
    _lock: File,
}

impl Workspace {
    /// Locks the data folder, and connects to the engine.
    pub(super) async fn open(config: &Config, progress: &Progress) -> Result<Self> {
        let mut config = config.clone();
        config.data_dir = data_dir::path()?;
        let lock = data_dir::lock(&config.data_dir, config.user_id)?;
        let failed = || LocalError::file("listen on", Path::new("127.0.0.1"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed())?;
        config.registry.listen = listener.local_addr().map_err(failed())?;
        // The process ends before a standby container could be used.
        config.build.standby = false;
        let server_id = data_dir::server_id(&config.data_dir).await?;
        let engine = address_range::connect(&mut config, &server_id).await?;
        let config = Arc::new(config);
        let images = ImageStore::open(&config.data_dir)?;
        images.blobs().remove_unfinished()?;
        let (tracker, stopped, registry_token) =
            (TaskTracker::new(), CancellationToken::new(), Registry::random_token());
        tracker.spawn(Registry::new(images.clone(), &registry_token).serve(listener, stopped.clone()));
        let stack = StackDefinition::embedded()?.bootstrap(&config.stack, "", &images, progress).await?;
        let builder = Builder::new(
            Arc::clone(&config),
            engine.builds.clone(),
            engine.images.clone(),
            images.clone(),
            registry_token.clone(),
        )
        .await?;
        let repositories = Repositories::open(&config, None).await?;
        Ok(Self { engine, images, config, builder, stack, repositories, registry_token, tracker, stopped, _lock: lock })
    }

    /// Waits for background work, and removes instances and control group from the engine.
    pub(super) async fn close(self) -> Result<()> {
        self.builder.close().await;
        self.stopped.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        for container in self.engine.containers.list(Some(Kind::Instance)).await? {
            self.engine.containers.remove(&container.id).await?;
        }
        self.engine.host.remove_build_group().await;
        Ok(())
    }

    /// Fetches a package of buildpacks.
    pub(super) async fn fetch(&self, source: &BuildpackSource, progress: &Progress) -> Result<Package> {
        Ok(self.builder.fetch(source, &self.repositories, true, BuildBudget::default(), progress).await?)
    }

    /// Clears the build cache on a disk; the next build starts from nothing.
    pub(super) async fn clear_cache(&self, disk: &str) -> Result<()> {
        Ok(self.builder.clear_cache(disk).await?)
    }

    /// Removes a disk, and with it the build cache.
    pub(super) async fn remove_disk(&self, disk: &str) -> Result<()> {
        Ok(self.builder.remove_disk(disk).await?)
    }

    /// Loads an image into the engine, and tags it.
    pub(super) async fn load_image(&self, image: &Digest, tag: &str) -> Result<ImageId> {
        let reference = format!("{}/local@{image}", self.config.registry.listen);
        let id = self.engine.images.pull(&reference, self.registry_token.expose()).await?;
        self.engine.images.tag_for_user(&id, tag).await?;
        // The registry has another port next time; then nothing would identify this name as ours.
        self.engine.images.forget_pulled(&reference).await?;
        Ok(id)
    }
}
