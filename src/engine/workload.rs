//! Containers of instances and tasks.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig,
    NetworkingConfig,
};

use super::{
    attach::console_size,
    build::{Mount, mount},
    cgroup::OwnerGroup,
    container::{USER, confined, mebibytes},
    error::Result,
    handle::Containers,
    id::{ContainerId, ImageId},
    label::{self, Kind},
    layer_limit::{LayerLimits, is_refusal, limited},
};
use crate::{
    lifecycle::LAUNCHER,
    model::{AppName, CpuMillis, HOST_NAME, PartialSize, ReleaseNumber, Size, TerminalSize},
    oom_score::OomScore,
};

/// Capabilities of root in a container that runs as its image's own user: a subset of the engine's default.
const CAPABILITIES: [&str; 7] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"];

/// Standard input of a container, and whether it has a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// No standard input; what is printed goes to the container's log.
    None,
    /// A pipe from who [attaches](Containers::attach) to the container. Nothing is kept of what is printed.
    Pipe,
    /// A terminal of this size, for who attaches to the container. Nothing is kept of what is printed.
    Terminal(TerminalSize),
}

impl Input {
    /// Whether the container has a terminal.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Terminal(_))
    }
}

/// Specification of the container of an instance or task. Not `Debug`: its environment holds secrets.
#[derive(Clone)]
pub struct ContainerSpec {
    /// Identity of the instance or task, and name of its container.
    pub name: String,
    /// Kind of the container.
    pub kind: Kind,
    /// Owning app.
    pub app: AppName,
    /// Process type of the instance, or kind of the task.
    pub process: String,
    /// Release.
    pub release: ReleaseNumber,
    /// Image.
    pub image: ImageId,
    /// Address of the container on the app bridge that has it.
    pub address: Ipv4Addr,
    /// Command; if empty, the image's entrypoint.
    pub entrypoint: Vec<String>,
    /// Arguments of the command.
    pub cmd: Vec<String>,
    /// Environment variables, as `NAME=value`.
    pub env: Vec<String>,
    /// CPU time and memory that it has at most; there is no swap in addition.
    pub limit: Size,
    /// CPU time and memory that are kept free for it, if the machine has them.
    pub reserve: PartialSize,
    /// The control group of the owner's containers.
    pub group: OwnerGroup,
    /// Maximum number of processes and threads.
    pub pids: u32,
    /// Log that is kept of what it prints, in MiB, in [`LOG_FILES`] files.
    pub log_mib: u64,
    /// What it may write to its own layer, in MiB, if the engine can limit that.
    pub disk_mib: u64,
    /// Grace period: the time between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
    /// Whether user and stop signal are those of the image. Such an image may start as root, which then has the
    /// capabilities that programs of ordinary images need until they switch to another user.
    pub own_user: bool,
    /// Standard input and terminal.
    pub input: Input,
    /// Whether the launcher of the image is the init of the container; otherwise the engine's is.
    pub launcher_is_init: bool,
    /// Names that the container knows besides that of this machine, and their addresses.
    pub names: Vec<(String, Ipv4Addr)>,
    /// A launcher that is used instead of the image's.
    pub launcher: Option<PathBuf>,
    /// Volumes and folders of the host, in the order in which they are mounted.
    pub mounts: Vec<Mount>,
}

