//! Instances: one container each, made by the book, started and ended by the reconciler alone.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    time::Duration,
};

use bollard::{
    models::{
        ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum as Status, EndpointIpamConfig,
        EndpointSettings, HostConfig, HostConfigLogConfig, NetworkingConfig, RestartPolicy, RestartPolicyNameEnum,
    },
    query_parameters::{
        CreateContainerOptionsBuilder, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
        RemoveContainerOptionsBuilder, StopContainerOptionsBuilder, WaitContainerOptionsBuilder,
    },
};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::{ContainerId, Engine, EngineError, ImageId, Kind, Result, label, mebibytes, status};
use crate::model::{AppName, InstanceId, ProcessType, ReleaseNumber};

/// The user and group of every process of an app.
pub(super) const USER: &str = "1000:1000";

/// What root may in an instance whose user is the image's own: a part of what engines allow by default.
const CAPABILITIES: [&str; 7] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"];

/// What an instance is to be. Not `Debug`: its environment holds secrets.
#[derive(Clone)]
pub struct InstanceSpec {
    /// Its identity, and its container's name.
    pub id: InstanceId,
    /// Its app.
    pub app: AppName,
    /// Its process type.
    pub process_type: ProcessType,
    /// Its release.
    pub release: ReleaseNumber,
    /// Its image.
    pub image: ImageId,
    /// The app bridge that it is on.
    pub bridge: u32,
    /// Its address there.
    pub address: Ipv4Addr,
    /// The command; the image's if empty.
    pub entrypoint: Vec<String>,
    /// Its arguments.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// CPUs, in thousandths.
    pub cpu_millis: u32,
    /// Memory, MiB; there is no swap beside it.
    pub memory_mib: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
    /// Labels besides ours.
    pub labels: BTreeMap<String, String>,
    /// Whether user and stop signal are the image's own: such an image may begin as root, who then may do what the
    /// programs of ordinary images do before they become somebody else.
    pub own_user: bool,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Made, never started.
    Created,
    /// Runs.
    Running,
    /// Frozen, by someone else's hand.
    Paused,
    /// Between two runs, by someone else's policy.
    Restarting,
    /// On its way out.
    Removing,
    /// Ended.
    Exited,
    /// Ended, and the engine could not clean it up.
    Dead,
}

impl State {
    /// Whether it has a process.
    pub fn is_alive(self) -> bool {
        match self {
            Self::Running | Self::Paused | Self::Restarting => true,
            Self::Created | Self::Removing | Self::Exited | Self::Dead => false,
        }
    }
}

/// A container of ours, as the engine has it.
#[derive(Debug, Clone)]
pub struct Container {
    /// The engine's id.
    pub id: ContainerId,
    /// Its name: for an instance, the instance's id.
    pub name: String,
    /// All its labels.
    pub labels: HashMap<String, String>,
    /// What it does.
    pub state: State,
    /// Its address while it runs; the declared one while it does not.
    pub address: Option<Ipv4Addr>,
    /// When it was started last.
    pub started_at: Option<Timestamp>,
    /// When it ended last.
    pub finished_at: Option<Timestamp>,
    /// How it ended, if it did.
    pub exit_code: Option<i64>,
    /// Whether something in it was killed for want of memory.
    pub oom_killed: bool,
    /// Its first process as the host sees it, while it runs.
    pub pid: Option<u32>,
}

