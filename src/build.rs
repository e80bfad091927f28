//! The build stage: source in, image out. Each build has one container, on a disk of the app's own; what comes out of
//! the container is verified, stored and assembled into an image.

mod budget;
mod builder;
mod buildpack;
mod builtin;
mod disks;
mod dockerfile;
mod downloads;
mod environment;
mod error;
mod fetch;
mod frames;
mod image_container;
mod notices;
mod offered_store;
mod offers;
mod outbound;
mod packages;
mod parts;
mod previous;
mod recipe;
mod remote;
mod run_packages;
mod session;
mod spooled;
mod standby;
mod sweep;
mod unpacked;

pub use budget::BuildBudget;
pub use builder::Builder;
pub use buildpack::Buildpack;
pub use builtin::Builtin;
pub use dockerfile::{ChosenDockerfile, DockerfileInput};
pub use downloads::Downloads;
pub use error::{BuildError, BuildpacksError};
pub use packages::{Package, Packages};
pub use parts::{LocalParts, local_parts};
pub use recipe::{BuildSettings, Recipe, RequestedBuildpack};
pub use spooled::SpooledPackage;
pub use sweep::BuildSweep;

use std::{collections::HashSet, sync::Arc};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_util::sync::CancellationToken;

use crate::{
    images::{NewBlob, not_kept_of_build},
    lifecycle::protocol::{BindingFile, BuildRequest, BuildResult, Built, Request},
    model::{AppName, Bindings, Digest},
    progress::Progress,
    store::UsedBuildpack,
};
use budget::Turn;
use builder::BuilderShared;
use disks::dockerfile_disk;
use environment::{BuildEnvironment, Cache, log_timings};
use previous::PreviousImage;
use session::{LifecycleSession, SentBlobs};

/// What is built.
pub struct BuildInput {
    /// Name of the app.
    pub app: AppName,
    /// Name of the app's disk, which no other app ever has.
    pub disk: String,
    /// Whose turn it takes, and what it may use.
    pub budget: BuildBudget,
    /// The source, as one tar.
    pub source: Box<dyn AsyncRead + Send + Unpin>,
    /// Manifest of the app's previous image; its layers need not be made again.
    pub previous: Option<Digest>,
    /// Metadata of the source that goes into the image (`io.buildpacks.project.metadata`).
    pub project: serde_json::Value,
}

/// What a build made.
#[derive(Debug)]
pub struct FinishedBuild {
    /// Manifest of the image.
    pub image: Digest,
    /// The buildpacks that took part; none in the build of a Dockerfile.
    pub buildpacks: Vec<UsedBuildpack>,
    /// Blobs that the store did not have before.
    new_blobs: Vec<NewBlob>,
}

impl Builder {
    /// Builds, when it is this build's turn. Returns the manifest of the image and the buildpacks that made it.
    /// Dropping the future cancels the build as well; in any case a task, for which [`Self::close`] waits, removes
    /// container and mounts.
    pub async fn build(
        &self,
        recipe: Recipe,
        input: BuildInput,
        progress: &Progress,
        cancel: CancellationToken,
    ) -> Result<FinishedBuild, BuildError> {
        let budget = input.budget;
        let build = |shared: Arc<BuilderShared>, turn, progress: Progress, cancel| async move {
            shared.build(recipe, input, turn, &progress, &cancel).await
        };
        self.in_turn(budget, progress, cancel, build).await
    }

    /// Removes what a build added to the blob store: its image is not wanted.
    pub async fn discard(&self, built: FinishedBuild) {
        self.0.remove_blobs(built.new_blobs).await;
    }

    /// Runs a build when it is its turn.
    async fn in_turn<T: Send + 'static, B: Future<Output = Result<T, BuildError>> + Send + 'static>(
        &self,
        budget: BuildBudget,
        progress: &Progress,
        cancel: CancellationToken,
        build: impl FnOnce(Arc<BuilderShared>, Turn, Progress, CancellationToken) -> B,
    ) -> Result<T, BuildError> {
        let mut ticket = self.0.queue.draw(budget.owner, budget.max_builds);
        let turn = async {
            loop {
                let ahead = match ticket.turn().await {
                    Ok(turn) => return turn,
                    Err(ahead) => ahead,
                };
                let builds = if ahead == 1 { "build" } else { "builds" };
                progress.step(format!("Waiting for {ahead} {builds} to end before this one")).await;
            }
        };
        let turn = tokio::select! {
            turn = turn => turn,
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        };
        if self.0.tasks.is_closed() {
            return Err(BuildError::ShuttingDown);
        }
        let cancel = cancel.child_token();
        let _cancel_when_dropped = cancel.clone().drop_guard();
        let task = self.0.tasks.spawn(build(Arc::clone(&self.0), turn, progress.clone(), cancel));
        task.await.map_err(|_| BuildError::ShuttingDown)?
    }
}

/// The files of bindings, and their contents.
fn binding_files(bindings: &Bindings) -> Vec<(BindingFile, &[u8])> {
    let mut files = Vec::new();
    for (name, binding) in bindings {
        for (file, content) in binding.files() {
            files.push((BindingFile { path: format!("{name}/{file}"), size: content.len() as u64 }, content));
        }
    }
    files
}

