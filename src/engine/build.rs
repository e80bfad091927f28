//! Build containers: one for each build, attached to before it starts, and gone when its build is over. One may be started
//! before it is known whose build it will do.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
};

use bollard::{
    container::LogOutput,
    models::{
        ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount as DockerMount, MountBindOptions,
        MountBindOptionsPropagationEnum, MountType,
    },
    query_parameters::{AttachContainerOptionsBuilder, RenameContainerOptionsBuilder, WaitContainerOptionsBuilder},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use tokio::io::AsyncWrite;

use super::{
    ContainerId, Engine, EngineError, ImageId, Kind, Result,
    cgroup::{self, Place},
    disk::{FOLDERS, MountedDisk, Slot},
    instance::{USER, confined},
    label, mebibytes, status,
};
use crate::model::AppName;

/// In the name of a build container that is nobody's yet.
const STANDBY: &str = "standby";

/// A folder or file of the host that a build sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// On the host; must exist.
    pub source: PathBuf,
    /// In the container.
    pub target: String,
    /// Whether the build may write to it.
    pub writable: bool,
    /// Whether it sees what is mounted on it later, too; the folder must be on a mount that is shared.
    pub follows: bool,
}

impl Mount {
    /// One that the build may only read.
    pub fn read_only(source: &Path, target: impl Into<String>) -> Self {
        Self { source: source.to_owned(), target: target.into(), writable: false, follows: false }
    }

    /// One that the build may write to.
    pub fn writable(source: &Path, target: impl Into<String>) -> Self {
        Self { source: source.to_owned(), target: target.into(), writable: true, follows: false }
    }

    /// One that the build may write to, and where something may be mounted later.
    pub fn following(source: &Path, target: impl Into<String>) -> Self {
        Self { follows: true, ..Self::writable(source, target) }
    }
}

/// What a build container is to be. Not `Debug`: its environment may hold a proxy's password.
#[derive(Clone, PartialEq, Eq)]
pub struct BuildSpec {
    /// Whose build it is, if that is known.
    pub app: Option<AppName>,
    /// The stack's build image.
    pub image: ImageId,
    /// What it sees of the host; all else is read-only and the image's.
    pub mounts: Vec<Mount>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// The command.
    pub entrypoint: Vec<String>,
    /// Its arguments.
    pub cmd: Vec<String>,
    /// CPUs.
    pub cpus: u32,
    /// Memory, MiB; there is no swap beside it.
    pub memory_mib: u64,
    /// Processes and threads.
    pub pids: u32,
}

impl BuildSpec {
    /// The same for an app, on its disk.
    #[must_use]
    pub fn on(&self, app: &AppName, disk: &MountedDisk) -> Self {
        let folders = FOLDERS.map(|name| Mount::writable(&disk.folder(name), format!("/{name}")));
        Self { app: Some(app.clone()), mounts: [&self.mounts[..], &folders].concat(), ..self.clone() }
    }

    /// The same for whichever app comes, whose disk will be in the slot.
    #[must_use]
    pub fn in_advance(&self, slot: &Slot) -> Self {
        let folders = FOLDERS.map(|name| Mount::following(&slot.folder(name), format!("/{name}")));
        Self { app: None, mounts: [&self.mounts[..], &folders].concat(), ..self.clone() }
    }
}

/// What a build container prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildOutput {
    /// On standard output.
    Stdout(Bytes),
    /// On standard error.
    Stderr(Bytes),
}

/// How a build container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildExit {
    /// Its exit code; 137 after SIGKILL.
    pub code: i64,
    /// Whether something in it was killed for want of memory.
    pub oom_killed: bool,
}

/// A build container that runs. When its stdin is dropped, what runs in it sees the end of its input; it must be
/// [removed](Self::kill_and_remove) all the same.
pub struct BuildContainer {
    engine: Engine,
    id: ContainerId,
    /// Its standard input. Taking and dropping it, or shutting it down, ends it.
    pub stdin: Pin<Box<dyn AsyncWrite + Send>>,
    /// Its standard output and error, from the first byte to the last.
    pub output: BoxStream<'static, Result<BuildOutput>>,
    place: Option<Place>,
}

impl Engine {
    /// Makes and starts a build container on the build bridge, which is made and closed first.
    pub async fn run_build(&self, spec: &BuildSpec) -> Result<BuildContainer> {
        let network = self.ensure_build_bridge().await?;
        let name = self.build_name(spec.app.as_ref());
        let mut labels = self.labels(Kind::Build);
        labels.extend(spec.app.iter().map(|app| (label::APP.to_owned(), app.to_string())));
        let place = self.build_place().await;
        let host = HostConfig {
            init: Some(true),
            network_mode: Some(network),
            readonly_rootfs: Some(true),
            nano_cpus: Some(self.nano_cpus(u64::from(spec.cpus) * 1000)),
            cgroup_parent: place.as_ref().map(|place| place.path.clone()),
            cpu_shares: Some(i64::from(cgroup::SHARES)),
            blkio_weight: Some(cgroup::IO_WEIGHT),
            memory: Some(mebibytes(spec.memory_mib)),
            memory_swap: Some(mebibytes(spec.memory_mib)),
            pids_limit: Some(i64::from(spec.pids)),
            oom_score_adj: Some(500),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            mounts: Some(spec.mounts.iter().map(mount).collect()),
            ..confined()
        };
        let body = ContainerCreateBody {
            image: Some(spec.image.to_string()),
            user: Some(USER.to_owned()),
            env: Some(spec.env.clone()),
            entrypoint: Some(spec.entrypoint.clone()).filter(|e| !e.is_empty()),
            cmd: Some(spec.cmd.clone()).filter(|c| !c.is_empty()),
            labels: Some(labels),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            open_stdin: Some(true),
            stdin_once: Some(true),
            tty: Some(false),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        };
        let id = self.create(&name, &spec.image, body).await?;
        match self.attach_and_start(&id, &name, place).await {
            Ok(container) => Ok(container),
            Err(e) => {
                if let Err(error) = self.remove(&id).await {
                    tracing::warn!(%error, "a build container that did not start is left for later");
                }
                Err(e)
            }
        }
    }

