//! The seam between what is declared and what runs: the few functions by which workloads are brought up.

use std::time::Duration;

use futures_util::stream::BoxStream;

#[cfg(test)]
use super::memory::Memory;
use super::{
    local::Local,
    spec::{Purpose, Workload, WorkloadBudget},
    volumes::{MountedVolume, VolumeError},
};
use crate::{
    data_dir::FreeSpace,
    engine::{
        Archiving, Attached, Container, ContainerExit, ContainerId, Executed, Execution, ListeningSocket, LogLine,
        LogOptions, MemoryKill, Result, UsageSample, Written,
    },
    model::{AppName, Digest, ReleaseNumber, TerminalSize},
    periodic::Waker,
    store::Placement,
};

/// Brings workloads up. Which containers run and when is decided by others; a workload is known by its identity.
#[derive(Debug, Clone)]
pub enum Runtime {
    /// One engine on this machine, with addresses of our own.
    Local(Local),
    /// Nothing but memory, for unit tests.
    #[cfg(test)]
    Memory(Memory),
}

/// Calls the same function of the runtime that there is.
macro_rules! dispatch {
    ($self:ident, $runtime:ident => $call:expr) => {
        match $self {
            Self::Local($runtime) => $call,
            #[cfg(test)]
            Self::Memory($runtime) => $call,
        }
    };
}

impl Runtime {
    /// How the store places a new workload, in the transaction that adds its row.
    pub fn placement(&self) -> Placement {
        dispatch!(self, runtime => runtime.placement())
    }

    /// Makes the image of a release available where workloads start. No effect if it is.
    pub async fn prepare(&self, app: &AppName, release: ReleaseNumber, image: &Digest) -> Result<()> {
        dispatch!(self, runtime => runtime.prepare(app, release, image).await)
    }

    /// Creates the container of a workload without starting it. If it exists, only its id is returned: an earlier request
    /// created it, but the response was lost (an identity is never used twice).
    pub async fn create(&self, workload: &Workload) -> Result<ContainerId> {
        dispatch!(self, runtime => runtime.create(workload).await)
    }

    /// Starts a created container.
    pub async fn start(&self, container: &ContainerId) -> Result<()> {
        dispatch!(self, runtime => runtime.start(container).await)
    }

    /// The workload of this identity, as it is now; `None` if it has no container.
    pub async fn observe(&self, id: &str) -> Result<Option<Container>> {
        dispatch!(self, runtime => runtime.observe(id).await)
    }

    /// All workloads of this purpose that have a container, in any state.
    pub async fn list(&self, purpose: Purpose) -> Result<Vec<Container>> {
        dispatch!(self, runtime => runtime.list(purpose).await)
    }

    /// What a workload has used until now; `None` if it does not run.
    pub async fn usage(&self, container: &ContainerId) -> Result<Option<UsageSample>> {
        dispatch!(self, runtime => runtime.usage(container).await)
    }

    /// The ends of workloads of this purpose, from now on, each at least once.
    pub fn changes(&self, purpose: Purpose) -> BoxStream<'static, ContainerExit> {
        dispatch!(self, runtime => runtime.changes(purpose))
    }

    /// A waker that is woken whenever workloads can be observed again after a failure: some may have ended, and what was to be
    /// removed may be left.
    pub fn returned(&self) -> Waker {
        match self {
            Self::Local(runtime) => runtime.returned(),
            // It never fails to be observed.
            #[cfg(test)]
            Self::Memory(_) => Waker::default(),
        }
    }

    /// The kills of processes of workloads of this purpose because they were out of memory: those that the engine remembers, and
    /// from now on.
    pub fn memory_kills(&self, purpose: Purpose) -> BoxStream<'static, MemoryKill> {
        dispatch!(self, runtime => runtime.memory_kills(purpose))
    }

    /// Ends a workload: SIGTERM, and SIGKILL after the grace period. Returns when it has ended.
    pub async fn stop(&self, container: &ContainerId, grace: Duration) -> Result<()> {
        dispatch!(self, runtime => runtime.stop(container, grace).await)
    }

    /// Ends a workload at once, with SIGKILL. No effect if it has ended.
    pub async fn kill(&self, container: &ContainerId) -> Result<()> {
        dispatch!(self, runtime => runtime.kill(container).await)
    }

    /// What a workload has written besides its volumes; `None` if it does not run. All its files are counted.
    pub async fn written(&self, container: &ContainerId) -> Result<Option<Written>> {
        dispatch!(self, runtime => runtime.written(container).await)
    }

    /// What the disk has left to which workloads write; `None` if that is not known.
    pub async fn free_space(&self) -> Option<FreeSpace> {
        dispatch!(self, runtime => runtime.free_space().await)
    }

    /// Creates a container that packs or unpacks the files of a volume. Its memory counts against the owner's.
    pub async fn create_archiver(
        &self,
        app: &AppName,
        volume: &MountedVolume,
        archiving: Archiving,
        budget: WorkloadBudget,
    ) -> Result<ContainerId, VolumeError> {
        dispatch!(self, runtime => runtime.create_archiver(app, volume, archiving, budget).await)
    }

    /// Starts such a container.
    pub async fn start_archiver(&self, container: &ContainerId) -> Result<()> {
        dispatch!(self, runtime => runtime.start_archiver(container).await)
    }

    /// Removes the container of a workload in any state.
    pub async fn remove(&self, container: &ContainerId) -> Result<()> {
        dispatch!(self, runtime => runtime.remove(container).await)
    }

    /// What a workload printed, oldest first.
    pub fn logs(&self, container: &ContainerId, options: LogOptions) -> BoxStream<'static, Result<LogLine>> {
        dispatch!(self, runtime => runtime.logs(container, options))
    }

    /// The sockets on which a workload listens: they explain why it is not reachable.
    pub async fn diagnose(&self, container: &ContainerId) -> Result<Vec<ListeningSocket>> {
        dispatch!(self, runtime => runtime.diagnose(container).await)
    }

    /// Connects to the standard streams of a created container, before it is started.
    pub async fn attach(&self, container: &ContainerId) -> Result<Attached> {
        dispatch!(self, runtime => runtime.attach(container).await)
    }

    /// Waits until a container has ended; returns its exit code, and `None` if it was removed.
    pub async fn wait(&self, container: &ContainerId) -> Result<Option<i64>> {
        dispatch!(self, runtime => runtime.wait(container).await)
    }

    /// Sets the size of the terminal of a container.
    pub async fn resize(&self, container: &ContainerId, size: TerminalSize) -> Result<()> {
        dispatch!(self, runtime => runtime.resize(container, size).await)
    }

    /// Starts another command in a running container.
    pub async fn execute(&self, container: &ContainerId, execution: Execution) -> Result<(Attached, Executed)> {
        dispatch!(self, runtime => runtime.execute(container, execution).await)
    }

    /// Opens what workloads may reach besides what all may, and closes what was opened before.
    pub async fn apply_openings(&self) -> Result<()> {
        dispatch!(self, runtime => runtime.apply_openings().await)
    }

    /// Completes the start of a container that an earlier server may have begun. No effect if it has ended.
    pub async fn adopt(&self, container: &Container) -> Result<()> {
        dispatch!(self, runtime => runtime.adopt(container).await)
    }

    /// Brings the name servers of all workloads up to date with those of the machine.
    pub async fn update_resolver(&self) -> Result<()> {
        dispatch!(self, runtime => runtime.update_resolver().await)
    }

    /// Restores what other programs on the machine may have removed, such as packet filters.
    pub async fn maintain(&self) -> Result<()> {
        dispatch!(self, runtime => runtime.maintain().await)
    }
}