impl BuilderShared {
    async fn build(
        self: &Arc<Self>,
        recipe: Recipe,
        input: BuildInput,
        turn: Turn,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<FinishedBuild, BuildError> {
        let BuildInput { app, disk, budget, source, previous, project } = input;
        let mut previous = self.previous_image(previous).await?;
        let skip_restore = self.cache_was_cleared(&disk).await?;
        if skip_restore {
            previous.sbom = None;
        }
        // The stack may be updated meanwhile; what the image is assembled from stays.
        let run_image = recipe.stack.run.manifest.clone();
        self.blocking(move |this| Ok(this.images.complete(&run_image)?)).await?;
        let spec = self.recipe_spec(&recipe, progress);
        let mut environment = BuildEnvironment::open(self, spec, &app, &disk, budget.size, cancel).await?;
        let bindings = binding_files(&recipe.bindings);
        let request = self.request(&recipe, project, &previous, skip_restore, &bindings);
        let request = Request::Buildpacks(Box::new(request));
        let source: Box<dyn AsyncRead + Send + Unpin> = match previous.sbom.take() {
            Some((sbom, size)) => Box::new(tokio::fs::File::from_std(sbom).take(size).chain(source)),
            None => source,
        };
        let sent = SentBlobs::default();
        let session = LifecycleSession { bindings: &bindings, ..self.session(&previous.layers, &sent, progress) };
        let image = match environment.run(&session, &request, source, &self.config, cancel).await {
            Ok(BuildResult::Built(built)) => self.assemble(&app, recipe, *built, progress).await,
            Ok(_) => Err(BuildError::Protocol("it did something else than to build".to_owned())),
            Err(error) => Err(error),
        };
        self.close(environment, turn, &image).await;
        match image {
            Ok((image, buildpacks)) => {
                self.remove_one_disk(&dockerfile_disk(&disk)).await;
                self.forget_cleared(&disk).await?;
                Ok(FinishedBuild { image, buildpacks, new_blobs: sent.take() })
            }
            Err(error) => {
                self.remove_blobs(sent.take()).await;
                Err(error)
            }
        }
    }

    async fn previous_image(self: &Arc<Self>, manifest: Option<Digest>) -> Result<PreviousImage, BuildError> {
        let Some(manifest) = manifest else { return Ok(PreviousImage::default()) };
        self.blocking(move |this| PreviousImage::read(&this.images, &manifest)).await
    }

    fn request(
        &self,
        recipe: &Recipe,
        project: serde_json::Value,
        previous: &PreviousImage,
        skip_restore: bool,
        bindings: &[(BindingFile, &[u8])],
    ) -> BuildRequest {
        BuildRequest {
            order: recipe.order.clone(),
            env: recipe.env.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect(),
            operator_env: outbound::environment(&self.config.outbound),
            stack_id: recipe.stack.id.clone(),
            target: recipe.stack.target.clone(),
            project,
            previous: previous.metadata.clone(),
            known_blobs: previous.layers.iter().cloned().collect(),
            skip_restore,
            previous_sbom_bytes: previous.sbom.as_ref().map_or(0, |(_, size)| *size),
            bindings: bindings.iter().map(|(file, _)| file.clone()).collect(),
        }
    }

    /// Removes the blobs of a build that failed, or whose image is not wanted.
    async fn remove_blobs(self: &Arc<Self>, new: Vec<NewBlob>) {
        let removed = self.blocking(move |this| Ok(this.images.blobs().remove_new(&new)?)).await;
        if let Err(error) = removed {
            tracing::warn!(%error, "cannot remove the blobs of a failed build; they are removed when they are old");
        }
    }

    fn session<'a>(
        &'a self,
        known_layers: &'a HashSet<Digest>,
        sent: &'a SentBlobs,
        progress: &'a Progress,
    ) -> LifecycleSession<'a> {
        LifecycleSession {
            sent,
            blobs: self.images.blobs(),
            downloads: &self.downloads,
            tasks: &self.tasks,
            known_layers,
            bindings: &[],
            max_blob_bytes: self.config.build.disk_mib << 20,
            progress,
        }
    }

    async fn assemble(
        self: &Arc<Self>,
        app: &AppName,
        recipe: Recipe,
        built: Built,
        progress: &Progress,
    ) -> Result<(Digest, Vec<UsedBuildpack>), BuildError> {
        log_timings(app, &built.timings);
        if let Some(warning) = not_kept_of_build(built.labels.keys()) {
            progress.trouble(warning).await;
        }
        let group = built.buildpacks.iter().map(|b| (b.id.clone(), b.version.clone())).collect();
        let buildpacks = recipe.used(group);
        let stack = recipe.stack;
        self.blocking(move |this| Ok((this.images.assemble(&stack, &built)?.manifest, buildpacks))).await
    }

    /// Closes the environment, then ends the turn and starts a standby container for the next build. After a failure,
    /// waits until everything is removed; a successful build does not wait for that.
    async fn close<T>(self: &Arc<Self>, environment: BuildEnvironment, turn: Turn, built: &Result<T, BuildError>) {
        // With a full cache, the next build would fail as well.
        let cache = if matches!(built, Err(BuildError::DiskFull(_))) { Cache::Discard } else { Cache::Keep };
        let this = Arc::clone(self);
        let closing = self.tasks.spawn(async move {
            let spec = environment.close(cache).await;
            drop(turn);
            if this.config.build.standby {
                let starting = Arc::clone(&this);
                this.tasks
                    .spawn(async move { starting.standby.prepare(&starting.builds, spec, &starting.mounts()).await });
            }
        });
        if built.is_err() {
            let _ = closing.await;
        }
    }
}
