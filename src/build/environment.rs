//! Environment of one build: the mounted disk of the app, and a container in the control group and on the network of
//! builds (the engine adapter puts every build container there).

use std::{
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
    session::{Conversation, LifecycleSession, is_full_disk},
    standby::AssignedContainer,
};
use crate::{
    config::Config,
    engine::{
        BuildContainer, BuildExit, BuildNetwork, BuildSpec, ImageId, Mount,
        disk::{Disk, MountedDisk},
    },
    images::Stack,
    lifecycle::{
        apt,
        protocol::{BuildResult, Phase, Request},
    },
    model::{AppName, Line, PartialSize},
    progress::Progress,
};

/// Time that a container has to end after a build that failed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// An open environment. It must be closed: dropping it leaves disk and container until the server starts again.
pub(super) struct BuildEnvironment {
    app: AppName,
    disk: MountedDisk,
    /// What this container has in common with those of other apps' builds of this kind.
    spec: BuildSpec,
    /// What of its size is this app's own.
    size: PartialSize,
    container: AssignedContainer,
}

/// Whether the app's disk, which holds the build cache, is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cache {
    Keep,
    Discard,
}

impl BuildEnvironment {
    /// Mounts the app's disk, and gets a container on it: the standby container, if it has this `spec`, or a new one.
    pub(super) async fn open(
        builder: &Arc<BuilderShared>,
        spec: impl Future<Output = Result<BuildSpec, BuildError>>,
        app: &AppName,
        disk: &str,
        size: PartialSize,
        cancel: &CancellationToken,
    ) -> Result<Self, BuildError> {
        let begun = Instant::now();
        let (image, mount_point) = (builder.disk_image(disk), builder.mounts().join(disk));
        let disk = Disk::open(&image, builder.config.build.disk_mib, &mount_point).await?;
        tracing::debug!(millis = begun.elapsed().as_millis(), "the disk is mounted");
        match builder.start_container(spec, app, &disk, size, cancel).await {
            Ok((spec, container)) => Ok(Self { app: app.clone(), disk, spec, size, container }),
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
        request: &Request,
        source: Box<dyn AsyncRead + Send + Unpin>,
        config: &Config,
        cancel: &CancellationToken,
    ) -> Result<BuildResult, BuildError> {
        let limit = Duration::from_secs(config.build.timeout_seconds);
        let conversation = tokio::select! {
            conversation = session.run(&mut self.container.container, request, source) => conversation?,
            () = tokio::time::sleep(limit) => return Err(BuildError::TimedOut(limit.as_secs())),
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        };
        let memory_mib = self.spec.sized(self.size).memory_mib;
        let container = &mut self.container.container;
        result_of(conversation, container, &self.disk, memory_mib, Some(&self.app), config).await
    }

    /// Removes the container and unmounts the disk. Returns the spec for a standby container for the next build.
    pub(super) async fn close(self, cache: Cache) -> BuildSpec {
        self.container.remove().await;
        close_disk(self.disk, cache).await;
        self.spec
    }
}

/// The result that a container on this disk, with this memory limit, sent. If it failed because it reached a limit, that is the
/// error. `app`: whose build it is.
pub(super) async fn result_of(
    conversation: Conversation,
    container: &mut BuildContainer,
    disk: &MountedDisk,
    memory_mib: u64,
    app: Option<&AppName>,
    config: &Config,
) -> Result<BuildResult, BuildError> {
    let failed = match conversation.result {
        Some(BuildResult::Failed { message, .. }) if is_full_disk(&message) => {
            return Err(BuildError::DiskFull(config.build.disk_mib));
        }
        Some(BuildResult::Failed { phase, message }) => {
            Some(BuildError::Failed { phase, message: Line::sanitize(&message) })
        }
        Some(result) => return Ok(result),
        None => None,
    };
    let exit = match tokio::time::timeout(EXIT_TIMEOUT, container.wait()).await {
        Ok(exit) => exit?,
        Err(_) => BuildExit { code: 0, oom_killed: false },
    };
    Err(match failed {
        _ if exit.oom_killed => BuildError::OutOfMemory { memory_mib, app: app.cloned() },
        _ if conversation.disk_full_reported || disk.is_full() => BuildError::DiskFull(config.build.disk_mib),
        Some(failed) => failed,
        None => BuildError::Died { code: exit.code, last: conversation.last_stderr },
    })
}

/// Notes how long the phases of a build took, in milliseconds.
pub(super) fn log_timings(app: &AppName, timings: &[(Phase, u64)]) {
    let timings: Vec<_> = timings.iter().map(|(phase, millis)| format!("{phase:?} {millis}")).collect();
    tracing::info!(%app, phases = timings.join(", "), "built");
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
        spec: impl Future<Output = Result<BuildSpec, BuildError>>,
        app: &AppName,
        disk: &MountedDisk,
        size: PartialSize,
        cancel: &CancellationToken,
    ) -> Result<(BuildSpec, AssignedContainer), BuildError> {
        let spec = tokio::select! {
            spec = spec => spec?,
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        };
        let sized = spec.sized(size);
        let container = match self.standby.take(&self.builds, &sized, app, disk).await? {
            Some(container) => container,
            None => AssignedContainer::new(self.builds.run_build(&sized.for_app(app, disk)).await?),
        };
        Ok((spec, container))
    }

