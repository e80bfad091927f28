//! Containers of this server, whatever their kind.

use std::{collections::HashMap, net::IpAddr, path::Path, time::Duration};

use bollard::{
    models::{
        ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum as Status, ContainerSummary,
        HostConfig, RestartPolicy, RestartPolicyNameEnum,
    },
    query_parameters::{
        CreateContainerOptionsBuilder, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
        RemoveContainerOptionsBuilder, StopContainerOptionsBuilder, WaitContainerOptionsBuilder,
    },
};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::{
    cgroup,
    connection::RESPONSE_TIMEOUT,
    error::{Act, EngineError, Result, status},
    handle::Containers,
    id::{ContainerId, ImageId},
    label::Kind,
    outages::Outages,
};

/// User and group of all processes of apps and builds, except in images that run as their own user.
pub(super) const USER: &str = "1000:1000";

/// Path of the resolver's configuration in a container.
pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// State of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Created, never started.
    Created,
    /// Running.
    Running,
    /// Paused; we never do this.
    Paused,
    /// Between two runs; we never set a restart policy.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Ended, and the engine could not clean it up.
    Dead,
}

impl ContainerState {
    /// Whether the container has processes.
    pub fn is_alive(self) -> bool {
        match self {
            Self::Running | Self::Paused | Self::Restarting => true,
            Self::Created | Self::Removing | Self::Exited | Self::Dead => false,
        }
    }
}

/// A container of this server, as the engine describes it.
#[derive(Debug, Clone)]
pub struct Container {
    /// Id of the container.
    pub id: ContainerId,
    /// Name of the container: for an instance, the instance's id.
    pub name: String,
    /// All labels.
    pub labels: HashMap<String, String>,
    /// State.
    pub state: ContainerState,
    /// Address: the current one while the container runs, otherwise the configured one.
    pub address: Option<IpAddr>,
    /// Time of the last start.
    pub started_at: Option<Timestamp>,
    /// Time of the last exit.
    pub finished_at: Option<Timestamp>,
    /// Whether it ended while the engine, the machine or this server was stopped.
    pub ended_in_outage: bool,
    /// Exit code, if the container has ended.
    pub exit_code: Option<i64>,
    /// Whether a process in the container was killed because it was out of memory.
    pub oom_killed: bool,
    /// Memory limit, in MiB.
    pub memory_mib: Option<u64>,
    /// Process id of the first process as seen from the host, while the container runs.
    pub pid: Option<u32>,
    /// Grace period that it was created with.
    pub stop_grace: Option<Duration>,
    /// Whether its resolver's configuration is the server's, and not the engine's.
    pub has_own_resolver: bool,
    /// The group below which its control group is, if the server chose it: a path from the root of a hierarchy.
    pub group_parent: Option<String>,
}

