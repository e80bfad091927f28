//! A container that waits for the next build: to make and start one takes longer than most builds that have a cache, so one
//! is started ahead. It does one build as any other does. Whatever is wrong with it, the build has a container of its own.

use std::{
    net::IpAddr,
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
    BuildError,
    frames::{self, Event, FrameError, Frames},
};
use crate::{
    engine::{
        self, BuildContainer, BuildSpec, Engine, EngineError,
        disk::{DiskError, MountedDisk, Slot},
    },
    lifecycle::protocol::Kind,
    model::{AppName, Line},
};

/// One is started when no build has begun for so long: what follows a build comes first.
const QUIET: Duration = Duration::from_secs(2);
/// How long it may take to say that it sees its disk.
const READY: Duration = Duration::from_secs(2);

/// At most one container waits.
#[derive(Default)]
pub(super) struct Standby {
    waiting: Mutex<Option<Waiting>>,
    /// How many builds have.
    begun: AtomicU64,
    /// Held while one is started.
    starting: tokio::sync::Mutex<()>,
    /// None shall wait any more.
    closed: CancellationToken,
}

/// A container that waits, for builds that are to be as this.
struct Waiting {
    spec: BuildSpec,
    found: Found,
    container: BuildContainer,
    slot: Slot,
}

/// A build's container, with what is mounted for it alone.
pub(super) struct Occupied {
    pub(super) container: BuildContainer,
    slot: Option<Slot>,
}

/// What a container has from its start on, whatever comes to be at the same paths while it waits.
#[derive(PartialEq, Eq)]
struct Found {
    sources: Vec<Source>,
    nameservers: Vec<IpAddr>,
}

/// Which file or folder a mount's source is.
#[derive(PartialEq, Eq)]
struct Source {
    device: u64,
    inode: u64,
    /// Of a file: when it was changed, and its size.
    content: Option<(i64, i64, u64)>,
}

/// Why a container that waited is no use.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Frames(#[from] FrameError),
    #[error("it does not answer: {0}")]
    Silent(String),
    /// So would the next one be.
    #[error("it does not see the disk that is mounted for it ({0}); no other is started until the server is")]
    Blind(String),
}

impl Occupied {
    /// A container that was started for its build.
    pub(super) fn own(container: BuildContainer) -> Self {
        Self { container, slot: None }
    }

