//! Build containers: one for each build, removed after it. A standby container is started before it is known which app
//! it will build.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    pin::Pin,
};

use bollard::{
    models::{
        ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount as DockerMount, MountBindOptions,
        MountBindOptionsPropagationEnum, MountType,
    },
    query_parameters::RenameContainerOptionsBuilder,
};
use futures_util::stream::BoxStream;
use tokio::io::AsyncWrite;

use super::{
    attach::{Attached, Printed},
    cgroup::{self, ActiveGroup},
    claim::Claim,
    container::{USER, confined, mebibytes},
    disk::{FOLDERS, MountedDisk, Slot},
    error::{Act, EngineError, Result},
    handle::Builds,
    id::{ContainerId, ImageId},
    label::{self, Kind},
    seccomp,
};
use crate::{
    model::{AppName, CpuMillis, MemoryMib, PartialSize},
    oom_score::OomScore,
};

/// Part of the name of a standby container, in place of the app.
const STANDBY: &str = "standby";

/// Where buildpacks read the variables of the build (platform specification). They must be on no disk.
const PLATFORM_FOLDER: (&str, &str) = ("/platform", "rw,nosuid,nodev,noexec,size=64m,mode=0755,uid=1000,gid=1000");

/// Where buildah gets variables, secrets and logins.
const SECRETS_FOLDER: (&str, &str) = ("/run", "rw,nosuid,nodev,noexec,size=16m,mode=0700,uid=1000,gid=1000");

/// A folder or file of the host that is mounted into a build container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Path on the host; must exist.
    pub source: PathBuf,
    /// Path in the container.
    pub target: String,
    /// Whether the build may write to it.
    pub writable: bool,
    /// Whether file systems that are mounted on it later appear in the container; `source` must be on a shared mount.
    pub receives_mounts: bool,
}

impl Mount {
    /// A mount that the build may only read.
    pub fn read_only(source: &Path, target: impl Into<String>) -> Self {
        Self { source: source.to_owned(), target: target.into(), writable: false, receives_mounts: false }
    }

    /// A mount that the build may write to.
    pub fn writable(source: &Path, target: impl Into<String>) -> Self {
        Self { source: source.to_owned(), target: target.into(), writable: true, receives_mounts: false }
    }

    /// A mount that the build may write to, and that receives file systems that are mounted on it later.
    pub fn receiving(source: &Path, target: impl Into<String>) -> Self {
        Self { receives_mounts: true, ..Self::writable(source, target) }
    }
}

/// Specification of a build container. Not `Debug`: its environment may contain the password of a proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct BuildSpec {
    /// Owning app; `None` for a standby container.
    pub app: Option<AppName>,
    /// Build image of the stack.
    pub image: ImageId,
    /// Mounts; everything else is the read-only image.
    pub mounts: Vec<Mount>,
    /// Environment variables, as `NAME=value`.
    pub env: Vec<String>,
    /// Command.
    pub entrypoint: Vec<String>,
    /// Arguments of the command.
    pub cmd: Vec<String>,
    /// CPU limit, in thousandths of a CPU.
    pub cpu_millis: u32,
    /// Memory limit in MiB; there is no swap in addition.
    pub memory_mib: u64,
    /// Maximum number of processes and threads.
    pub pids: u32,
    /// Whether its processes may make user and mount namespaces, which buildah needs; what they may do outside of these is
    /// the same.
    pub namespaces: bool,
    /// Its network.
    pub network: BuildNetwork,
}

/// What a build container reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildNetwork {
    /// What builds may reach.
    Builds,
    /// What this machine reaches, as the engine does: for an image that an admin names, and no code of anybody.
    Machine,
}

impl BuildSpec {
    /// The same container with a size of its own, as far as this one says.
    #[must_use]
    pub fn sized(&self, size: PartialSize) -> Self {
        Self {
            cpu_millis: size.cpu.map_or(self.cpu_millis, CpuMillis::millis),
            memory_mib: size.memory.map_or(self.memory_mib, MemoryMib::mebibytes),
            ..self.clone()
        }
    }

    /// The same container with the folders of a disk.
    #[must_use]
    pub fn on_disk(&self, disk: &MountedDisk) -> Self {
        let folders = FOLDERS.map(|name| Mount::writable(&disk.folder(name), format!("/{name}")));
        Self { mounts: [&self.mounts[..], &folders].concat(), ..self.clone() }
    }

