//! The handle on the engine, and the state that all its clones share.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use bollard::Docker;

use super::{
    cgroup::{ActiveGroup, BuildGroup, InstanceGroup, OwnerGroup},
    claim::Claims,
    connection,
    error::{EngineError, Result},
    filters::{FilterNames, Filters},
    label::{self, Kind},
    layer_limit::{KnownLayerLimits, NO_LAYER_LIMITS},
    outages::Outages,
};
use crate::{
    config::Config,
    data_dir::FreeSpace,
    model::{AddressPlan, Capacity, Digest},
};

/// The engine, for one server: four handles over one connection, so that each stage gets only what it uses. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Builds: their containers, network and images.
    pub builds: Builds,
    /// Images.
    pub images: Images,
    /// The machine: packet filters, control groups, networks.
    pub host: Host,
    /// Containers of instances and tasks.
    pub containers: Containers,
}

/// Build containers.
#[derive(Debug, Clone)]
pub struct Builds(pub(super) Connection);

/// Images on the engine.
#[derive(Debug, Clone)]
pub struct Images(pub(super) Connection);

/// What the server changes on the machine itself.
#[derive(Debug, Clone)]
pub struct Host(pub(super) Connection);

/// Containers of this server.
#[derive(Debug, Clone)]
pub struct Containers(pub(super) Connection);

/// The connection that all handles share.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) shared: Arc<EngineShared>,
}

/// State that all clones of a [`Connection`] share.
#[derive(Debug)]
pub(super) struct EngineShared {
    docker: Docker,
    server_id: String,
    /// Eight hex digits derived from the server's id, for names of limited length.
    pub short_id: String,
    pub addresses: AddressPlan,
    /// Address of the embedded registry, `host:port`.
    pub registry: String,
    /// The packet filters of this server.
    pub filters: Filters,
    /// Held while a bridge is looked up and created.
    pub bridge_lock: tokio::sync::Mutex<()>,
    /// File that all containers have as `/etc/resolv.conf`.
    pub resolver_file: PathBuf,
    /// Held while it is written.
    pub resolver_lock: tokio::sync::Mutex<()>,
    /// CPUs of this machine: the engine rejects a higher limit.
    cpus: u32,
    build_group: BuildGroup,
    instance_group: InstanceGroup,
    /// Folder of the engine, to whose disk containers write.
    root_dir: Option<PathBuf>,
    pub layer_limits: KnownLayerLimits,
    /// Containers of builds that run, and the standby container.
    pub claims: Claims,
    pub outages: Outages,
}

/// Versions that the engine reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineVersion {
    /// Version of the engine.
    pub engine: String,
    /// Negotiated version of the API.
    pub api: String,
}

/// The oldest and the newest version of the engine that `tests/engines` runs, as major and minor number.
const TESTED: [(u32, u32); 2] = [(20, 10), (28, 5)];

impl EngineVersion {
    /// A line for the operator if the engine is not one of the tested versions; it is used all the same.
    pub fn notice(&self) -> Option<String> {
        let mut numbers = self.engine.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return None };
        let [oldest, newest] = TESTED;
        let (order, (tested_major, tested_minor)) = match (major, minor) {
            version if version > newest => ("newer than the newest", newest),
            version if version < oldest => ("older than the oldest", oldest),
            _ => return None,
        };
        Some(format!("Docker {} is {order} tested version, {tested_major}.{tested_minor}", self.engine))
    }
}

