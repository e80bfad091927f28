//! The build stage: source in, image out. One container for each build, on a disk of the app's own; what comes out of
//! it is verified, stored and assembled to an image.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{io::AsyncRead, sync::Mutex};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::Config,
    engine::{
        BuildContainer, BuildExit, BuildSpec, Engine, EngineError, ImageId, Mount,
        disk::{Disk, DiskError, FOLDERS, MountedDisk},
    },
    images::{ImageError, ImageStore, Stack},
    lifecycle::protocol::{BuildRequest, BuildResult, Built, Phase},
    model::{AppName, Digest, Line, Secret},
    progress::Progress,
};

mod buildpacks;
mod frames;
mod outbound;
mod queue;
mod session;

pub use buildpacks::{Buildpack, Buildpacks, BuildpacksError};
pub use queue::{Queue, Turn};

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The app cannot be built as it is: the user's to mend.
    #[error("{message}")]
    Failed {
        /// In which phase.
        phase: Phase,
        /// What is wrong and what to do.
        message: String,
    },
    /// It took too long.
    #[error("the build was stopped after {0} seconds: make it faster, or raise build.timeout_seconds in paas.toml")]
    TimedOut(u64),
    /// Something in it was killed for want of memory.
    #[error("the build ran out of memory ({0} MiB): make it need less, or raise build.memory_mib in paas.toml")]
    OutOfMemory(u64),
    /// Its disk is full.
    #[error(
        "the build ran out of disk space ({0} MiB, cache included; the cache is now empty): push again, make it need \
         less, or raise build.disk_mib in paas.toml"
    )]
    DiskFull(u64),
    /// It printed without end.
    #[error("the build was stopped: it printed more than {0} MiB; make it print less")]
    TooMuchOutput(u64),
    /// Whoever asked for it went away.
    #[error("the build was cancelled")]
    Cancelled,
    /// Someone else's build uses the disk, or it cannot be had.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Blobs cannot be stored, or make no image.
    #[error(transparent)]
    Images(#[from] ImageError),
    /// The source cannot be read.
    #[error("cannot read the source: {0}")]
    Source(#[source] std::io::Error),
    /// The container ended without a result.
    #[error("the build container ended without a result (exit code {code}); push again{}", said(.last))]
    Died {
        /// Its exit code.
        code: i64,
        /// What it printed last, past the protocol.
        last: String,
    },
    /// The container does not speak our protocol, or lies.
    #[error("the build container's answer is not understood: {0}")]
    Protocol(String),
    /// The buildpacks of this installation are broken: the operator's to mend.
    #[error(transparent)]
    Buildpacks(#[from] BuildpacksError),
    /// The configured certificates are no use, or cannot be stored.
    #[error("{0}")]
    CaBundle(#[source] std::io::Error),
    /// The server ends.
    #[error("the server is shutting down; push again in a moment")]
    ShuttingDown,
}

fn said(last: &str) -> String {
    if last.is_empty() { String::new() } else { format!(". It said: {last}") }
}

/// What is to be built.
pub struct BuildInput {
    /// For which app.
    pub app: AppName,
    /// The name of its disk, which no other app ever has.
    pub disk: String,
    /// The source, as one tar.
    pub source: Box<dyn AsyncRead + Send + Unpin>,
    /// The manifest of the app's last image: what is in it need not be made again.
    pub previous: Option<Digest>,
}

/// Builds apps; cheap to clone.
#[derive(Clone)]
pub struct Builder {
    inner: Arc<Inner>,
}

struct Inner {
    config: Arc<Config>,
    engine: Engine,
    images: ImageStore,
    stack: Stack,
    token: Secret,
    lifecycle: PathBuf,
    buildpacks: Buildpacks,
    /// Stands for all that decides how a source is built, besides the source.
    recipe: Digest,
    ca_bundle: Option<PathBuf>,
    queue: Queue,
    /// Held while the build image is looked for and pulled.
    pulling: Mutex<()>,
    tasks: TaskTracker,
}

impl Builder {
    /// Clears what a server before this one left, and reads the buildpacks. `token` opens the embedded registry.
    pub async fn new(
        config: Arc<Config>,
        engine: Engine,
        images: ImageStore,
        stack: Stack,
        token: Secret,
    ) -> Result<Self, BuildError> {
        engine.remove_leftover_builds().await?;
        Self::unmount_leftovers(&config).await?;
        let reading = config.clone();
        let read = tokio::task::spawn_blocking(move || {
            let buildpacks = Buildpacks::read(&reading.buildpacks())?;
            let (lifecycle, digest) = buildpacks::lifecycle(&reading.lifecycle())?;
            let bundle = reading.data_dir.join("build-ca-certificates.pem");
            let ca_bundle = outbound::write_ca_bundle(&reading.outbound, &bundle).map_err(BuildError::CaBundle)?;
            Ok::<_, BuildError>((buildpacks, lifecycle, digest, ca_bundle))
        });
        let (buildpacks, lifecycle, digest, ca_bundle) = read.await.map_err(|_| BuildError::ShuttingDown)??;
        let recipe =
            [buildpacks.digest.as_str(), digest.as_str(), stack.run.manifest.as_str(), stack.build.manifest.as_str()];
        Ok(Self {
            inner: Arc::new(Inner {
                recipe: Digest::of(recipe.join("\n").as_bytes()),
                queue: Queue::new(config.build.concurrency),
                pulling: Mutex::new(()),
                tasks: TaskTracker::new(),
                config,
                engine,
                images,
                stack,
                token,
                lifecycle,
                buildpacks,
                ca_bundle,
            }),
        })
    }

    /// The same for the same source tree (git's name for it), buildpacks, lifecycle and stack: a build of it would give
    /// the image that one with this key gave before.
    pub fn key(&self, tree: &impl fmt::Display) -> Digest {
        Digest::of(format!("{tree}\n{}", self.inner.recipe).as_bytes())
    }

    /// The stack that builds and images stand on.
    pub fn stack(&self) -> &Stack {
        &self.inner.stack
    }

    /// Puts away the disks of builds whose server is gone.
    pub async fn unmount_leftovers(config: &Config) -> Result<(), BuildError> {
        Disk::unmount_leftovers(&config.data_dir.join("mounts")).await?;
        Ok(())
    }

    /// Builds, when it is this build's turn, and gives back the image's manifest. Dropping the future cancels the build,
    /// too; either way its container and disk are put away, by a task that [`Self::close`] waits for.
    pub async fn build(
        &self,
        input: BuildInput,
        progress: &Progress,
        cancel: CancellationToken,
    ) -> Result<Digest, BuildError> {
        let turn = tokio::select! {
            turn = self.inner.queue.turn(progress) => turn,
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        };
        if self.inner.tasks.is_closed() {
            return Err(BuildError::ShuttingDown);
        }
        let cancel = cancel.child_token();
        let _cancel_when_dropped = cancel.clone().drop_guard();
        let (inner, progress) = (self.inner.clone(), progress.clone());
        let task = self.inner.tasks.spawn(async move { inner.build(input, turn, &progress, &cancel).await });
        task.await.map_err(|_| BuildError::ShuttingDown)?
    }

    /// Removes a disk with its cache.
    pub async fn forget(&self, disk: &str) -> Result<(), BuildError> {
        Ok(Disk::remove(&self.inner.image_path(disk)).await?)
    }

    /// Lets builds that run come to their end (cancel them first), and takes no more.
    pub async fn close(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl Inner {
    fn image_path(&self, disk: &str) -> PathBuf {
        self.config.data_dir.join("disks").join(format!("{disk}.ext4"))
    }

    async fn build(
        self: &Arc<Self>,
        input: BuildInput,
        turn: Turn,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Digest, BuildError> {
        let begun = Instant::now();
        let mount_point = self.config.data_dir.join("mounts").join(&input.disk);
        let disk = Disk::open(&self.image_path(&input.disk), self.config.build.disk_mib, &mount_point).await?;
        tracing::debug!(millis = begun.elapsed().as_millis(), "the disk is mounted");
        let (outcome, container) = self.on_disk(input, &disk, progress, cancel).await;
        tracing::debug!(millis = begun.elapsed().as_millis(), "the container has said all");
        // A full cache would fail the next build as well.
        let full = matches!(outcome, Err(BuildError::DiskFull(_)));
        let failed = outcome.is_err();
        let put_away = self.tasks.spawn(async move {
            if let Some(container) = container
                && let Err(error) = container.kill_and_remove().await
            {
                tracing::error!(%error, "a build container is left until the server starts again");
            }
            let put_away = if full { disk.discard().await } else { disk.close().await };
            if let Err(error) = put_away {
                tracing::error!(%error, "a build disk is not put away");
            }
            drop(turn);
        });
        // An image does not wait for that; whoever failed finds everything tidy.
        if failed {
            let _ = put_away.await;
        }
        outcome
    }

    /// Builds in a container, which is handed back for whoever puts it away.
    async fn on_disk(
        self: &Arc<Self>,
        input: BuildInput,
        disk: &MountedDisk,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> (Result<Digest, BuildError>, Option<BuildContainer>) {
        let BuildInput { app, source, previous, .. } = input;
        let started = async {
            let (previous, known) = self.previous(previous).await?;
            let build_image = tokio::select! {
                image = self.build_image(progress) => image?,
                () = cancel.cancelled() => return Err(BuildError::Cancelled),
            };
            let container = self.engine.run_build(&self.spec(app.clone(), build_image, disk)).await?;
            Ok((previous, known, container))
        };
        let (previous, known, mut container) = match started.await {
            Ok(started) => started,
            Err(error) => return (Err(error), None),
        };
        let built = self.in_container(&mut container, source, (previous, known), disk, progress, cancel).await;
        let image = match built {
            Ok(built) => {
                let timings: Vec<_> =
                    built.timings.iter().map(|(phase, millis)| format!("{phase:?} {millis}")).collect();
                tracing::info!(%app, phases = timings.join(", "), "built");
                self.on_store(move |inner| Ok(inner.images.assemble(&inner.stack, &built)?.manifest)).await
            }
            Err(error) => Err(error),
        };
        (image, Some(container))
    }

    async fn in_container(
        &self,
        container: &mut BuildContainer,
        source: Box<dyn AsyncRead + Send + Unpin>,
        (previous, known): (Option<serde_json::Value>, HashSet<Digest>),
        disk: &MountedDisk,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Built, BuildError> {
        let request = BuildRequest {
            order: self.buildpacks.order.clone(),
            env: BTreeMap::new(),
            operator_env: outbound::environment(&self.config.outbound),
            stack_id: self.stack.id.clone(),
            target: self.stack.target.clone(),
            project: serde_json::json!({}),
            previous,
            known_blobs: known.iter().cloned().collect(),
        };
        let limit = Duration::from_secs(self.config.build.timeout_seconds);
        let session = session::Session {
            blobs: self.images.blobs(),
            tasks: &self.tasks,
            known: &known,
            most_blob_bytes: self.config.build.disk_mib << 20,
            progress,
        };
        let outcome = tokio::select! {
            outcome = session.run(container, &request, source) => outcome,
            () = tokio::time::sleep(limit) => Err(BuildError::TimedOut(limit.as_secs())),
            () = cancel.cancelled() => Err(BuildError::Cancelled),
        };
        self.explain(outcome, container, disk).await
    }

    /// Takes what the container said, and says why it really failed when a limit was the reason.
    async fn explain(
        &self,
        outcome: Result<session::Conversation, BuildError>,
        container: &mut BuildContainer,
        disk: &MountedDisk,
    ) -> Result<Built, BuildError> {
        const GOODBYE: Duration = Duration::from_secs(10);
        let conversation = outcome?;
        let exit = match tokio::time::timeout(GOODBYE, container.wait()).await {
            Ok(exit) => exit?,
            Err(_) => BuildExit { code: 0, oom_killed: false },
        };
        let limits = &self.config.build;
        match conversation.result {
            Some(BuildResult::Built(built)) => Ok(*built),
            _ if exit.oom_killed => Err(BuildError::OutOfMemory(limits.memory_mib)),
            _ if conversation.said_disk_full || disk.is_full() => Err(BuildError::DiskFull(limits.disk_mib)),
            Some(BuildResult::Failed { phase, message }) => {
                Err(BuildError::Failed { phase, message: Line::sanitize(&message) })
            }
            None => Err(BuildError::Died { code: exit.code, last: conversation.last_stderr }),
        }
    }

    /// The lifecycle's own notes on the app's last image; none if the image is no longer there. And the layers that it
    /// has, of those that are in the store still.
    async fn previous(
        self: &Arc<Self>,
        manifest: Option<Digest>,
    ) -> Result<(Option<serde_json::Value>, HashSet<Digest>), BuildError> {
        let Some(manifest) = manifest else { return Ok((None, HashSet::new())) };
        self.on_store(move |inner| {
            if !inner.images.blobs().has(&manifest) {
                return Ok((None, HashSet::new()));
            }
            let notes = inner.images.labels(&manifest)?.remove(NOTES);
            let notes = notes.and_then(|text| serde_json::from_str(&text).ok());
            let layers = inner.images.layers(&manifest)?.into_iter();
            Ok((notes, layers.filter(|layer| inner.images.blobs().has(layer)).collect()))
        })
        .await
    }

    /// The store blocks.
    async fn on_store<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, BuildError> + Send + 'static,
    ) -> Result<T, BuildError> {
        let inner = Arc::clone(self);
        self.tasks.spawn_blocking(move || work(&inner)).await.map_err(|_| BuildError::ShuttingDown)?
    }

    /// The stack's build image on the engine: pulled unless it is there, and with a tag so that nobody prunes it.
    async fn build_image(&self, progress: &Progress) -> Result<ImageId, BuildError> {
        let manifest = &self.stack.build.manifest;
        let tag = self.engine.own_tag("build", &manifest.hex()[..16]);
        let _one_at_a_time = self.pulling.lock().await;
        if let Some(image) = self.engine.image_id(&tag).await? {
            return Ok(image);
        }
        progress.step(format!("Handing the build image of {} to Docker (once)", self.stack.id)).await;
        let reference = format!("{}/{}-build@{manifest}", self.config.registry.listen, self.stack.id);
        let image = self.engine.pull(&reference, self.token.expose()).await?;
        self.engine.tag(&image, &tag).await?;
        Ok(image)
    }

    fn spec(&self, app: AppName, image: ImageId, disk: &MountedDisk) -> BuildSpec {
        let limits = &self.config.build;
        let mut mounts: Vec<_> =
            FOLDERS.iter().map(|name| Mount::writable(&disk.folder(name), format!("/{name}"))).collect();
        mounts.push(Mount::read_only(&self.lifecycle, "/cnb/lifecycle/lifecycle"));
        mounts.extend(self.buildpacks.all.iter().map(|b| Mount::read_only(&b.folder, b.target())));
        mounts.extend(self.ca_bundle.iter().map(|path| Mount::read_only(path, outbound::CA_BUNDLE)));
        BuildSpec {
            app,
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

/// The label in which the lifecycle keeps what it needs to know at the next build.
const NOTES: &str = "io.buildpacks.lifecycle.metadata";
