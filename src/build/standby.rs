//! The standby container, started ahead of the next build: making and starting a container takes longer than most
//! builds that have a cache. It runs one build, like any other. If anything is wrong with it, the build gets a
//! container of its own.

use std::{
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    error::BuildError,
    frames::{self, ContainerEvent, FrameError, Frames},
};
use crate::{
    engine::{
        BuildContainer, BuildSpec, Builds, EngineError,
        disk::{DiskError, MountedDisk, Slot},
    },
    lifecycle::protocol::Kind,
    model::{AppName, Line},
};

/// A standby container is started when no build has begun for this long: what follows a build has priority.
const QUIET_PERIOD: Duration = Duration::from_secs(2);
/// Time that a standby container has to confirm that it sees its disk.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// At most one standby container.
#[derive(Default)]
pub(super) struct Standby {
    container: Mutex<Option<StandbyContainer>>,
    /// Number of builds that have begun.
    begun: AtomicU64,
    /// Held while a container is started.
    start: tokio::sync::Mutex<()>,
    /// Cancelled when no standby container is to be started any more.
    closed: CancellationToken,
}

/// A container for any build with this spec.
struct StandbyContainer {
    spec: BuildSpec,
    inputs: HostInputs,
    container: BuildContainer,
    slot: Slot,
}

/// The container of a build; if it was a standby container, with the slot through which it sees the build's disk.
pub(super) struct AssignedContainer {
    pub(super) container: BuildContainer,
    slot: Option<Slot>,
}

/// What a container takes from the host when it starts, and keeps even if the host changes later.
#[derive(PartialEq, Eq)]
struct HostInputs {
    mounts: Vec<MountSource>,
}

/// Identity of the file or folder that is mounted.
#[derive(PartialEq, Eq)]
struct MountSource {
    device: u64,
    inode: u64,
    /// Of a file: modification time (seconds, nanoseconds) and size.
    content: Option<(i64, i64, u64)>,
}

/// Why a standby container cannot be used.
#[derive(Debug, thiserror::Error)]
enum AssignError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Frames(#[from] FrameError),
    #[error("it does not respond: {0}")]
    NoResponse(String),
    /// The next standby container would fail in the same way.
    #[error("it does not see the disk that is mounted for it ({0}); no other is started until the server restarts")]
    DiskNotVisible(String),
}

impl AssignedContainer {
    /// A container that was started for its build.
    pub(super) fn new(container: BuildContainer) -> Self {
        Self { container, slot: None }
    }

    /// Ends and removes the container; none of its processes runs after this.
    pub(super) async fn remove(self) {
        if let Err(error) = self.container.kill_and_remove().await {
            tracing::error!(%error, "cannot remove a build container; this is repeated when Docker responds");
        }
        if let Some(slot) = self.slot {
            close(slot).await;
        }
    }
}

async fn close(slot: Slot) {
    if let Err(error) = slot.close().await {
        tracing::error!(%error, "the mounts of a build container are left until the server starts again");
    }
}

impl From<StandbyContainer> for AssignedContainer {
    fn from(StandbyContainer { container, slot, .. }: StandbyContainer) -> Self {
        Self { container, slot: Some(slot) }
    }
}

impl StandbyContainer {
    async fn start(builds: &Builds, spec: &BuildSpec, mounts: &Path) -> Result<Self, BuildError> {
        let inputs = HostInputs::read(spec).await.map_err(BuildError::Source)?;
        let slot = Slot::open(&mounts.join(format!("standby-{:08x}", rand::random::<u32>()))).await?;
        match builds.run_build(&spec.for_standby(&slot)).await {
            Ok(mut container) => {
                container.deactivate();
                Ok(Self { spec: spec.clone(), inputs, container, slot })
            }
            Err(error) => {
                close(slot).await;
                Err(error.into())
            }
        }
    }

    /// Assigns the container to a build of the app, on its disk.
    async fn assign(&mut self, app: &AppName, disk: &MountedDisk) -> Result<(), AssignError> {
        self.container.activate().await;
        let device = self.slot.mount(disk).await?;
        let confirmed = tokio::time::timeout(READY_TIMEOUT, self.confirm_disk(device)).await;
        confirmed
            .unwrap_or_else(|_| Err(AssignError::NoResponse(format!("{} s have passed", READY_TIMEOUT.as_secs()))))?;
        Ok(self.container.rename(app).await?)
    }

