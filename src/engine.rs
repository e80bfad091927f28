//! The Docker Engine: networks, images, instances and build containers, and the disks and packet filters around them.
//! All that is made here carries our labels, and nothing without our server's label is ever touched.

use std::{
    fmt,
    net::Ipv4Addr,
    path::PathBuf,
    str::FromStr,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use bollard::{ClientVersion, Docker, errors::Error as DockerError};

use crate::{
    config::{AddressPlan, Config},
    model::{Digest, InvalidDigest},
};

mod build;
mod cgroup;
mod child;
pub mod disk;
mod dockerfile;
mod events;
mod firewall;
mod image;
mod instance;
mod logs;
mod network;
mod ports;

pub use build::{BuildContainer, BuildExit, BuildOutput, BuildSpec, Mount};
pub use dockerfile::{DockerfileSpec, spoken_of};
pub use events::ContainerExit;
pub(crate) use firewall::nameservers;
pub use image::LocalImage;
pub use instance::{Container, InstanceSpec, State};
pub use logs::{LogLine, LogOptions};
pub use ports::Listener;

/// Labels of all that we make.
pub mod label {
    /// Whose it is: the server's id.
    pub const SERVER: &str = "paas.server";
    /// What it is: a [`Kind`](super::Kind).
    pub const KIND: &str = "paas.kind";
    /// Of which app.
    pub const APP: &str = "paas.app";
    /// Of which instance.
    pub const INSTANCE: &str = "paas.instance";
    /// Of which release.
    pub const RELEASE: &str = "paas.release";
    /// Of which process type.
    pub const PROCESS: &str = "paas.process";
}

/// What a labelled thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A running process of an app.
    Instance,
    /// A build container.
    Build,
    /// A bridge.
    Network,
    /// An image of a step of a Dockerfile.
    Image,
}

impl Kind {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Build => "build",
            Self::Network => "network",
            Self::Image => "image",
        }
    }
}

/// The engine's id of an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct ImageId(Digest);

