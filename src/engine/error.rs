//! Errors of the engine.

use std::{fmt, path::PathBuf};

use bollard::errors::Error as DockerError;

use super::{child::ChildError, id::ImageId};
use crate::{config::ConfigError, model::Digest};

/// Result of an operation on the engine.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// A kind of request to the engine; as text, the verb of an error message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Attach to the streams of a container.
    Attach,
    /// Create a container or network.
    Create,
    /// Run a command in a container.
    Execute,
    /// Inspect a container, image or network.
    Inspect,
    /// Kill a container.
    Kill,
    /// List containers, images or networks.
    List,
    /// Pull an image.
    Pull,
    /// Read the log of a container.
    ReadLog,
    /// Remove a container, image or network.
    Remove,
    /// Rename a container.
    Rename,
    /// Resize a terminal.
    Resize,
    /// Save an image as a tar.
    Save,
    /// Start a container.
    Start,
    /// Stop a container.
    Stop,
    /// Tag an image.
    Tag,
    /// Wait for the end of a container.
    Wait,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attach => "attach to",
            Self::Create => "create",
            Self::Execute => "run a command in",
            Self::Inspect => "inspect",
            Self::Kill => "kill",
            Self::List => "list",
            Self::Pull => "pull",
            Self::ReadLog => "read the log of",
            Self::Remove => "remove",
            Self::Rename => "rename",
            Self::Resize => "resize",
            Self::Save => "save",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Tag => "tag",
            Self::Wait => "wait for",
        })
    }
}

/// Why an operation on the engine failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing responds at the engine's socket.
    #[error(
        "Docker does not respond at {socket}: start it (`systemctl start docker`, or `dockerd`), or set engine.socket \
         in paas.toml ({})",
        cause(source)
    )]
    CannotConnect {
        /// Unix socket.
        socket: PathBuf,
        /// Cause.
        source: DockerError,
    },
    /// The engine no longer responds.
    #[error("{}", cause(source))]
    CannotPing {
        /// Cause.
        source: DockerError,
    },
    /// The engine rejected a request, or did not respond to it.
    #[error("cannot {act} {what}: {}", cause(source))]
    Docker {
        /// Kind of request.
        act: Act,
        /// Object of the request, such as `container web-1`.
        what: String,
        /// Cause.
        source: DockerError,
    },
    /// The engine's response lacks a required part.
    #[error("Docker's response lacks {0}")]
    Incomplete(&'static str),
    /// The server's id cannot be part of a name.
    #[error("server id {0:?} must be 1 to 32 lowercase letters, digits and hyphens")]
    InvalidServerId(String),
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The container, network or image does not have this server's label.
    #[error("{0} was not created by this server and is left unchanged")]
    NotOurs(String),
    /// Another network or route uses addresses of `network.range`.
    #[error(
        "network.range: {subnet} overlaps with {with}; set network.range in paas.toml to a private /16 that is free, \
         such as 10.211.0.0/16, and start the server again"
    )]
    AddressesTaken {
        /// Subnet of the new bridge.
        subnet: String,
        /// Network or route that overlaps with it.
        with: String,
    },
    /// Containers are connected to a bridge whose subnet is not the configured one.
    #[error(
        "network {name} has subnet {has}, but network.range asks for {wanted}: set network.range back, or stop the \
         instances on it first"
    )]
    RangeChanged {
        /// Network.
        name: String,
        /// Current subnet of the network.
        has: String,
        /// Configured subnet.
        wanted: String,
    },
    /// The engine ended a wait for the end of a container that runs.
    #[error("the engine was restarted while the container {0} ran")]
    StillRuns(String),
    /// The number of an app bridge is too high.
    #[error("there is no app bridge {0}: they are numbered from 0 to 62")]
    NoSuchBridge(u32),
    /// An address is not one of those of app bridges.
    #[error("{0} is no address of an app bridge: network.range has changed")]
    NoBridge(std::net::Ipv4Addr),
    /// The engine does not have the image (any more): pull it again.
    #[error("image {image} is not on this engine")]
    ImageMissing {
        /// Image.
        image: ImageId,
    },
    /// The engine skipped layers when it pulled the image, and cannot save it.
    #[error(
        "Docker has the image {0} only in part: its containerd image store skips layers that it has unpacked for another \
         image; remove the images that share its layers (`docker rmi`), or set \"containerd-snapshotter\" to false in \
         Docker's daemon.json"
    )]
    PartialImage(String),
    /// The blob store does not describe an image.
    #[error("cannot read image {image} in the blob store: {source}")]
    CannotReadImage {
        /// Manifest of the image.
        image: Digest,
        /// Cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine does not have the container (any more).
    #[error("container {0} does not exist: it was removed, or never created")]
    ContainerMissing(String),
    /// The sockets of a container cannot be read.
    #[error("cannot read the sockets of container {name}: {source}")]
    CannotReadSockets {
        /// Container.
        name: String,
        /// Cause.
        source: std::io::Error,
    },
    /// The files of a container cannot be counted.
    #[error("cannot count what container {name} has written: {source}")]
    CannotCountFiles {
        /// Container.
        name: String,
        /// Cause.
        source: std::io::Error,
    },
    /// The engine's name server cannot be closed to a container.
    #[error("cannot close the engine's name server to container {name}, which could ask it about other apps: {source}")]
    CannotCloseDns {
        /// Container.
        name: String,
        /// Cause.
        source: std::io::Error,
    },
    /// The packet filters cannot be changed.
    #[error("cannot set the packet filters of this server's networks: {source}")]
    CannotFilter {
        /// Cause.
        source: ChildError,
    },
    /// A file that containers read cannot be written.
    #[error("cannot write {path}: {source}")]
    CannotWrite {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Something cannot be mounted into a container.
    #[error("cannot mount what the app declares: {0}")]
    NoMount(String),
    /// What apps may reach is not known.
    #[error("cannot read what apps may reach: {0}")]
    NoOpenings(String),
    /// A file of the operating system cannot be read.
    #[error("cannot read {path}: {source}")]
    CannotRead {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
}

impl EngineError {
    /// Makes the error of a failed request.
    pub(super) fn docker(act: Act, what: impl Into<String>) -> impl FnOnce(DockerError) -> Self {
        let what = what.into();
        move |source| Self::Docker { act, what, source }
    }

    /// Whether the engine responded that it cannot start a container.
    pub fn is_start_failure(&self) -> bool {
        matches!(self, Self::Docker { act: Act::Start, source, .. } if status(source).is_some_and(|status| status != 404))
    }
}

/// The cause of an error in words for the user.
fn cause(error: &DockerError) -> String {
    match error {
        DockerError::HyperLegacyError { err } => {
            let causes = std::iter::successors(Some(err as &dyn std::error::Error), |cause| cause.source());
            let first = causes.last().map(ToString::to_string).unwrap_or_default();
            format!("Docker does not respond ({first})")
        }
        DockerError::RequestTimeoutError => "Docker does not respond in time".to_owned(),
        _ => error.to_string(),
    }
}

/// HTTP status of the engine's response, if it responded.
pub(super) fn status(error: &DockerError) -> Option<u16> {
    match error {
        DockerError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}