    /// Has the lifecycle confirm that it sees the disk with this device number.
    async fn confirm_disk(&mut self, device: u64) -> Result<(), AssignError> {
        let BuildContainer { stdin, output, .. } = &mut self.container;
        let device = serde_json::to_vec(&device).map_err(|e| AssignError::NoResponse(e.to_string()))?;
        frames::write(stdin, Kind::Disk, &device).await.map_err(|e| AssignError::NoResponse(e.to_string()))?;
        let text = |bytes: &[u8]| Line::sanitize(&String::from_utf8_lossy(bytes));
        match Frames::new(output).next().await? {
            Some(ContainerEvent::Frame(Kind::Ready, _)) => Ok(()),
            Some(ContainerEvent::Frame(_, payload)) => Err(AssignError::DiskNotVisible(text(&payload))),
            Some(ContainerEvent::Stderr(bytes)) => Err(AssignError::NoResponse(text(&bytes))),
            None => Err(AssignError::NoResponse("it has ended".to_owned())),
        }
    }

    async fn remove(self) {
        AssignedContainer::from(self).remove().await;
    }
}

impl HostInputs {
    async fn read(spec: &BuildSpec) -> std::io::Result<Self> {
        let mut mounts = Vec::new();
        for mount in &spec.mounts {
            let metadata = tokio::fs::metadata(&mount.source).await?;
            let content = metadata.is_file().then(|| (metadata.mtime(), metadata.mtime_nsec(), metadata.size()));
            mounts.push(MountSource { device: metadata.dev(), inode: metadata.ino(), content });
        }
        Ok(Self { mounts })
    }

    /// Whether a container that is started now would get the same.
    async fn is_current(&self, spec: &BuildSpec) -> bool {
        Self::read(spec).await.is_ok_and(|now| now == *self)
    }
}

impl Standby {
    /// Called when a build begins. Assigns the standby container to it, if there is one with this spec that is usable.
    pub(super) async fn take(
        &self,
        builds: &Builds,
        spec: &BuildSpec,
        app: &AppName,
        disk: &MountedDisk,
    ) -> Result<Option<AssignedContainer>, BuildError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let Some(mut standby) = self.lock().take_if(|standby| standby.spec == *spec) else { return Ok(None) };
        if !standby.inputs.is_current(spec).await {
            standby.remove().await;
            return Ok(None);
        }
        // The firewall rules of the build network may have been removed since this container was started.
        let (network, assigned) = tokio::join!(builds.ensure_build_bridge(), standby.assign(app, disk));
        if let (Ok(_), Ok(())) = (&network, &assigned) {
            return Ok(Some(standby.into()));
        }
        standby.remove().await;
        network?;
        if let Err(error) = assigned {
            tracing::warn!(%error, "the standby container cannot be used; the build gets another container");
            if matches!(error, AssignError::DiskNotVisible(_)) {
                self.closed.cancel();
            }
        }
        Ok(None)
    }

    /// Starts a standby container with the spec of the last build, unless another build begins soon. `mounts` is the
    /// folder of mount points.
    pub(super) async fn prepare(&self, builds: &Builds, spec: BuildSpec, mounts: &Path) {
        let begun = self.begun.load(Ordering::Relaxed);
        if self.closed.run_until_cancelled(tokio::time::sleep(QUIET_PERIOD)).await.is_none() {
            return;
        }
        let _one_at_a_time = self.start.lock().await;
        if self.begun.load(Ordering::Relaxed) != begun {
            return;
        }
        let other = {
            let mut standby = self.lock();
            if standby.as_ref().is_some_and(|standby| standby.spec == spec) {
                return;
            }
            standby.take()
        };
        if let Some(other) = other {
            other.remove().await;
        }
        let started = match StandbyContainer::start(builds, &spec, mounts).await {
            Ok(started) => started,
            // A buildpack that was fetched for one build alone may have been removed.
            Err(BuildError::Source(error)) => return tracing::debug!(%error, "no standby container is started"),
            Err(error) => {
                return tracing::warn!(%error, "no standby container is started: the next build takes a little longer");
            }
        };
        let is_current = started.inputs.is_current(&started.spec).await;
        let superfluous = {
            let mut standby = self.lock();
            if is_current && !self.closed.is_cancelled() { standby.replace(started) } else { Some(started) }
        };
        if let Some(superfluous) = superfluous {
            superfluous.remove().await;
        }
    }

    /// Removes the standby container, and starts no other.
    pub(super) async fn close(&self) {
        self.closed.cancel();
        let standby = self.lock().take();
        if let Some(standby) = standby {
            standby.remove().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<StandbyContainer>> {
        self.container.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