impl Engine {
    /// Connects and negotiates the API version. `server_id` becomes part of the names and labels of all objects that
    /// this handle creates.
    pub async fn connect(config: &Config, server_id: &str) -> Result<Self> {
        let valid = (1..=32).contains(&server_id.len())
            && server_id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !server_id.starts_with('-')
            && !server_id.ends_with('-')
            && !server_id.contains("--");
        if !valid {
            return Err(EngineError::InvalidServerId(server_id.chars().take(80).collect()));
        }
        let failed = |source| EngineError::CannotConnect { socket: config.engine.socket.clone(), source };
        let docker = connection::connect(&config.engine.socket.to_string_lossy()).await.map_err(failed)?;
        let info = docker.info().await.map_err(failed)?;
        let cpus = info.ncpu.and_then(|n| u32::try_from(n).ok()).unwrap_or(1).max(1);
        let memory_mib = info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(u64::MAX) >> 20;
        let layer_limits = KnownLayerLimits::new(info.driver.as_deref(), &info.driver_status.unwrap_or_default());
        let build_group = BuildGroup::new(server_id, info.cgroup_driver, cpus.min(config.build.cpus));
        let short_id = Digest::of(server_id.as_bytes()).hex()[..8].to_owned();
        let addresses = config.address_plan()?;
        let interface = |suffix| interface(&short_id, suffix);
        let names = FilterNames {
            chains: chains(&short_id),
            build_interface: interface(BUILDS),
            interfaces: interface("+"),
            own_range: addresses.range(),
            router: addresses.router_address(),
        };
        Ok(Self::over(Connection {
            shared: Arc::new(EngineShared {
                build_group,
                instance_group: InstanceGroup::new(
                    server_id,
                    info.cgroup_driver,
                    memory_for_instances(config, memory_mib),
                ),
                docker,
                server_id: server_id.to_owned(),
                filters: Filters::new(config, names),
                short_id,
                addresses,
                registry: config.registry.listen.to_string(),
                bridge_lock: tokio::sync::Mutex::default(),
                resolver_file: config.data_dir.join("resolv.conf"),
                resolver_lock: tokio::sync::Mutex::default(),
                cpus,
                root_dir: info.docker_root_dir.map(PathBuf::from),
                layer_limits,
                claims: Claims::default(),
                outages: Outages::default(),
            }),
        }))
    }

    fn over(connection: Connection) -> Self {
        Self {
            builds: Builds(connection.clone()),
            images: connection.images(),
            host: connection.host(),
            containers: Containers(connection),
        }
    }

    fn connection(&self) -> &Connection {
        &self.host.0
    }

    /// Checks that the engine responds.
    pub async fn ping(&self) -> Result<()> {
        self.connection().docker().ping().await.map(drop).map_err(|source| EngineError::CannotPing { source })
    }

    /// The engine's own folder, where images and containers are.
    pub fn root_folder(&self) -> Option<PathBuf> {
        self.connection().shared.root_dir.clone()
    }

    /// A line for the operator if it is known that the engine cannot limit what a container writes.
    pub fn layer_limits_notice(&self) -> Option<&'static str> {
        self.connection().shared.layer_limits.are_impossible().then_some(NO_LAYER_LIMITS)
    }

    /// Version of the engine, and the negotiated API version.
    pub async fn version(&self) -> Result<EngineVersion> {
        let version =
            self.connection().docker().version().await.map_err(|source| EngineError::CannotPing { source })?;
        let api = self.connection().docker().client_version();
        Ok(EngineVersion {
            engine: version.version.unwrap_or_default(),
            api: format!("{}.{}", api.major_version, api.minor_version),
        })
    }

    /// Id of the server.
    pub fn server_id(&self) -> &str {
        self.connection().server_id()
    }
}

impl Connection {
    pub(super) fn containers(&self) -> Containers {
        Containers(self.clone())
    }

    pub(super) fn images(&self) -> Images {
        Images(self.clone())
    }

    pub(super) fn host(&self) -> Host {
        Host(self.clone())
    }

    /// Id of the server.
    pub(super) fn server_id(&self) -> &str {
        &self.shared.server_id
    }

    pub(super) fn docker(&self) -> &Docker {
        &self.shared.docker
    }

    /// Labels of a new object of this kind.
    pub(super) fn labels(&self, kind: Kind) -> HashMap<String, String> {
        [(label::SERVER, self.server_id()), (label::KIND, kind.as_str())]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into()
    }

    /// Whether an object with these labels was created by this server.
    pub(super) fn is_ours(&self, labels: Option<&HashMap<String, String>>) -> bool {
        labels.and_then(|labels| labels.get(label::SERVER)).is_some_and(|id| id == self.server_id())
    }

    /// List filter for objects of this server, and of this kind if one is given.
    pub(super) fn filter(&self, kind: Option<Kind>) -> HashMap<String, Vec<String>> {
        let mut labels = vec![format!("{}={}", label::SERVER, self.server_id())];
        labels.extend(kind.map(|kind| format!("{}={}", label::KIND, kind.as_str())));
        [("label".to_owned(), labels)].into()
    }