impl ImageId {
    /// `sha256:…`
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for ImageId {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        text.parse().map(Self)
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The engine's id of a container; where one is asked for, the container's name does as well.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(pub String);

impl ContainerId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<&crate::model::InstanceId> for ContainerId {
    fn from(id: &crate::model::InstanceId) -> Self {
        Self(id.as_str().to_owned())
    }
}

/// What went wrong with the engine; each variant names the act.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing answers at the socket.
    #[error(
        "Docker does not answer at {socket}: start it (`systemctl start docker`, or `dockerd`), or set engine.socket \
         in paas.toml ({source})"
    )]
    CannotConnect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: DockerError,
    },
    /// The server's id cannot be part of a name.
    #[error("server id {0:?} must be 1 to 32 lowercase letters, digits and hyphens")]
    InvalidServerId(String),
    /// The address range is refused.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The engine does not answer.
    #[error("Docker does not answer: {source}")]
    CannotPing {
        /// Why.
        source: DockerError,
    },
    /// It belongs to someone else.
    #[error("{0} was not made by this server: it is left alone")]
    NotOurs(String),
    /// The subnet is in use.
    #[error(
        "network.range: {subnet} overlaps with {with}; set network.range in paas.toml to a private /16 that is free, \
         such as 10.211.0.0/16, and start the server again"
    )]
    AddressesTaken {
        /// What was asked for.
        subnet: String,
        /// What has it.
        with: String,
    },
    /// A bridge of another range is still in use.
    #[error(
        "network {name} has subnet {has}, but network.range asks for {wanted}: set network.range back, or stop the \
         instances on it first"
    )]
    RangeChanged {
        /// The network.
        name: String,
        /// Its subnet.
        has: String,
        /// The configured one.
        wanted: String,
    },
    /// No bridge with this number.
    #[error("there is no app bridge {0}: they are numbered from 0 to 62")]
    NoSuchBridge(u32),
    /// A network cannot be looked at.
    #[error("cannot inspect network {name}: {source}")]
    CannotInspectNetwork {
        /// The network.
        name: String,
        /// Why.
        source: DockerError,
    },
    /// A network cannot be made.
    #[error("cannot create network {name}: {source}")]
    CannotCreateNetwork {
        /// The network.
        name: String,
        /// Why.
        source: DockerError,
    },
    /// A network cannot be removed.
    #[error("cannot remove network {name}: {source}")]
    CannotRemoveNetwork {
        /// The network.
        name: String,
        /// Why.
        source: DockerError,
    },
    /// An image cannot be pulled.
    #[error("Docker cannot pull {reference}: {source}")]
    CannotPull {
        /// The image.
        reference: String,
        /// Why.
        source: DockerError,
    },
    /// An image cannot be looked at.
    #[error("cannot inspect image {reference}: {source}")]
    CannotInspectImage {
        /// The image.
        reference: String,
        /// Why.
        source: DockerError,
    },
    /// A Dockerfile cannot be built as it is.
    #[error("{0}")]
    StepFailed(String),
    /// The engine's builder fails.
    #[error("Docker cannot build: {source}")]
    CannotBuild {
        /// Why.
        source: DockerError,
    },
    /// An image cannot be tagged.
    #[error("cannot tag image {reference}: {source}")]
    CannotTag {
        /// The tag.
        reference: String,
        /// Why.
        source: DockerError,
    },
    /// Images cannot be listed.
    #[error("cannot list images: {source}")]
    CannotListImages {
        /// Why.
        source: DockerError,
    },
    /// A tag cannot be removed.
    #[error("cannot remove image tag {reference}: {source}")]
    CannotRemoveTag {
        /// The tag.
        reference: String,
        /// Why.
        source: DockerError,
    },
    /// The image is not (or no longer) on the engine: pull it again.
    #[error("image {image} is not on this engine")]
    ImageMissing {
        /// The image.
        image: ImageId,
    },
    /// A container cannot be made.
    #[error("cannot create container {name}: {source}")]
    CannotCreate {
        /// The container.
        name: String,
        /// Why.
        source: DockerError,
    },
    /// A container cannot be started.
    #[error("cannot start container {name}: {source}")]
    CannotStart {
        /// The container.
        name: String,
        /// Why.
        source: DockerError,
    },
    /// A container cannot be given another name.
    #[error("cannot rename a container to {name}: {source}")]
    CannotRename {
        /// The new name.
        name: String,
        /// Why.
        source: DockerError,
    },
    /// A container cannot be stopped.
    #[error("cannot stop container {name}: {source}")]
    CannotStop {
        /// The container.
        name: String,
        /// Why.
        source: DockerError,
    },
    /// A container cannot be killed.
    #[error("cannot kill container {name}: {source}")]
    CannotKill {
        /// The container.
        name: String,
        /// Why.
        source: DockerError,
    },
    /// A container cannot be removed.
    #[error("cannot remove container {name}: {source}")]
    CannotRemove {
        /// The container.
        name: String,
        /// Why.
        source: DockerError,
    },
    /// Containers cannot be listed.
    #[error("cannot list containers: {source}")]
    CannotList {
        /// Why.
        source: DockerError,
    },
    /// A container cannot be looked at.
    #[error("cannot inspect container {name}: {source}")]
    CannotInspect {
        /// The container.
        name: String,
        /// Why.
        source: DockerError,
    },
    /// A container's streams cannot be attached to.
    #[error("cannot attach to container {name}: {source}")]
    CannotAttach {
        /// The container.
        name: String,
        /// Why.
        source: DockerError,
    },
    /// A container's end cannot be waited for.
    #[error("cannot wait for container {name}: {source}")]
    CannotWait {
        /// The container.
        name: String,
        /// Why.
        source: DockerError,
    },
    /// A container's log cannot be read.
    #[error("cannot read the log of container {name}: {source}")]
    CannotReadLogs {
        /// The container.
        name: String,
        /// Why.
        source: DockerError,
    },
    /// A container's sockets cannot be read.
    #[error("cannot read the sockets of container {name}: {source}")]
    CannotReadSockets {
        /// The container.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// The engine's answer lacks something that it must have.
    #[error("Docker's answer lacks {0}")]
    Incomplete(&'static str),
    /// A packet filter cannot be set.
    #[error("cannot close the build network towards this host: {source}")]
    CannotFilter {
        /// Why.
        source: child::ChildError,
    },
    /// The machine's own tables cannot be read.
    #[error("cannot read {path}: {source}")]
    CannotRead {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

pub use child::ChildError;

/// Short for a result of the engine.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// A handle on the engine, for one server; cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    docker: Docker,
    server_id: String,
    /// Eight hex digits that follow from the server's id, for names that must be short.
    short_id: String,
    plan: AddressPlan,
    /// The embedded registry, `host:port`.
    registry: String,
    /// Held while the packet filters are looked at and changed.
    firewall: tokio::sync::Mutex<()>,
    /// Whether they have been set once since the start.
    closed: AtomicBool,
    /// Held while a bridge is looked for and made.
    bridges: tokio::sync::Mutex<()>,
    /// CPUs of this machine: the engine refuses a limit above it.
    cpus: u32,
    builds: cgroup::BuildGroup,
    /// The same engine, for builds of Dockerfiles in that group.
    grouped: Docker,
}

/// What the engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineVersion {
    /// Of the engine.
    pub engine: String,
    /// Of the API that is spoken.
    pub api: String,
}

impl Engine {
    /// Connects and negotiates the API version. `server_id` is in the name and label of all that is made.
    pub async fn connect(config: &Config, server_id: &str) -> Result<Self> {
        let valid = (1..=32).contains(&server_id.len())
            && server_id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !server_id.starts_with('-')
            && !server_id.ends_with('-')
            && !server_id.contains("--");
        if !valid {
            return Err(EngineError::InvalidServerId(server_id.chars().take(80).collect()));
        }
        let cannot = |source| EngineError::CannotConnect { socket: config.engine.socket.clone(), source };
        let docker = negotiate(&config.engine.socket.to_string_lossy()).await.map_err(cannot)?;
        let info = docker.info().await.map_err(cannot)?;
        let cpus = info.ncpu.and_then(|n| u32::try_from(n).ok()).unwrap_or(1).max(1);
        let builds = cgroup::BuildGroup::new(server_id, info.cgroup_driver, cpus.min(config.build.cpus));
        Ok(Self {
            inner: Arc::new(Inner {
                grouped: match builds.path() {
                    Some(path) => dockerfile::with_group(docker.clone(), path),
                    None => docker.clone(),
                },
                builds,
                docker,
                server_id: server_id.to_owned(),
                short_id: Digest::of(server_id.as_bytes()).hex()[..8].to_owned(),
                plan: config.address_plan()?,
                registry: config.registry.listen.to_string(),
                firewall: tokio::sync::Mutex::new(()),
                closed: AtomicBool::new(false),
                bridges: tokio::sync::Mutex::default(),
                cpus,
            }),
        })
    }

    /// Whether the engine answers.
    pub async fn ping(&self) -> Result<()> {
        self.docker().ping().await.map(drop).map_err(|source| EngineError::CannotPing { source })
    }

    /// The engine's version, and the API version agreed on.
    pub async fn version(&self) -> Result<EngineVersion> {
        let version = self.docker().version().await.map_err(|source| EngineError::CannotPing { source })?;
        let api = self.docker().client_version();
        Ok(EngineVersion {
            engine: version.version.unwrap_or_default(),
            api: format!("{}.{}", api.major_version, api.minor_version),
        })
    }

    /// The server's id.
    pub fn server_id(&self) -> &str {
        &self.inner.server_id
    }

    /// The address of a slot on an app bridge.
    pub fn address(&self, bridge: u32, slot: u32) -> Ipv4Addr {
        self.inner.plan.instance(bridge, slot)
    }

    /// Removes all that carries this server's label: containers, networks, image tags, packet filters, control groups.
    pub async fn remove_all(&self) -> Result<()> {
        for container in self.list(None).await? {
            self.remove(&container.id).await?;
        }
        self.remove_networks().await?;
        self.remove_images().await?;
        self.remove_all_stages().await?;
        self.leave_build_group().await;
        self.open_firewall().await
    }

    fn docker(&self) -> &Docker {
        &self.inner.docker
    }

    fn labels(&self, kind: Kind) -> std::collections::HashMap<String, String> {
        [(label::SERVER, self.server_id()), (label::KIND, kind.as_str())]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into()
    }

    fn is_ours(&self, labels: Option<&std::collections::HashMap<String, String>>) -> bool {
        labels.and_then(|l| l.get(label::SERVER)).is_some_and(|id| id == self.server_id())
    }

    /// A filter for what is ours, and of this kind.
    fn filter(&self, kind: Option<Kind>) -> std::collections::HashMap<String, Vec<String>> {
        let mut labels = vec![format!("{}={}", label::SERVER, self.server_id())];
        labels.extend(kind.map(|kind| format!("{}={}", label::KIND, kind.as_str())));
        [("label".to_owned(), labels)].into()
    }

    /// The engine's limit for so many thousandths of a CPU: no more than the machine has.
    fn nano_cpus(&self, millis: u64) -> i64 {
        i64::try_from(millis.min(u64::from(self.inner.cpus) * 1000) * 1_000_000).unwrap_or(i64::MAX)
    }
}

/// How long the engine may take to begin an answer.
const ANSWER: Duration = Duration::from_mins(2);

async fn negotiate(socket: &str) -> Result<Docker, DockerError> {
    let newest = bollard::API_DEFAULT_VERSION;
    let docker = Docker::connect_with_unix(socket, ANSWER.as_secs(), newest)?;
    match docker.negotiate_version().await {
        // An older engine refuses even the question; its refusal names the version that it speaks.
        Err(DockerError::DockerResponseServerError { status_code: 400, message }) => {
            let spoken = message
                .rsplit(' ')
                .find_map(|word| word.trim_end_matches('.').split_once('.'))
                .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
            let Some((major_version, minor_version)) = spoken else {
                return Err(DockerError::DockerResponseServerError { status_code: 400, message });
            };
            let version = ClientVersion { major_version, minor_version };
            Docker::connect_with_unix(socket, ANSWER.as_secs(), &version)?.negotiate_version().await
        }
        other => other,
    }
}

impl EngineError {
    /// Whether the engine tried to start a container and could not, rather than that it did not answer.
    pub fn is_of_the_container(&self) -> bool {
        matches!(self, Self::CannotStart { source, .. } if status(source).is_some_and(|status| status != 404))
    }
}

fn status(error: &DockerError) -> Option<u16> {
    match error {
        DockerError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

fn mebibytes(mib: u64) -> i64 {
    i64::try_from(mib.saturating_mul(1 << 20)).unwrap_or(i64::MAX)
}
