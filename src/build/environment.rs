//! Environment of one build: the mounted disk of the app, and a container in the control group and on the network of
//! builds (the engine adapter puts every build container there).

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use super::{
    builder::BuilderShared,
    error::BuildError,
    outbound,
    recipe::Recipe,
    run_packages,
    session::{Conversation, LifecycleSession},
    standby::AssignedContainer,
};
use crate::{
    config::Config,
    engine::{
        BuildExit, BuildSpec, ImageId, Mount,
        disk::{Disk, MountedDisk},
    },
    images::Stack,
    lifecycle::{
        apt,
        protocol::{BuildRequest, BuildResult, Built},
    },
    model::{AppName, Line},
    progress::Progress,
};

/// Time that a container has to end after a build that failed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// An open environment. It must be closed: dropping it leaves disk and container until the server starts again.
pub(super) struct BuildEnvironment {
    disk: MountedDisk,
    /// What this container has in common with those of all builds by this recipe.
    spec: BuildSpec,
    container: AssignedContainer,
}

/// Whether the app's disk, which holds the build cache, is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cache {
    Keep,
    Discard,
}

impl BuildEnvironment {
    /// Mounts the app's disk, and gets a container on it: the standby container, if it fits the recipe, or a new one.
    pub(super) async fn open(
        builder: &Arc<BuilderShared>,
        recipe: &Recipe,
        app: &AppName,
        disk: &str,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Self, BuildError> {
        let begun = Instant::now();
        let (image, mount_point) = (builder.disk_image(disk), builder.mounts().join(disk));
        let disk = Disk::open(&image, builder.config.build.disk_mib, &mount_point).await?;
        tracing::debug!(millis = begun.elapsed().as_millis(), "the disk is mounted");
        match builder.start_container(recipe, app, &disk, progress, cancel).await {
            Ok((spec, container)) => Ok(Self { disk, spec, container }),
            Err(error) => {
                close_disk(disk, Cache::Keep).await;
                Err(error)
            }
        }
    }

    /// Runs the build in the container, within the configured limits.
    pub(super) async fn run(
        &mut self,
        session: &LifecycleSession<'_>,
        request: &BuildRequest,
        source: Box<dyn AsyncRead + Send + Unpin>,
        config: &Config,
        cancel: &CancellationToken,
    ) -> Result<Built, BuildError> {
        let limit = Duration::from_secs(config.build.timeout_seconds);
        let conversation = tokio::select! {
            conversation = session.run(&mut self.container.container, request, source) => conversation?,
            () = tokio::time::sleep(limit) => return Err(BuildError::TimedOut(limit.as_secs())),
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        };
        self.result(conversation, config).await
    }

    /// The result that the container sent. If it failed because it reached a limit, that is the error.
    async fn result(&mut self, conversation: Conversation, config: &Config) -> Result<Built, BuildError> {
        let failed = match conversation.result {
            Some(BuildResult::Built(built)) => return Ok(*built),
            Some(BuildResult::Failed { phase, message }) => {
                Some(BuildError::Failed { phase, message: Line::sanitize(&message) })
            }
            None => None,
        };
        let exit = match tokio::time::timeout(EXIT_TIMEOUT, self.container.container.wait()).await {
            Ok(exit) => exit?,
            Err(_) => BuildExit { code: 0, oom_killed: false },
        };
        Err(match failed {
            _ if exit.oom_killed => BuildError::OutOfMemory(config.build.memory_mib),
            _ if conversation.disk_full_reported || self.disk.is_full() => BuildError::DiskFull(config.build.disk_mib),
            Some(failed) => failed,
            None => BuildError::Died { code: exit.code, last: conversation.last_stderr },
        })
    }

    /// Removes the container and unmounts the disk. Returns the spec for a standby container for the next build.
    pub(super) async fn close(self, cache: Cache) -> BuildSpec {
        self.container.remove().await;
        close_disk(self.disk, cache).await;
        self.spec
    }
}

async fn close_disk(disk: MountedDisk, cache: Cache) {
    let closed = match cache {
        Cache::Keep => disk.close().await,
        Cache::Discard => disk.discard().await,
    };
    if let Err(error) = closed {
        tracing::error!(%error, "a build disk is not closed");
    }
}

impl BuilderShared {
    async fn start_container(
        self: &Arc<Self>,
        recipe: &Recipe,
        app: &AppName,
        disk: &MountedDisk,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(BuildSpec, AssignedContainer), BuildError> {
        let build_image = tokio::select! {
            image = self.build_image(&recipe.stack, progress) => image?,
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        };
        let run_image = recipe.stack.run.manifest.clone();
        let run_packages = self.blocking(move |this| {
            run_packages::file(&this.images, &run_image, &this.config.data_dir.join("run-packages"))
        });
        let spec = self.container_spec(recipe, build_image, &run_packages.await?);
        let container = match self.standby.take(&self.builds, &spec, app, disk).await? {
            Some(container) => container,
            None => AssignedContainer::new(self.builds.run_build(&spec.for_app(app, disk)).await?),
        };
        Ok((spec, container))
    }

    /// The stack's build image on the engine: pulled if the engine lacks it, and tagged so that nobody prunes it.
    async fn build_image(&self, stack: &Stack, progress: &Progress) -> Result<ImageId, BuildError> {
        let manifest = &stack.build.manifest;
        let tag = self.engine_images.own_tag("build", &manifest.hex()[..16]);
        let _one_at_a_time = self.pull.lock().await;
        if let Some(image) = self.engine_images.image_id(&tag).await? {
            return Ok(image);
        }
        progress.step(format!("Loading the build image of {} into Docker (only once)", stack.id)).await;
        let reference = format!("{}/{}-build@{manifest}", self.config.registry.listen, stack.id);
        let image = self.engine_images.pull(&reference, self.registry_token.expose()).await?;
        self.engine_images.tag(&image, &tag).await?;
        // The registry may have another port next time; then nothing would identify this name as ours.
        self.engine_images.forget_pulled(&reference).await?;
        Ok(image)
    }

    /// The container of any app's build by this recipe.
    fn container_spec(&self, recipe: &Recipe, image: ImageId, run_packages: &Path) -> BuildSpec {
        let limits = &self.config.build;
        let mut mounts = vec![
            Mount::read_only(&self.lifecycle.path, "/cnb/lifecycle/lifecycle"),
            Mount::read_only(self.downloads.dir(), "/cnb/downloads"),
            Mount::read_only(run_packages, apt::RUN_PACKAGES),
        ];
        mounts.extend(recipe.buildpacks.iter().map(|b| Mount::read_only(&b.folder, b.target())));
        mounts.extend(self.ca_bundle.iter().map(|path| Mount::read_only(path, outbound::CA_BUNDLE)));
        BuildSpec {
            app: None,
            image,
            mounts,
            env: Vec::new(),
            entrypoint: vec!["/cnb/lifecycle/lifecycle".to_owned()],
            cmd: vec!["build".to_owned()],
            cpus: limits.cpus,
            memory_mib: limits.memory_mib,
            pids: limits.pids,
        }
    }
}