impl Containers {
    /// Creates the container of an instance or task on the app bridge that has its address, without starting it. If the
    /// container exists, its id is returned: an earlier request created it, but the response was lost (a name is never used
    /// twice).
    pub async fn create_workload(&self, spec: &ContainerSpec) -> Result<ContainerId> {
        let network = self.ensure_bridge_of(spec.address).await?;
        let launcher = spec.launcher.as_ref().map(|path| Mount::read_only(path, LAUNCHER));
        let mounts = [self.0.resolver_mount().await?].into_iter().chain(launcher).chain(spec.mounts.iter().cloned());
        let this_machine = self.0.gateway_of(spec.address).map(|gateway| (HOST_NAME.to_owned(), gateway));
        let names = this_machine.into_iter().chain(spec.names.iter().cloned());
        let mut labels = self.0.labels(spec.kind);
        labels.extend(
            [
                (label::APP, spec.app.to_string()),
                (label::INSTANCE, spec.name.clone()),
                (label::RELEASE, spec.release.to_string()),
                (label::PROCESS, spec.process.clone()),
            ]
            .map(|(k, v)| (k.to_owned(), v)),
        );
        let endpoint = EndpointSettings {
            ipam_config: Some(EndpointIpamConfig {
                ipv4_address: Some(spec.address.to_string()),
                ..EndpointIpamConfig::default()
            }),
            ..EndpointSettings::default()
        };
        let attached = spec.input != Input::None;
        let host = HostConfig {
            init: Some(!spec.launcher_is_init),
            cap_add: spec.own_user.then(|| CAPABILITIES.map(str::to_owned).to_vec()),
            network_mode: Some(network.clone()),
            extra_hosts: Some(names.map(|(name, address)| format!("{name}:{address}")).collect()),
            nano_cpus: Some(self.0.nano_cpus(u64::from(spec.limit.cpu.millis()))),
            cpu_shares: spec.reserve.cpu.map(cpu_shares),
            memory: Some(mebibytes(spec.limit.memory.mebibytes())),
            memory_swap: Some(mebibytes(spec.limit.memory.mebibytes())),
            memory_reservation: spec.reserve.memory.map(|memory| mebibytes(memory.mebibytes())),
            cgroup_parent: self.0.instance_group(&spec.group).await,
            pids_limit: Some(i64::from(spec.pids)),
            oom_score_adj: Some(OomScore::Instance.value().into()),
            mounts: Some(mounts.map(|each| mount(&each)).collect()),
            log_config: Some(log_config(attached, spec.log_mib)),
            console_size: match spec.input {
                Input::Terminal(size) => console_size(size),
                Input::None | Input::Pipe => None,
            },
            ..confined()
        };
        let body = ContainerCreateBody {
            image: Some(spec.image.to_string()),
            user: (!spec.own_user).then(|| USER.to_owned()),
            env: Some(spec.env.clone()),
            entrypoint: Some(spec.entrypoint.clone()).filter(|e| !e.is_empty()),
            cmd: Some(spec.cmd.clone()).filter(|c| !c.is_empty()),
            labels: Some(labels),
            attach_stdin: Some(attached),
            open_stdin: Some(attached),
            stdin_once: Some(attached),
            tty: Some(spec.input.is_terminal()),
            // Health checks are ours: the engine does not run that of the image as well.
            healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
            // A terminal sends SIGINT, SIGQUIT and SIGWINCH for other reasons.
            stop_signal: (!spec.own_user || spec.input.is_terminal()).then(|| "SIGTERM".to_owned()),
            stop_timeout: i64::try_from(spec.stop_grace.as_secs()).ok(),
            host_config: Some(host),
            networking_config: Some(NetworkingConfig { endpoints_config: Some([(network, endpoint)].into()) }),
            ..ContainerCreateBody::default()
        };
        self.create_limited(&spec.name, &spec.image, body, spec.disk_mib).await
    }
}

impl Containers {
    /// Creates a container as [`Containers::create`] does, whose layer is limited if the engine can do that.
    async fn create_limited(
        &self,
        name: &str,
        image: &ImageId,
        body: ContainerCreateBody,
        limit_mib: u64,
    ) -> Result<ContainerId> {
        let known = &self.0.shared.layer_limits;
        if known.are_impossible() {
            return self.create(name, image, body).await;
        }
        match self.create(name, image, limited(body.clone(), limit_mib)).await {
            Ok(created) => {
                known.set(LayerLimits::Possible);
                Ok(created)
            }
            Err(error) if is_refusal(&error) => {
                known.set(LayerLimits::Impossible);
                self.create(name, image, body).await
            }
            Err(error) => Err(error),
        }
    }
}

/// CPU weight of a container for which so much CPU time is kept free: that which all have, and 1024 for each CPU.
fn cpu_shares(reserve: CpuMillis) -> i64 {
    1024 + i64::from(reserve.millis()) * 1024 / 1000
}

/// Number of files of a log: the oldest is removed when the newest is full.
const LOG_FILES: u64 = 3;

/// What is printed to an attached client is not kept: it may be a dump of a database.
fn log_config(attached: bool, mib: u64) -> HostConfigLogConfig {
    if attached {
        return HostConfigLogConfig { typ: Some("none".to_owned()), config: None };
    }
    let options = [
        ("max-size", format!("{}k", mib * 1024 / LOG_FILES)),
        ("max-file", LOG_FILES.to_string()),
        ("compress", "false".to_owned()),
    ];
    let bounds = options.map(|(name, value)| (name.to_owned(), value));
    // `json-file` would replace every byte that is not UTF-8, also of a character that is split after 16 KiB.
    HostConfigLogConfig { typ: Some("local".to_owned()), config: Some(bounds.into_iter().collect()) }
}