    /// The same container for an app, with the app's disk.
    #[must_use]
    pub fn for_app(&self, app: &AppName, disk: &MountedDisk) -> Self {
        Self { app: Some(app.clone()), ..self.on_disk(disk) }
    }

    /// The same container as a standby container; the disk of the app will be mounted into the slot.
    #[must_use]
    pub fn for_standby(&self, slot: &Slot) -> Self {
        let folders = FOLDERS.map(|name| Mount::receiving(&slot.folder(name), format!("/{name}")));
        Self { app: None, mounts: [&self.mounts[..], &folders].concat(), ..self.clone() }
    }
}

/// How a build container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildExit {
    /// Exit code; 137 after SIGKILL.
    pub code: i64,
    /// Whether a process in the container was killed because it was out of memory.
    pub oom_killed: bool,
}

/// A running build container. Its processes end when their standard input ends, but the container must still be
/// [removed](Self::kill_and_remove).
pub struct BuildContainer {
    builds: Builds,
    id: ContainerId,
    /// Standard input. It ends when this is dropped or shut down.
    pub stdin: Pin<Box<dyn AsyncWrite + Send>>,
    /// Standard output and error, from the first byte to the last.
    pub output: BoxStream<'static, Result<Printed>>,
    active_group: Option<ActiveGroup>,
    claim: Claim,
}

impl Builds {
    /// Creates and starts a build container on the build bridge, which is created and isolated first if necessary.
    pub async fn run_build(&self, spec: &BuildSpec) -> Result<BuildContainer> {
        let network = match spec.network {
            BuildNetwork::Builds => self.ensure_build_bridge().await?,
            BuildNetwork::Machine => "host".to_owned(),
        };
        let name = self.build_name(spec.app.as_ref());
        let claim = self.0.shared.claims.claim(&name);
        let mut labels = self.0.labels(Kind::Build);
        labels.extend(spec.app.iter().map(|app| (label::APP.to_owned(), app.to_string())));
        let resolver = self.0.resolver_mount().await?;
        let active_group = self.0.activate_build_group().await;
        let host = HostConfig {
            // The lifecycle is one; the engine's would offer the container's streams to every process of the build.
            init: Some(false),
            network_mode: Some(network),
            readonly_rootfs: Some(true),
            nano_cpus: Some(self.0.nano_cpus(u64::from(spec.cpu_millis))),
            cgroup_parent: active_group.as_ref().map(|group| group.path.clone()),
            cpu_shares: Some(i64::from(cgroup::CPU_SHARES)),
            blkio_weight: Some(cgroup::IO_WEIGHT),
            memory: Some(mebibytes(spec.memory_mib)),
            memory_swap: Some(mebibytes(spec.memory_mib)),
            pids_limit: Some(i64::from(spec.pids)),
            oom_score_adj: Some(OomScore::Build.value().into()),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            mounts: Some(spec.mounts.iter().chain([&resolver]).map(mount).collect()),
            tmpfs: Some(in_memory(spec.namespaces)),
            ..if spec.namespaces { confined_with_namespaces() } else { confined() }
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
        let id = self.0.containers().create(&name, &spec.image, body).await?;
        match self.attach_and_start(&id, &name, spec.network, active_group, claim).await {
            Ok(container) => Ok(container),
            Err(e) => {
                if let Err(error) = self.0.containers().remove(&id).await {
                    tracing::warn!(%error, "cannot remove a build container that did not start; this is repeated");
                }
                Err(e)
            }
        }
    }

    async fn attach_and_start(
        &self,
        id: &ContainerId,
        name: &str,
        network: BuildNetwork,
        active_group: Option<ActiveGroup>,
        claim: Claim,
    ) -> Result<BuildContainer> {
        let what = format!("container {name}");
        let Attached { stdin, output } = self.0.containers().attach(id).await?;
        let started = self.0.docker().start_container(id.as_str(), None).await;
        started.map_err(EngineError::docker(Act::Start, what))?;
        // The lifecycle runs nothing before the server's request. This machine's own network has no name server of the engine.
        if network == BuildNetwork::Builds {
            self.0.containers().close_embedded_dns(id).await?;
        }
        Ok(BuildContainer { builds: self.clone(), id: id.clone(), stdin, output, active_group, claim })
    }

    fn build_name(&self, app: Option<&AppName>) -> String {
        let what = app.map_or_else(|| STANDBY.to_owned(), |app| format!("build-{app}"));
        format!("paas-{}-{what}-{:08x}", self.0.server_id(), rand::random::<u32>())
    }

    /// Removes the containers of no build: those that a crashed server left behind, and those that an engine did not remove, since it
    /// did not respond. Returns their number.
    pub async fn remove_leftover_builds(&self) -> Result<usize> {
        let containers = self.0.containers().list(Some(Kind::Build)).await?;
        let leftovers: Vec<_> = containers.into_iter().filter(|one| !self.0.shared.claims.has(&one.name)).collect();
        for container in &leftovers {
            self.0.containers().remove(&container.id).await?;
        }
        Ok(leftovers.len())
    }
}

impl BuildContainer {
    /// Id of the container.
    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Marks the container as idle: unless another build is active, the priority of builds is no longer adjusted.
    pub fn deactivate(&mut self) {
        self.active_group = None;
    }