    /// The container of any app's build by this recipe.
    pub(super) async fn recipe_spec(
        self: &Arc<Self>,
        recipe: &Recipe,
        progress: &Progress,
    ) -> Result<BuildSpec, BuildError> {
        let build_image = self.build_image(&recipe.stack, progress).await?;
        let run_image = recipe.stack.run.manifest.clone();
        let run_packages = self.blocking(move |this| {
            run_packages::file(&this.images, &run_image, &this.config.data_dir.join("run-packages"))
        });
        let mut mounts = vec![
            Mount::read_only(self.downloads.dir(), "/cnb/downloads"),
            Mount::read_only(&run_packages.await?, apt::RUN_PACKAGES),
        ];
        mounts.extend(recipe.buildpacks.iter().map(|b| Mount::read_only(&b.folder, b.target())));
        Ok(self.container_spec(build_image, mounts))
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
        self.pull_build_image(&format!("{}-build@{manifest}", stack.id), &tag).await
    }

    /// Has the engine pull an image from the registry, and tags it.
    pub(super) async fn pull_build_image(&self, name: &str, tag: &str) -> Result<ImageId, BuildError> {
        let reference = format!("{}/{name}", self.config.registry.listen);
        let image = self.engine_images.pull(&reference, self.registry_token.expose()).await?;
        self.engine_images.tag(&image, tag).await?;
        // The registry may have another port next time; then nothing would identify this name as ours.
        self.engine_images.forget_pulled(&reference).await?;
        Ok(image)
    }

    /// A build container of this image, with what all have in common.
    pub(super) fn container_spec(&self, image: ImageId, more_mounts: Vec<Mount>) -> BuildSpec {
        let limits = &self.config.build;
        let mut mounts = vec![Mount::read_only(&self.lifecycle.path, "/cnb/lifecycle/lifecycle")];
        mounts.extend(more_mounts);
        mounts.extend(self.ca_bundle.iter().map(|path| Mount::read_only(path, outbound::CA_BUNDLE)));
        BuildSpec {
            app: None,
            image,
            mounts,
            env: Vec::new(),
            entrypoint: vec!["/cnb/lifecycle/lifecycle".to_owned()],
            cmd: vec!["build".to_owned()],
            cpu_millis: limits.cpus.saturating_mul(1000),
            memory_mib: limits.memory_mib,
            pids: limits.pids,
            namespaces: false,
            network: BuildNetwork::Builds,
        }
    }
}