impl Container {
    /// Value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    fn read(inspected: ContainerInspectResponse, outages: &Outages) -> Result<Self> {
        let id = inspected.id.ok_or(EngineError::Incomplete("the id of a container"))?;
        let state = inspected.state.ok_or(EngineError::Incomplete("the state of a container"))?;
        let time = |text: Option<&String>| text.and_then(|t| t.parse::<Timestamp>().ok()).filter(|t| t.as_second() > 0);
        let networks = inspected.network_settings.and_then(|n| n.networks).unwrap_or_default();
        let address = networks.into_values().find_map(|endpoint| {
            let live = endpoint.ip_address.filter(|a| !a.is_empty());
            live.or_else(|| endpoint.ipam_config?.ipv4_address)?.parse().ok()
        });
        let config = inspected.config.unwrap_or_default();
        let host = inspected.host_config.unwrap_or_default();
        let memory = host.memory.and_then(|bytes| u64::try_from(bytes).ok());
        let mut mounted = inspected.mounts.iter().flatten().filter_map(|mount| mount.destination.as_deref());
        let has_own_resolver = mounted.any(|path| path == RESOLV_CONF);
        let current = match state.status {
            None | Some(Status::EMPTY | Status::CREATED) => ContainerState::Created,
            Some(Status::RUNNING | Status::STOPPING) => ContainerState::Running,
            Some(Status::PAUSED) => ContainerState::Paused,
            Some(Status::RESTARTING) => ContainerState::Restarting,
            Some(Status::REMOVING) => ContainerState::Removing,
            Some(Status::EXITED) => ContainerState::Exited,
            Some(Status::DEAD) => ContainerState::Dead,
        };
        let finished_at = time(state.finished_at.as_ref());
        Ok(Self {
            id: ContainerId(id),
            name: inspected.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            stop_grace: config.stop_timeout.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs),
            labels: config.labels.unwrap_or_default(),
            state: current,
            address,
            started_at: time(state.started_at.as_ref()),
            finished_at,
            ended_in_outage: !current.is_alive() && finished_at.is_some_and(|time| outages.unwatched(time)),
            exit_code: matches!(current, ContainerState::Exited | ContainerState::Dead)
                .then_some(state.exit_code)
                .flatten(),
            oom_killed: state.oom_killed.unwrap_or(false),
            has_own_resolver,
            group_parent: host.cgroup_parent.filter(|path| !path.is_empty()),
            memory_mib: memory.map(|bytes| bytes >> 20).filter(|limit| *limit > 0),
            pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
        })
    }
}

impl Containers {
    /// Creates a container, without starting it. If a container of this name exists, returns its id.
    pub(super) async fn create(&self, name: &str, image: &ImageId, body: ContainerCreateBody) -> Result<ContainerId> {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        match self.0.docker().create_container(Some(options), body).await {
            Ok(created) => Ok(ContainerId(created.id)),
            Err(e) if status(&e) == Some(404) && self.0.images().image_id(image.as_str()).await?.is_none() => {
                Err(EngineError::ImageMissing { image: image.clone() })
            }
            Err(e) if status(&e) == Some(409) => match self.inspect(name).await? {
                Some(container) => Ok(container.id),
                None => Err(EngineError::docker(Act::Create, format!("container {name}"))(e)),
            },
            Err(e) => Err(EngineError::docker(Act::Create, format!("container {name}"))(e)),
        }
    }

    /// Starts a container; no effect if it runs.
    pub async fn start(&self, id: &ContainerId) -> Result<()> {
        let container = self.inspect(id.as_str()).await?;
        let id = container.ok_or_else(|| EngineError::ContainerMissing(id.0.clone()))?.id;
        self.start_without_network(&id).await?;
        self.close_embedded_dns(&id).await
    }

    /// Starts a container whose network needs no preparation.
    pub(super) async fn start_without_network(&self, id: &ContainerId) -> Result<()> {
        let started = self.0.docker().start_container(id.as_str(), None).await;
        started.map_err(EngineError::docker(Act::Start, format!("container {id}")))
    }

    /// Names of the containers, of whatever server and state, into which a folder of the host is mounted.
    pub async fn mounting(&self, source: &Path) -> Result<Vec<String>> {
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let listed = self.0.docker().list_containers(Some(options)).await;
        let listed = listed.map_err(EngineError::docker(Act::List, "containers"))?;
        let source = source.to_string_lossy();
        let mounts = |container: &ContainerSummary| {
            let mut mounts = container.mounts.iter().flatten();
            mounts.any(|mount| mount.source.as_deref() == Some(&*source))
        };
        let names = listed.into_iter().filter(mounts).filter_map(|container| container.names?.into_iter().next());
        Ok(names.map(|name| name.trim_start_matches('/').to_owned()).collect())
    }