    /// CPU limit in the engine's unit, at most the CPUs of the machine.
    pub(super) fn nano_cpus(&self, millis: u64) -> i64 {
        i64::try_from(millis.min(u64::from(self.shared.cpus) * 1000) * 1_000_000).unwrap_or(i64::MAX)
    }

    /// Name of the network interface of a bridge.
    pub(super) fn interface(&self, suffix: &str) -> String {
        interface(&self.shared.short_id, suffix)
    }

    /// What the names of this server's chains in the packet filters begin with.
    pub(super) fn filter_chains(&self) -> String {
        chains(&self.shared.short_id)
    }

    /// Name of the network interface of the build bridge.
    pub(super) fn build_interface(&self) -> String {
        self.interface(BUILDS)
    }

    /// Prepares the control group of an owner's instances and tasks; see [`InstanceGroup::prepare`].
    pub(super) async fn instance_group(&self, owner: &OwnerGroup) -> Option<String> {
        let (connection, owner) = (self.clone(), owner.clone());
        let prepare = move || connection.shared.instance_group.prepare(&owner);
        tokio::task::spawn_blocking(prepare).await.ok().flatten()
    }

    /// Prepares the control group of builds for the next build; `None` if builds run in the engine's own group.
    pub(super) async fn activate_build_group(&self) -> Option<ActiveGroup> {
        let connection = self.clone();
        tokio::task::spawn_blocking(move || connection.shared.build_group.activate()).await.ok().flatten()
    }
}

/// Memory that instances and tasks may use together, on a machine with so much, in MiB.
fn memory_for_instances(config: &Config, machine_mib: u64) -> u64 {
    /// What the machine needs at least for itself, in MiB.
    const LEAST: u64 = 256;
    let kept = match config.instances.machine_memory_mib {
        0 => (machine_mib / 10).max(LEAST),
        kept => kept,
    };
    machine_mib.saturating_sub(kept).max(LEAST)
}

/// What the names of a server's chains in the packet filters begin with.
fn chains(short_id: &str) -> String {
    format!("PAAS-{short_id}")
}

/// What the name of the build bridge's interface ends with.
const BUILDS: &str = "b";

/// Name of the network interface of a bridge, at most the 15 characters that the kernel allows.
fn interface(short_id: &str, suffix: &str) -> String {
    format!("pa-{short_id}-{suffix}")
}

impl Host {
    /// CPU time and memory that instances and tasks may use together.
    pub fn capacity(&self) -> Capacity {
        let shared = &self.0.shared;
        Capacity { cpu_millis: u64::from(shared.cpus) * 1000, memory_mib: shared.instance_group.memory_mib() }
    }

    /// What the disk has left to which containers write; `None` if the engine's folder is not on this machine.
    pub async fn free_space(&self) -> Option<FreeSpace> {
        let root = self.0.shared.root_dir.clone()?;
        tokio::task::spawn_blocking(move || FreeSpace::of(&root).ok()).await.ok().flatten()
    }

    /// Removes the control group of builds, if no build is in it.
    pub async fn remove_build_group(&self) {
        let connection = self.0.clone();
        let _ = tokio::task::spawn_blocking(move || connection.shared.build_group.remove()).await;
    }

    /// Removes the control groups of instances and tasks, as far as no container is in them.
    pub async fn remove_instance_groups(&self) {
        let connection = self.0.clone();
        let _ = tokio::task::spawn_blocking(move || connection.shared.instance_group.remove()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_that_are_not_tested_are_told() {
        let notice = |engine: &str| EngineVersion { engine: engine.to_owned(), api: String::new() }.notice();
        for tested in ["20.10.24+dfsg1", "26.1.5", "28.5.2+dfsg4", "28.0.0-rc.1", "", "unknown"] {
            assert_eq!(notice(tested), None, "{tested}");
        }
        assert_eq!(notice("29.0.1").unwrap(), "Docker 29.0.1 is newer than the newest tested version, 28.5");
        assert!(notice("28.6.0").is_some() && notice("30.0").is_some());
        assert_eq!(notice("19.03.15").unwrap(), "Docker 19.03.15 is older than the oldest tested version, 20.10");
    }
}