    async fn attach_and_start(&self, id: &ContainerId, name: &str, place: Option<Place>) -> Result<BuildContainer> {
        let options = AttachContainerOptionsBuilder::new().stream(true).stdin(true).stdout(true).stderr(true).build();
        let attached = self
            .docker()
            .attach_container(id.as_str(), Some(options))
            .await
            .map_err(|source| EngineError::CannotAttach { name: name.to_owned(), source })?;
        self.docker()
            .start_container(id.as_str(), None)
            .await
            .map_err(|source| EngineError::CannotStart { name: name.to_owned(), source })?;
        let name = name.to_owned();
        let output = attached.output.filter_map(move |output| {
            std::future::ready(match output {
                Ok(LogOutput::StdOut { message } | LogOutput::Console { message }) => {
                    Some(Ok(BuildOutput::Stdout(message)))
                }
                Ok(LogOutput::StdErr { message }) => Some(Ok(BuildOutput::Stderr(message))),
                Ok(LogOutput::StdIn { .. }) => None,
                Err(source) => Some(Err(EngineError::CannotAttach { name: name.clone(), source })),
            })
        });
        let (engine, id, output) = (self.clone(), id.clone(), output.boxed());
        Ok(BuildContainer { engine, id, stdin: attached.input, output, place })
    }

    fn build_name(&self, app: Option<&AppName>) -> String {
        let what = app.map_or_else(|| STANDBY.to_owned(), |app| format!("build-{app}"));
        format!("paas-{}-{what}-{:08x}", self.server_id(), rand::random::<u32>())
    }

    /// The next build's place in a control group, if that is not the engine's own.
    pub(super) async fn build_place(&self) -> Option<Place> {
        let engine = self.clone();
        tokio::task::spawn_blocking(move || engine.inner.builds.place()).await.ok().flatten()
    }

    /// Removes the control group of builds, if no build is in it.
    pub async fn leave_build_group(&self) {
        let engine = self.clone();
        let _ = tokio::task::spawn_blocking(move || engine.inner.builds.remove()).await;
    }

    /// Removes build containers that a server before this one left.
    pub async fn remove_leftover_builds(&self) -> Result<usize> {
        let leftovers = self.list(Some(Kind::Build)).await?;
        for container in &leftovers {
            self.remove(&container.id).await?;
        }
        Ok(leftovers.len())
    }
}

impl BuildContainer {
    /// The engine's id.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Gives its place up while it has nothing to do: nothing needs to give way to it.
    pub fn rest(&mut self) {
        self.place = None;
    }

    /// Takes a place again.
    pub async fn rouse(&mut self) {
        self.place = self.engine.build_place().await;
    }

    /// Names one that was started for nobody after an app. Its labels cannot change.
    pub async fn rename(&mut self, app: &AppName) -> Result<()> {
        let name = self.engine.build_name(Some(app));
        let options = RenameContainerOptionsBuilder::new().name(&name).build();
        let renamed = self.engine.docker().rename_container(self.id.as_str(), options).await;
        renamed.map_err(|source| EngineError::CannotRename { name, source })
    }

    /// Waits until it has ended.
    pub async fn wait(&mut self) -> Result<BuildExit> {
        let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
        let mut waited = Box::pin(self.engine.docker().wait_container(self.id.as_str(), Some(options)));
        match waited.next().await {
            None | Some(Ok(_) | Err(bollard::errors::Error::DockerContainerWaitError { .. })) => {}
            Some(Err(e)) if status(&e) == Some(404) => {}
            Some(Err(source)) => return Err(EngineError::CannotWait { name: self.id.0.clone(), source }),
        }
        let container = self.engine.inspect(self.id.as_str()).await?;
        let container = container.ok_or(EngineError::Incomplete("the build container, which someone has removed"))?;
        Ok(BuildExit { code: container.exit_code.unwrap_or(255), oom_killed: container.oom_killed })
    }

    /// Ends and removes it; when this returns, none of its processes runs.
    pub async fn kill_and_remove(self) -> Result<()> {
        let Self { engine, id, stdin, output, place: _place } = self;
        // The engine waits for whoever reads what a dying container has still to say.
        drop((stdin, output));
        engine.remove(&id).await
    }
}

/// A bind mount whose source must exist: an unmounted disk is an error, not a new folder on the host's own disk.
fn mount(mount: &Mount) -> DockerMount {
    DockerMount {
        typ: Some(MountType::BIND),
        source: Some(mount.source.to_string_lossy().into_owned()),
        target: Some(mount.target.clone()),
        read_only: Some(!mount.writable),
        bind_options: Some(MountBindOptions {
            propagation: Some(if mount.follows {
                MountBindOptionsPropagationEnum::RSLAVE
            } else {
                MountBindOptionsPropagationEnum::PRIVATE
            }),
            ..MountBindOptions::default()
        }),
        ..DockerMount::default()
    }
}