    /// Ends it; when this returns, none of its processes runs.
    pub(super) async fn put_away(self) {
        if let Err(error) = self.container.kill_and_remove().await {
            tracing::error!(%error, "a build container is left until the server starts again");
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

impl From<Waiting> for Occupied {
    fn from(Waiting { container, slot, .. }: Waiting) -> Self {
        Self { container, slot: Some(slot) }
    }
}

impl Waiting {
    async fn start(engine: &Engine, spec: &BuildSpec, folder: &Path) -> Result<Self, BuildError> {
        let found = Found::now(spec).await.map_err(BuildError::Source)?;
        let slot = Slot::open(&folder.join(format!("standby-{:08x}", rand::random::<u32>()))).await?;
        match engine.run_build(&spec.for_standby(&slot)).await {
            Ok(mut container) => {
                container.deactivate();
                Ok(Self { spec: spec.clone(), found, container, slot })
            }
            Err(error) => {
                close(slot).await;
                Err(error.into())
            }
        }
    }

    /// Makes it the app's, on its disk.
    async fn adopt(&mut self, app: &AppName, disk: &MountedDisk) -> Result<(), Unfit> {
        self.container.activate().await;
        let device = self.slot.mount(disk).await?;
        let sees = tokio::time::timeout(READY, self.sees(device)).await;
        sees.unwrap_or_else(|_| Err(Unfit::Silent(format!("{} s have passed", READY.as_secs()))))?;
        Ok(self.container.rename(app).await?)
    }

    async fn sees(&mut self, device: u64) -> Result<(), Unfit> {
        let BuildContainer { stdin, output, .. } = &mut self.container;
        let device = serde_json::to_vec(&device).map_err(|e| Unfit::Silent(e.to_string()))?;
        frames::write(stdin, Kind::Disk, &device).await.map_err(|e| Unfit::Silent(e.to_string()))?;
        match Frames::new(output).next().await? {
            Some(Event::Frame(Kind::Ready, _)) => Ok(()),
            Some(Event::Frame(_, said)) => Err(Unfit::Blind(Line::sanitize(&String::from_utf8_lossy(&said)))),
            Some(Event::Stderr(said)) => Err(Unfit::Silent(Line::sanitize(&String::from_utf8_lossy(&said)))),
            None => Err(Unfit::Silent("it has ended".to_owned())),
        }
    }

    async fn put_away(self) {
        Occupied::from(self).put_away().await;
    }
}

impl Found {
    async fn now(spec: &BuildSpec) -> std::io::Result<Self> {
        let mut sources = Vec::new();
        for mount in &spec.mounts {
            let about = tokio::fs::metadata(&mount.source).await?;
            let content = about.is_file().then(|| (about.mtime(), about.mtime_nsec(), about.size()));
            sources.push(Source { device: about.dev(), inode: about.ino(), content });
        }
        Ok(Self { sources, nameservers: engine::nameservers().await })
    }

    /// Whether a container that is started now would find the same.
    async fn is_current(&self, spec: &BuildSpec) -> bool {
        Self::now(spec).await.is_ok_and(|now| now == *self)
    }
}

impl Standby {
    /// A build begins: the container that waits for one like it, if there is one and it is sound; on the app's disk.
    pub(super) async fn take(
        &self,
        engine: &Engine,
        spec: &BuildSpec,
        app: &AppName,
        disk: &MountedDisk,
    ) -> Result<Option<Occupied>, BuildError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let Some(mut waiting) = self.lock().take_if(|waiting| waiting.spec == *spec) else { return Ok(None) };
        if !waiting.found.is_current(spec).await {
            waiting.put_away().await;
            return Ok(None);
        }
        // What closes the network to builds may have been pushed aside since this one was started.
        let (closed, adopted) = tokio::join!(engine.ensure_build_bridge(), waiting.adopt(app, disk));
        if let (Ok(_), Ok(())) = (&closed, &adopted) {
            return Ok(Some(waiting.into()));
        }
        waiting.put_away().await;
        closed?;
        if let Err(unfit) = adopted {
            tracing::warn!(%unfit, "the build container that waited is no use; the build has another");
            if matches!(unfit, Unfit::Blind(_)) {
                self.closed.cancel();
            }
        }
        Ok(None)
    }

    /// Starts a container for builds like the last one, once there is a pause. `folder` is where it has its mounts.
    pub(super) async fn prepare(&self, engine: &Engine, spec: BuildSpec, folder: &Path) {
        let begun = self.begun.load(Ordering::Relaxed);
        if self.closed.run_until_cancelled(tokio::time::sleep(QUIET)).await.is_none() {
            return;
        }
        let _starting = self.starting.lock().await;
        if self.begun.load(Ordering::Relaxed) != begun {
            return;
        }
        let other = {
            let mut waiting = self.lock();
            if waiting.as_ref().is_some_and(|waiting| waiting.spec == spec) {
                return;
            }
            waiting.take()
        };
        if let Some(other) = other {
            other.put_away().await;
        }
        let started = match Waiting::start(engine, &spec, folder).await {
            Ok(started) => started,
            // A buildpack that was fetched for one build alone may be gone.
            Err(BuildError::Source(error)) => return tracing::debug!(%error, "no build container waits"),
            Err(error) => {
                return tracing::warn!(%error, "no build container waits: the next build takes a little longer");
            }
        };
        let is_current = started.found.is_current(&started.spec).await;
        let superfluous = {
            let mut waiting = self.lock();
            if is_current && !self.closed.is_cancelled() { waiting.replace(started) } else { Some(started) }
        };
        if let Some(superfluous) = superfluous {
            superfluous.put_away().await;
        }
    }

    /// Ends what waits, and lets nothing wait any more.
    pub(super) async fn close(&self) {
        self.closed.cancel();
        let waiting = self.lock().take();
        if let Some(waiting) = waiting {
            waiting.put_away().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