impl Container {
    /// Our label of this name.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    pub(super) fn read(inspected: ContainerInspectResponse) -> Result<Self> {
        let id = inspected.id.ok_or(EngineError::Incomplete("the id of a container"))?;
        let state = inspected.state.ok_or(EngineError::Incomplete("the state of a container"))?;
        let time = |text: Option<&String>| text.and_then(|t| t.parse::<Timestamp>().ok()).filter(|t| t.as_second() > 0);
        let networks = inspected.network_settings.and_then(|n| n.networks).unwrap_or_default();
        let address = networks.into_values().find_map(|endpoint| {
            let live = endpoint.ip_address.filter(|a| !a.is_empty());
            live.or_else(|| endpoint.ipam_config?.ipv4_address)?.parse().ok()
        });
        let current = match state.status {
            None | Some(Status::EMPTY | Status::CREATED) => State::Created,
            Some(Status::RUNNING | Status::STOPPING) => State::Running,
            Some(Status::PAUSED) => State::Paused,
            Some(Status::RESTARTING) => State::Restarting,
            Some(Status::REMOVING) => State::Removing,
            Some(Status::EXITED) => State::Exited,
            Some(Status::DEAD) => State::Dead,
        };
        Ok(Self {
            id: ContainerId(id),
            name: inspected.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            labels: inspected.config.and_then(|c| c.labels).unwrap_or_default(),
            state: current,
            address,
            started_at: time(state.started_at.as_ref()),
            finished_at: time(state.finished_at.as_ref()),
            exit_code: matches!(current, State::Exited | State::Dead).then_some(state.exit_code).flatten(),
            oom_killed: state.oom_killed.unwrap_or(false),
            pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
        })
    }
}

impl Engine {
    /// Makes an instance's container, not started. When it is there already, from a try whose answer was lost, that one
    /// is meant: an instance's id is never used twice.
    pub async fn create_instance(&self, spec: &InstanceSpec) -> Result<ContainerId> {
        let network = self.app_bridge_name(spec.bridge);
        let mut labels = self.labels(Kind::Instance);
        labels.extend(
            [
                (label::APP, spec.app.to_string()),
                (label::INSTANCE, spec.id.to_string()),
                (label::RELEASE, spec.release.to_string()),
                (label::PROCESS, spec.process_type.to_string()),
            ]
            .map(|(k, v)| (k.to_owned(), v)),
        );
        for (key, value) in &spec.labels {
            labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
        let endpoint = EndpointSettings {
            ipam_config: Some(EndpointIpamConfig {
                ipv4_address: Some(spec.address.to_string()),
                ..EndpointIpamConfig::default()
            }),
            ..EndpointSettings::default()
        };
        let log = [("max-size", "10m"), ("max-file", "3")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let host = HostConfig {
            init: Some(true),
            cap_add: spec.own_user.then(|| CAPABILITIES.map(str::to_owned).to_vec()),
            network_mode: Some(network.clone()),
            nano_cpus: Some(self.nano_cpus(u64::from(spec.cpu_millis))),
            memory: Some(mebibytes(spec.memory_mib)),
            memory_swap: Some(mebibytes(spec.memory_mib)),
            pids_limit: Some(i64::from(spec.pids)),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(log.into_iter().collect()),
            }),
            ..confined()
        };
        let body = ContainerCreateBody {
            image: Some(spec.image.to_string()),
            user: (!spec.own_user).then(|| USER.to_owned()),
            env: Some(spec.env.clone()),
            entrypoint: Some(spec.entrypoint.clone()).filter(|e| !e.is_empty()),
            cmd: Some(spec.cmd.clone()).filter(|c| !c.is_empty()),
            labels: Some(labels),
            stop_signal: (!spec.own_user).then(|| "SIGTERM".to_owned()),
            stop_timeout: i64::try_from(spec.stop_grace.as_secs()).ok(),
            host_config: Some(host),
            networking_config: Some(NetworkingConfig { endpoints_config: Some([(network, endpoint)].into()) }),
            ..ContainerCreateBody::default()
        };
        self.create(spec.id.as_str(), &spec.image, body).await
    }

    pub(super) async fn create(&self, name: &str, image: &ImageId, body: ContainerCreateBody) -> Result<ContainerId> {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        match self.docker().create_container(Some(options), body).await {
            Ok(created) => Ok(ContainerId(created.id)),
            Err(e) if status(&e) == Some(404) && self.image_id(image.as_str()).await?.is_none() => {
                Err(EngineError::ImageMissing { image: image.clone() })
            }
            Err(e) if status(&e) == Some(409) => match self.inspect(name).await? {
                Some(container) => Ok(container.id),
                None => Err(EngineError::CannotCreate { name: name.to_owned(), source: e }),
            },
            Err(source) => Err(EngineError::CannotCreate { name: name.to_owned(), source }),
        }
    }