    /// Marks the container as active again.
    pub async fn activate(&mut self) {
        self.active_group = self.builds.0.activate_build_group().await;
    }

    /// Renames a standby container after the app that it builds. Labels cannot be changed.
    pub async fn rename(&mut self, app: &AppName) -> Result<()> {
        let name = self.builds.build_name(Some(app));
        self.claim.add(&name);
        let options = RenameContainerOptionsBuilder::new().name(&name).build();
        let renamed = self.builds.0.docker().rename_container(self.id.as_str(), options).await;
        renamed.map_err(EngineError::docker(Act::Rename, format!("a container to {name}")))
    }

    /// Waits until the container has ended.
    pub async fn wait(&mut self) -> Result<BuildExit> {
        self.builds.0.containers().wait(&self.id).await?;
        let container = self.builds.0.containers().inspect(self.id.as_str()).await?;
        let container = container.ok_or_else(|| EngineError::ContainerMissing(self.id.0.clone()))?;
        Ok(BuildExit { code: container.exit_code.unwrap_or(255), oom_killed: container.oom_killed })
    }

    /// Kills and removes the container; when this returns, none of its processes runs.
    pub async fn kill_and_remove(self) -> Result<()> {
        let Self { builds, id, stdin, output, active_group: _active_group, claim: _claim } = self;
        // The engine waits until the remaining output of a dying container is read.
        drop((stdin, output));
        builds.0.containers().remove(&id).await
    }
}

/// Settings of a container without privileges whose user can be root of a user namespace: for that, `newuidmap` must have
/// its two capabilities, which nothing else in the container gets. AppArmor's profile for containers would forbid mounts in
/// the namespace.
fn confined_with_namespaces() -> HostConfig {
    HostConfig {
        cap_add: Some(vec!["SETUID".to_owned(), "SETGID".to_owned()]),
        security_opt: Some(vec![format!("seccomp={}", seccomp::profile()), "apparmor=unconfined".to_owned()]),
        ..confined()
    }
}

/// Folders in memory, with their options.
fn in_memory(namespaces: bool) -> HashMap<String, String> {
    let folders = [Some(PLATFORM_FOLDER), namespaces.then_some(SECRETS_FOLDER)];
    folders.into_iter().flatten().map(|(path, options)| (path.to_owned(), options.to_owned())).collect()
}

/// A bind mount whose source must exist: for an unmounted disk, the engine reports an error instead of creating a folder
/// on the host's own disk.
pub(super) fn mount(mount: &Mount) -> DockerMount {
    DockerMount {
        typ: Some(MountType::BIND),
        source: Some(mount.source.to_string_lossy().into_owned()),
        target: Some(mount.target.clone()),
        read_only: Some(!mount.writable),
        bind_options: Some(MountBindOptions {
            propagation: Some(if mount.receives_mounts {
                MountBindOptionsPropagationEnum::RSLAVE
            } else {
                MountBindOptionsPropagationEnum::PRIVATE
            }),
            ..MountBindOptions::default()
        }),
        ..DockerMount::default()
    }
}
