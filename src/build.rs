//! The build stage: source in, image out. One container for each build, on a disk of the app's own; what comes out of
//! it is verified, stored and assembled to an image.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::io::AsyncRead;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::Config,
    engine::{
        BuildContainer, BuildExit, BuildSpec, Engine, EngineError, Mount,
        disk::{Disk, DiskError, FOLDERS, MountedDisk},
    },
    images::{Image, ImageStore, ImagesError, Stack},
    lifecycle::protocol::{BuildRequest, BuildResult, Built, Phase},
    model::{AppName, Digest, Line},
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
    Images(#[from] ImagesError),
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

/// Where this installation keeps what builds need; both are mounted into build containers.
#[derive(Debug, Clone)]
pub struct Assets {
    /// The folder of the static binary `lifecycle`.
    pub lifecycle: PathBuf,
    /// The folder of the buildpacks and their `order.toml`.
    pub buildpacks: PathBuf,
}

/// What is to be built.
pub struct BuildInput {
    /// For which app.
    pub app: AppName,
    /// On which stack.
    pub stack: Stack,
    /// The source, as one tar.
    pub source: Box<dyn AsyncRead + Send + Unpin>,
    /// The app's config vars that the build may see.
    pub env: BTreeMap<String, String>,
    /// The manifest of the app's last image: what is in it need not be made again.
    pub previous: Option<Digest>,
}

/// What a build gives.
#[derive(Debug, Clone)]
pub struct BuildOutcome {
    /// The image, in the blob store.
    pub image: Image,
    /// What it was made of.
    pub built: Built,
}

/// Builds apps; cheap to clone.
#[derive(Clone)]
pub struct Builder {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    engine: Engine,
    images: ImageStore,
    assets: Assets,
    buildpacks: Buildpacks,
    ca_bundle: Option<PathBuf>,
    queue: Queue,
    tasks: TaskTracker,
}

impl Builder {
    /// Clears what a server before this one left, and reads the buildpacks.
    pub async fn new(config: &Config, engine: Engine, images: ImageStore, assets: Assets) -> Result<Self, BuildError> {
        engine.remove_leftover_builds().await?;
        Disk::unmount_leftovers(&config.data_dir.join("mounts")).await?;
        let (folder, outbound) = (assets.buildpacks.clone(), config.outbound.clone());
        let bundle = config.data_dir.join("build-ca-certificates.pem");
        let read = tokio::task::spawn_blocking(move || {
            let buildpacks = Buildpacks::read(&folder)?;
            if let Some(parent) = bundle.parent() {
                std::fs::create_dir_all(parent).map_err(BuildError::CaBundle)?;
            }
            let ca_bundle = outbound::write_ca_bundle(&outbound, &bundle).map_err(BuildError::CaBundle)?;
            Ok::<_, BuildError>((buildpacks, ca_bundle))
        });
        let (buildpacks, ca_bundle) = read.await.map_err(|_| BuildError::ShuttingDown)??;
        let queue = Queue::new(config.build.concurrency);
        let tasks = TaskTracker::new();
        let config = config.clone();
        Ok(Self { inner: Arc::new(Inner { config, engine, images, assets, buildpacks, ca_bundle, queue, tasks }) })
    }

    /// Builds, when it is this build's turn. Dropping the future cancels the build, too; either way its container and
    /// disk are put away, by a task that [`Self::close`] waits for.
    pub async fn build(
        &self,
        input: BuildInput,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<BuildOutcome, BuildError> {
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
        let task = self.inner.tasks.spawn(async move {
            let outcome = inner.build(input, &progress, &cancel).await;
            drop(turn);
            outcome
        });
        task.await.map_err(|_| BuildError::ShuttingDown)?
    }

    /// Removes the app's disk with its cache.
    pub async fn forget(&self, app: &AppName) -> Result<(), BuildError> {
        let inner = &self.inner;
        Disk::remove(&inner.image_path(app)).await?;
        Ok(())
    }

    /// Lets builds that run come to their end (cancel them first), and takes no more.
    pub async fn close(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl Inner {
    fn image_path(&self, app: &AppName) -> PathBuf {
        self.config.data_dir.join("disks").join(format!("{app}.ext4"))
    }

    async fn build(
        &self,
        input: BuildInput,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<BuildOutcome, BuildError> {
        let mount_point = self.config.data_dir.join("mounts").join(input.app.as_str());
        let disk = Disk::open(&self.image_path(&input.app), self.config.build.disk_mib, &mount_point).await?;
        let outcome = self.on_disk(input, &disk, progress, cancel).await;
        // A full cache would fail the next build as well.
        let put_away = match outcome {
            Err(BuildError::DiskFull(_)) => disk.discard().await,
            _ => disk.close().await,
        };
        if let Err(error) = put_away {
            tracing::error!(%error, "a build disk is not put away");
        }
        outcome
    }

    async fn on_disk(
        &self,
        input: BuildInput,
        disk: &MountedDisk,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<BuildOutcome, BuildError> {
        let BuildInput { app, stack, source, env, previous } = input;
        let previous = match previous {
            Some(digest) => self.previous(&digest).await?,
            None => None,
        };
        let known = self.known_blobs(previous.as_ref()).await?;
        let request = BuildRequest {
            order: self.buildpacks.order.clone(),
            env,
            operator_env: outbound::environment(&self.config.outbound),
            stack_id: stack.id.clone(),
            target: stack.target.clone(),
            previous,
            known_blobs: known.iter().cloned().collect(),
        };
        let build_image = self.build_image(&stack).await?;
        let mut container = self.engine.run_build(&self.spec(app, build_image, disk)).await?;
        let limit = Duration::from_secs(self.config.build.timeout_seconds);
        let session = session::Session {
            images: &self.images,
            known: &known,
            most_blob_bytes: self.config.build.disk_mib << 20,
            progress,
        };
        let outcome = tokio::select! {
            outcome = session.run(&mut container, &request, source) => outcome,
            () = tokio::time::sleep(limit) => Err(BuildError::TimedOut(limit.as_secs())),
            () = cancel.cancelled() => Err(BuildError::Cancelled),
        };
        let outcome = self.explain(outcome, &mut container, disk).await;
        let removed = container.kill_and_remove().await;
        let built = outcome?;
        removed?;
        let image = self.images.assemble(&stack, &built, &BTreeMap::new()).await?;
        Ok(BuildOutcome { image, built })
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

    /// The lifecycle's own notes on the app's last image; none if the image is no longer there.
    async fn previous(&self, manifest: &Digest) -> Result<Option<serde_json::Value>, BuildError> {
        let labels = self.images.labels(manifest).await?;
        let notes = labels.and_then(|mut labels| labels.remove(NOTES));
        Ok(notes.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// The layers that the app's last image has, of those that the blob store has still.
    async fn known_blobs(&self, previous: Option<&serde_json::Value>) -> Result<HashSet<Digest>, BuildError> {
        let mut known = HashSet::new();
        for digest in previous.map(digests).unwrap_or_default() {
            if self.images.blobs().has(&digest).await? {
                known.insert(digest);
            }
        }
        Ok(known)
    }

    /// The stack's build image on the engine: pulled unless it is there.
    async fn build_image(&self, stack: &Stack) -> Result<crate::engine::ImageId, BuildError> {
        todo!()
    }

    fn spec(&self, app: AppName, image: crate::engine::ImageId, disk: &MountedDisk) -> BuildSpec {
        let limits = &self.config.build;
        let mut mounts: Vec<_> =
            FOLDERS.iter().map(|name| Mount::writable(&disk.folder(name), format!("/{name}"))).collect();
        mounts.push(Mount::read_only(&self.assets.lifecycle, "/cnb/lifecycle"));
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

/// Every digest that is somewhere in this.
fn digests(value: &serde_json::Value) -> Vec<Digest> {
    match value {
        serde_json::Value::String(text) => text.parse().into_iter().collect(),
        serde_json::Value::Array(values) => values.iter().flat_map(digests).collect(),
        serde_json::Value::Object(map) => map.values().flat_map(digests).collect(),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => Vec::new(),
    }
}
