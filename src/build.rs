//! The build stage: source in, image out. One container for each build, on a disk of the app's own; what comes out of
//! it is verified, stored and assembled to an image.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{io::AsyncRead, sync::Mutex};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::Config,
    engine::{
        BuildContainer, BuildExit, BuildSpec, Engine, EngineError, ImageId, Mount,
        disk::{Disk, DiskError, MountedDisk},
    },
    images::{ImageError, ImageStore, Stack},
    lifecycle::protocol::{BuildRequest, BuildResult, Built, Phase},
    model::{AppName, Digest, Line, Secret},
    progress::Progress,
    store::UsedBuildpack,
};

mod buildpacks;
mod dockerfile;
mod downloads;
mod frames;
mod outbound;
mod packages;
mod queue;
mod recipe;
mod remote;
mod run_packages;
mod session;
mod standby;

pub use buildpacks::{Buildpack, BuildpacksError, Builtin, Package, Packages};
pub use dockerfile::DockerfileInput;
pub use downloads::Downloads;
pub use queue::{Queue, Turn};
pub use recipe::{Recipe, Wanted, Wishes};
use standby::{Occupied, Standby};

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
    /// Buildpacks are broken, or cannot be kept.
    #[error(transparent)]
    Buildpacks(#[from] BuildpacksError),
    /// A buildpack is asked for that is not there.
    #[error(
        "the buildpack {0} is not installed; buildpacks:installed lists those that are, buildpacks:install adds one"
    )]
    NoBuildpack(String),
    /// A script of the project descriptor cannot be a buildpack.
    #[error("project.toml, key {0}")]
    Inline(String),
    /// Two packages bring different buildpacks of one name.
    #[error("two different buildpacks are called {0}; take one of them out, or give it another version")]
    TwoOfOneName(String),
    /// A buildpack cannot be had from where it should come.
    #[error("cannot get the buildpack {from}: {reason}")]
    CannotFetch {
        /// From where.
        from: String,
        /// Why not.
        reason: String,
    },
    /// The configured certificates are no use, or cannot be stored.
    #[error("{0}")]
    CaBundle(#[source] std::io::Error),
    /// What the stack has installed cannot be noted.
    #[error("cannot note what the run image of the stack has: {0}")]
    RunPackages(#[source] std::io::Error),
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
    /// What the image says of its source (`io.buildpacks.project.metadata`).
    pub project: serde_json::Value,
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
    token: Secret,
    lifecycle: PathBuf,
    lifecycle_digest: Digest,
    builtin: Builtin,
    packages: Packages,
    downloads: Downloads,
    ca_bundle: Option<PathBuf>,
    queue: Queue,
    standby: Standby,
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
        token: Secret,
    ) -> Result<Self, BuildError> {
        engine.remove_leftover_builds().await?;
        Self::unmount_leftovers(&config).await?;
        let reading = config.clone();
        let read = tokio::task::spawn_blocking(move || {
            let builtin = Builtin::read(&reading.buildpacks())?;
            let packages = Packages::open(reading.data_dir.join("buildpacks"))?;
            let downloads = Downloads::open(reading.data_dir.join("downloads"), reading.build.downloads_mib << 20)?;
            let (lifecycle, digest) = buildpacks::lifecycle(&reading.lifecycle())?;
            let bundle = reading.data_dir.join("build-ca-certificates.pem");
            let ca_bundle = outbound::write_ca_bundle(&reading.outbound, &bundle).map_err(BuildError::CaBundle)?;
            Ok::<_, BuildError>((builtin, packages, downloads, lifecycle, digest, ca_bundle))
        });
        let (builtin, packages, downloads, lifecycle, lifecycle_digest, ca_bundle) =
            read.await.map_err(|_| BuildError::ShuttingDown)??;
        Ok(Self {
            inner: Arc::new(Inner {
                queue: Queue::new(config.build.concurrency),
                standby: Standby::default(),
                pulling: Mutex::new(()),
                tasks: TaskTracker::new(),
                config,
                engine,
                images,
                token,
                lifecycle,
                lifecycle_digest,
                builtin,
                packages,
                downloads,
                ca_bundle,
            }),
        })
    }

    /// How an app is built that wishes this, in this stack.
    pub fn recipe(&self, wishes: Wishes, stack: Stack) -> Result<Recipe, BuildError> {
        Recipe::new(wishes, &self.inner.builtin, stack, &self.inner.lifecycle_digest)
    }

    /// The buildpacks that come with paas.
    pub fn builtin(&self) -> &Builtin {
        &self.inner.builtin
    }

    /// The buildpacks that were fetched.
    pub fn packages(&self) -> &Packages {
        &self.inner.packages
    }

    /// Puts away the disks of builds whose server is gone.
    pub async fn unmount_leftovers(config: &Config) -> Result<(), BuildError> {
        Disk::unmount_leftovers(&config.data_dir.join("mounts")).await?;
        Ok(())
    }

    /// Builds, when it is this build's turn; gives back the image's manifest and the buildpacks that made it. Dropping the future cancels the build,
    /// too; either way its container and disk are put away, by a task that [`Self::close`] waits for.
    pub async fn build(
        &self,
        recipe: Recipe,
        input: BuildInput,
        progress: &Progress,
        cancel: CancellationToken,
    ) -> Result<(Digest, Vec<UsedBuildpack>), BuildError> {
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
        let task = self.inner.tasks.spawn(async move { inner.build(recipe, input, turn, &progress, &cancel).await });
        task.await.map_err(|_| BuildError::ShuttingDown)?
    }

    /// Removes a disk with its cache.
    pub async fn forget(&self, disk: &str) -> Result<(), BuildError> {
        Ok(Disk::remove(&self.inner.image_path(disk)).await?)
    }

    /// Lets builds that run come to their end (cancel them first), and takes no more.
    pub async fn close(&self) {
        self.inner.standby.close().await;
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
        recipe: Recipe,
        input: BuildInput,
        turn: Turn,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(Digest, Vec<UsedBuildpack>), BuildError> {
        let begun = Instant::now();
        let mounts = self.config.data_dir.join("mounts");
        let mount_point = mounts.join(&input.disk);
        let disk = Disk::open(&self.image_path(&input.disk), self.config.build.disk_mib, &mount_point).await?;
        tracing::debug!(millis = begun.elapsed().as_millis(), "the disk is mounted");
        let (outcome, used) = self.on_disk(recipe, input, &disk, progress, cancel).await;
        tracing::debug!(millis = begun.elapsed().as_millis(), "the container has said all");
        // A full cache would fail the next build as well.
        let full = matches!(outcome, Err(BuildError::DiskFull(_)));
        let failed = outcome.is_err();
        let inner = Arc::clone(self);
        let put_away = self.tasks.spawn(async move {
            let (spec, occupied) = used.unzip();
            if let Some(occupied) = occupied {
                occupied.put_away().await;
            }
            let put_away = if full { disk.discard().await } else { disk.close().await };
            if let Err(error) = put_away {
                tracing::error!(%error, "a build disk is not put away");
            }
            drop(turn);
            if let Some(spec) = spec.filter(|_| inner.config.build.standby) {
                let preparing = Arc::clone(&inner);
                inner.tasks.spawn(async move { preparing.standby.prepare(&preparing.engine, spec, &mounts).await });
            }
        });
        // An image does not wait for that; whoever failed finds everything tidy.
        if failed {
            let _ = put_away.await;
        }
        outcome
    }

    /// Builds in a container, which is handed back for whoever puts it away, with what all builds like this one need.
    async fn on_disk(
        self: &Arc<Self>,
        recipe: Recipe,
        input: BuildInput,
        disk: &MountedDisk,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> (Result<(Digest, Vec<UsedBuildpack>), BuildError>, Option<(BuildSpec, Occupied)>) {
        let BuildInput { app, source, previous, project, .. } = input;
        let started = async {
            let (previous, known) = self.previous(previous).await?;
            let build_image = tokio::select! {
                image = self.build_image(&recipe.stack, progress) => image?,
                () = cancel.cancelled() => return Err(BuildError::Cancelled),
            };
            let run = recipe.stack.run.manifest.clone();
            let run_packages = self.on_store(move |inner| {
                run_packages::of(&inner.images, &run, &inner.config.data_dir.join("run-packages"))
            });
            let run_packages = run_packages.await?;
            let spec = self.spec(&recipe, build_image, &run_packages);
            let occupied = match self.standby.take(&self.engine, &spec, &app, disk).await? {
                Some(occupied) => occupied,
                None => Occupied::own(self.engine.run_build(&spec.for_app(&app, disk)).await?),
            };
            Ok((previous, known, spec, occupied))
        };
        let (previous, known, spec, mut occupied) = match started.await {
            Ok(started) => started,
            Err(error) => return (Err(error), None),
        };
        let request = self.request(&recipe, project, previous, &known);
        let built = self.in_container(&mut occupied.container, source, &request, &known, disk, progress, cancel).await;
        let image = match built {
            Ok(built) => {
                let timings: Vec<_> =
                    built.timings.iter().map(|(phase, millis)| format!("{phase:?} {millis}")).collect();
                tracing::info!(%app, phases = timings.join(", "), "built");
                let ran = built.buildpacks.iter().map(|b| (b.id.clone(), b.version.clone())).collect();
                let ran = recipe.ran(ran);
                let stack = recipe.stack;
                self.on_store(move |inner| Ok((inner.images.assemble(&stack, &built)?.manifest, ran))).await
            }
            Err(error) => Err(error),
        };
        (image, Some((spec, occupied)))
    }

    fn request(
        &self,
        recipe: &Recipe,
        project: serde_json::Value,
        previous: Option<serde_json::Value>,
        known: &HashSet<Digest>,
    ) -> BuildRequest {
        BuildRequest {
            order: recipe.order.clone(),
            env: recipe.env.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect(),
            operator_env: outbound::environment(&self.config.outbound),
            stack_id: recipe.stack.id.clone(),
            target: recipe.stack.target.clone(),
            project,
            previous,
            known_blobs: known.iter().cloned().collect(),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is another side of the conversation")]
    async fn in_container(
        &self,
        container: &mut BuildContainer,
        source: Box<dyn AsyncRead + Send + Unpin>,
        request: &BuildRequest,
        known: &HashSet<Digest>,
        disk: &MountedDisk,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Built, BuildError> {
        let limit = Duration::from_secs(self.config.build.timeout_seconds);
        let session = session::Session {
            blobs: self.images.blobs(),
            downloads: &self.downloads,
            tasks: &self.tasks,
            known,
            most_blob_bytes: self.config.build.disk_mib << 20,
            progress,
        };
        let outcome = tokio::select! {
            outcome = session.run(container, request, source) => outcome,
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
        let failed = match conversation.result {
            Some(BuildResult::Built(built)) => return Ok(*built),
            Some(BuildResult::Failed { phase, message }) => {
                Some(BuildError::Failed { phase, message: Line::sanitize(&message) })
            }
            None => None,
        };
        let exit = match tokio::time::timeout(GOODBYE, container.wait()).await {
            Ok(exit) => exit?,
            Err(_) => BuildExit { code: 0, oom_killed: false },
        };
        let limits = &self.config.build;
        Err(match failed {
            _ if exit.oom_killed => BuildError::OutOfMemory(limits.memory_mib),
            _ if conversation.said_disk_full || disk.is_full() => BuildError::DiskFull(limits.disk_mib),
            Some(failed) => failed,
            None => BuildError::Died { code: exit.code, last: conversation.last_stderr },
        })
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
    async fn build_image(&self, stack: &Stack, progress: &Progress) -> Result<ImageId, BuildError> {
        let manifest = &stack.build.manifest;
        let tag = self.engine.own_tag("build", &manifest.hex()[..16]);
        let _one_at_a_time = self.pulling.lock().await;
        if let Some(image) = self.engine.image_id(&tag).await? {
            return Ok(image);
        }
        progress.step(format!("Handing the build image of {} to Docker (once)", stack.id)).await;
        let reference = format!("{}/{}-build@{manifest}", self.config.registry.listen, stack.id);
        let image = self.engine.pull(&reference, self.token.expose()).await?;
        self.engine.tag(&image, &tag).await?;
        // The registry may have another port the next time: nobody would know this name for ours.
        self.engine.forget_pulled(&reference).await?;
        Ok(image)
    }

    /// The container for builds with this recipe, whichever app's.
    fn spec(&self, recipe: &Recipe, image: ImageId, run_packages: &Path) -> BuildSpec {
        let limits = &self.config.build;
        let mut mounts = vec![
            Mount::read_only(&self.lifecycle, "/cnb/lifecycle/lifecycle"),
            Mount::read_only(self.downloads.dir(), "/cnb/downloads"),
            Mount::read_only(run_packages, crate::lifecycle::apt::RUN_PACKAGES),
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

/// The label in which the lifecycle keeps what it needs to know at the next build.
const NOTES: &str = "io.buildpacks.lifecycle.metadata";
