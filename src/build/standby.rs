//! A container that waits for the next build: to make and start one takes longer than most builds that have a cache, so one
//! is started ahead. It does one build as any other does. Whatever is wrong with it, the build has a container of its own.

use std::{
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    BuildError,
    frames::{self, Event, Frames},
};
use crate::{
    engine::{
        BuildContainer, BuildSpec, Engine,
        disk::{MountedDisk, Slot},
    },
    lifecycle::protocol::Kind,
    model::AppName,
};

/// How long no build may have begun before one is started: what follows a build shall have the machine for itself.
const QUIET: Duration = Duration::from_secs(2);
/// How long it may take to say that it sees its disk.
const READY: Duration = Duration::from_secs(10);

/// At most one container waits.
#[derive(Default)]
pub(super) struct Standby {
    waiting: Mutex<Option<Waiting>>,
    begun: AtomicU64,
    closed: CancellationToken,
}

/// A container that waits, for builds that are to be as this.
struct Waiting {
    spec: BuildSpec,
    running: Running,
}

/// A build container with what is mounted for it.
pub(super) struct Running {
    pub(super) container: BuildContainer,
    slot: Option<Slot>,
}

impl Running {
    /// One of its own for a build.
    pub(super) fn of(container: BuildContainer) -> Self {
        Self { container, slot: None }
    }

    /// Ends it; when this returns, none of its processes runs.
    pub(super) async fn put_away(self) {
        if let Err(error) = self.container.kill_and_remove().await {
            tracing::error!(%error, "a build container is left until the server starts again");
        }
        if let Some(slot) = self.slot
            && let Err(error) = slot.close().await
        {
            tracing::error!(%error, "the mounts of a build container are left until the server starts again");
        }
    }

    /// Makes it the app's, on its disk.
    async fn adopt(&mut self, app: &AppName, disk: &MountedDisk) -> Result<(), BuildError> {
        if let Some(slot) = &mut self.slot {
            let device = slot.take(disk).await?;
            tokio::time::timeout(READY, self.sees(device))
                .await
                .map_err(|_| BuildError::Protocol("it does not answer".to_owned()))??;
        }
        Ok(self.container.assign(app).await?)
    }

    async fn sees(&mut self, device: u64) -> Result<(), BuildError> {
        let BuildContainer { stdin, output, .. } = &mut self.container;
        let lost = |what: String| BuildError::Protocol(what);
        let sent = frames::write(stdin, Kind::Disk, device.to_string().as_bytes()).await;
        sent.map_err(|e| lost(e.to_string()))?;
        match Frames::new(output).next().await {
            Ok(Some(Event::Frame(Kind::Ready, _))) => Ok(()),
            Ok(Some(Event::Frame(_, said) | Event::Stderr(said))) => {
                Err(lost(String::from_utf8_lossy(&said).into_owned()))
            }
            Ok(None) => Err(lost("it has ended".to_owned())),
            Err(error) => Err(lost(error.to_string())),
        }
    }
}

impl Standby {
    /// A build begins: the container that waits for one like it, if there is one and it is sound; on the app's disk.
    pub(super) async fn take(&self, spec: &BuildSpec, app: &AppName, disk: &MountedDisk) -> Option<Running> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let Waiting { mut running, .. } = self.lock().take_if(|waiting| waiting.spec == *spec)?;
        let Err(error) = running.adopt(app, disk).await else { return Some(running) };
        tracing::warn!(%error, "the build container that waited is no use; the build has another");
        running.put_away().await;
        None
    }

    /// Starts a container for builds like the last one, once there is a pause. `folder` is where it has its mounts.
    pub(super) async fn prepare(&self, engine: &Engine, spec: BuildSpec, folder: &Path) {
        let begun = self.begun.load(Ordering::Relaxed);
        let paused = self.closed.run_until_cancelled(tokio::time::sleep(QUIET)).await;
        if paused.is_none() || self.begun.load(Ordering::Relaxed) != begun {
            return;
        }
        let unfit = {
            let mut waiting = self.lock();
            if waiting.as_ref().is_some_and(|waiting| waiting.spec == spec) {
                return;
            }
            waiting.take()
        };
        if let Some(Waiting { running, .. }) = unfit {
            running.put_away().await;
        }
        let started = match start(engine, &spec, folder).await {
            Ok(running) => Waiting { spec, running },
            Err(error) => {
                tracing::warn!(%error, "no build container waits for the next build, which will take a little longer");
                return;
            }
        };
        let superfluous = {
            let mut waiting = self.lock();
            if self.closed.is_cancelled() { Some(started) } else { waiting.replace(started) }
        };
        if let Some(Waiting { running, .. }) = superfluous {
            running.put_away().await;
        }
    }

    /// Ends what waits, and lets nothing wait any more.
    pub(super) async fn close(&self) {
        self.closed.cancel();
        let waiting = self.lock().take();
        if let Some(Waiting { running, .. }) = waiting {
            running.put_away().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn start(engine: &Engine, spec: &BuildSpec, folder: &Path) -> Result<Running, BuildError> {
    let slot = Slot::open(&folder.join(format!("standby-{:08x}", rand::random::<u32>()))).await?;
    match engine.run_build(&spec.in_advance(&slot)).await {
        Ok(container) => Ok(Running { container, slot: Some(slot) }),
        Err(error) => {
            slot.close().await?;
            Err(error.into())
        }
    }
}