    /// Sends the stop signal, and SIGKILL after the grace period; returns when the container has ended or does not exist. A
    /// longer grace period that it was created with applies: the launcher divides that one.
    pub async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        let Some(container) = self.inspect(id.as_str()).await? else { return Ok(()) };
        let grace = container.stop_grace.map_or(grace, |created_with| created_with.max(grace));
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        let docker = self.0.docker().clone().with_timeout(grace + RESPONSE_TIMEOUT);
        match docker.stop_container(container.id.as_str(), Some(options)).await {
            Ok(()) => Ok(()),
            Err(e) if status(&e) == Some(404) => Ok(()),
            Err(e) => Err(EngineError::docker(Act::Stop, format!("container {}", container.name))(e)),
        }
    }

    /// Sends SIGKILL; no effect if the container has ended or does not exist.
    pub async fn kill(&self, id: &ContainerId) -> Result<()> {
        let Some(container) = self.inspect(id.as_str()).await? else { return Ok(()) };
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        match self.0.docker().kill_container(container.id.as_str(), Some(options)).await {
            Ok(()) => Ok(()),
            Err(e) if matches!(status(&e), Some(404 | 409)) => Ok(()),
            Err(e) => Err(EngineError::docker(Act::Kill, format!("container {}", container.name))(e)),
        }
    }

    /// Removes a container in any state; returns when it no longer exists.
    pub async fn remove(&self, id: &ContainerId) -> Result<()> {
        let Some(container) = self.inspect(id.as_str()).await? else { return Ok(()) };
        self.remove_from_engine(&container).await?;
        if let Some(parent) = container.group_parent {
            let removed =
                move || cgroup::remove_group_of_container(Path::new("/proc/mounts"), &parent, &container.id.0);
            let _ = tokio::task::spawn_blocking(removed).await;
        }
        Ok(())
    }

    async fn remove_from_engine(&self, container: &Container) -> Result<()> {
        let failed = EngineError::docker(Act::Remove, format!("container {}", container.name));
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.0.docker().remove_container(container.id.as_str(), Some(options)).await {
            Ok(()) => Ok(()),
            Err(e) if status(&e) == Some(404) => Ok(()),
            // Another request is removing the container: wait for it.
            Err(e) if status(&e) == Some(409) => {
                let options = WaitContainerOptionsBuilder::new().condition("removed").build();
                let waited = self.0.docker().wait_container(container.id.as_str(), Some(options));
                waited.for_each(|_| std::future::ready(())).await;
                match self.inspect(container.id.as_str()).await? {
                    None => Ok(()),
                    Some(_) => Err(failed(e)),
                }
            }
            Err(e) => Err(failed(e)),
        }
    }

    /// Containers of this server in any state, of one kind or of all kinds.
    pub async fn list(&self, kind: Option<Kind>) -> Result<Vec<Container>> {
        let options = ListContainersOptionsBuilder::new().all(true).filters(&self.0.filter(kind)).build();
        let listed = self.0.docker().list_containers(Some(options)).await;
        let listed = listed.map_err(EngineError::docker(Act::List, "containers"))?;
        let ids: Vec<_> = listed.into_iter().filter_map(|container| container.id).collect();
        stream::iter(ids)
            .map(|id| async move { self.inspect(&id).await })
            .buffered(8)
            .try_filter_map(|container| std::future::ready(Ok(container)))
            .try_collect()
            .await
    }

    /// A container by name or id: `None` if it does not exist, an error if it was not created by this server.
    pub async fn inspect(&self, name: &str) -> Result<Option<Container>> {
        let inspected = match self.0.docker().inspect_container(name, None).await {
            Ok(inspected) => inspected,
            Err(e) if status(&e) == Some(404) => return Ok(None),
            Err(e) => return Err(EngineError::docker(Act::Inspect, format!("container {name}"))(e)),
        };
        let container = Container::read(inspected, &self.0.shared.outages)?;
        if self.0.is_ours(Some(&container.labels)) {
            return Ok(Some(container));
        }
        Err(EngineError::NotOurs(format!("container {name}")))
    }
}

/// Configuration of all containers: no capabilities, no way to gain privileges, no restart by the engine.
pub(super) fn confined() -> HostConfig {
    HostConfig {
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        publish_all_ports: Some(false),
        ..HostConfig::default()
    }
}

/// A memory limit in the engine's unit, bytes.
pub(super) fn mebibytes(mib: u64) -> i64 {
    i64::try_from(mib.saturating_mul(1 << 20)).unwrap_or(i64::MAX)
}