    /// Starts a container; nothing happens to one that runs.
    pub async fn start(&self, id: &ContainerId) -> Result<()> {
        let id = self.ours(id).await?;
        self.docker()
            .start_container(id.as_str(), None)
            .await
            .map_err(|source| EngineError::CannotStart { name: id.0, source })
    }

    /// Sends SIGTERM, after the grace SIGKILL, and returns when the container has ended (or is gone).
    pub async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        let Some(container) = self.inspect(id.as_str()).await? else { return Ok(()) };
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        let patient = self.docker().clone().with_timeout(grace + super::ANSWER);
        match patient.stop_container(container.id.as_str(), Some(options)).await {
            Ok(()) => Ok(()),
            Err(e) if status(&e) == Some(404) => Ok(()),
            Err(source) => Err(EngineError::CannotStop { name: container.name, source }),
        }
    }

    /// Sends SIGKILL; it may have ended, or be gone, already.
    pub async fn kill(&self, id: &ContainerId) -> Result<()> {
        let Some(container) = self.inspect(id.as_str()).await? else { return Ok(()) };
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        match self.docker().kill_container(container.id.as_str(), Some(options)).await {
            Ok(()) => Ok(()),
            Err(e) if matches!(status(&e), Some(404 | 409)) => Ok(()),
            Err(source) => Err(EngineError::CannotKill { name: container.name, source }),
        }
    }

    /// Removes a container whatever it does; when this returns, it is gone.
    pub async fn remove(&self, id: &ContainerId) -> Result<()> {
        let Some(container) = self.inspect(id.as_str()).await? else { return Ok(()) };
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.docker().remove_container(container.id.as_str(), Some(options)).await {
            Ok(()) => Ok(()),
            Err(e) if status(&e) == Some(404) => Ok(()),
            // Someone else removes it: wait until that is done.
            Err(e) if status(&e) == Some(409) => {
                let options = WaitContainerOptionsBuilder::new().condition("removed").build();
                let waited = self.docker().wait_container(container.id.as_str(), Some(options));
                waited.for_each(|_| std::future::ready(())).await;
                match self.inspect(container.id.as_str()).await? {
                    None => Ok(()),
                    Some(_) => Err(EngineError::CannotRemove { name: container.name, source: e }),
                }
            }
            Err(source) => Err(EngineError::CannotRemove { name: container.name, source }),
        }
    }

    /// Our containers, of this kind, in any state.
    pub async fn list(&self, kind: Option<Kind>) -> Result<Vec<Container>> {
        let options = ListContainersOptionsBuilder::new().all(true).filters(&self.filter(kind)).build();
        let listed =
            self.docker().list_containers(Some(options)).await.map_err(|source| EngineError::CannotList { source })?;
        let ids: Vec<_> = listed.into_iter().filter_map(|container| container.id).collect();
        stream::iter(ids)
            .map(|id| async move { self.inspect(&id).await })
            .buffered(8)
            .try_filter_map(|container| std::future::ready(Ok(container)))
            .try_collect()
            .await
    }

    /// A container of ours by name or id; `None` when there is none, an error when it is someone else's.
    pub async fn inspect(&self, name: &str) -> Result<Option<Container>> {
        let inspected = match self.docker().inspect_container(name, None).await {
            Ok(inspected) => inspected,
            Err(e) if status(&e) == Some(404) => return Ok(None),
            Err(source) => return Err(EngineError::CannotInspect { name: name.to_owned(), source }),
        };
        let container = Container::read(inspected)?;
        if self.is_ours(Some(&container.labels)) {
            return Ok(Some(container));
        }
        Err(EngineError::NotOurs(format!("container {name}")))
    }

    async fn ours(&self, id: &ContainerId) -> Result<ContainerId> {
        match self.inspect(id.as_str()).await? {
            Some(container) => Ok(container.id),
            None => Err(EngineError::CannotStart {
                name: id.0.clone(),
                source: bollard::errors::Error::DockerResponseServerError {
                    status_code: 404,
                    message: "there is no such container".to_owned(),
                },
            }),
        }
    }
}

/// What every container of ours has: no capabilities, no way to more privileges, no restart by the engine.
pub(super) fn confined() -> HostConfig {
    HostConfig {
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        publish_all_ports: Some(false),
        ..HostConfig::default()
    }
}
