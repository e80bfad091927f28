//! Labels of all containers, networks and images that paas creates.

/// Id of the owning server.
pub const SERVER: &str = "paas.server";
/// [`Kind`] of the labelled object.
pub const KIND: &str = "paas.kind";
/// Owning app.
pub const APP: &str = "paas.app";
/// Identity of the instance or task.
pub const INSTANCE: &str = "paas.instance";
/// Release of the instance or task.
pub const RELEASE: &str = "paas.release";
/// Process type of the instance, or kind of the task.
pub const PROCESS: &str = "paas.process";

/// Kind of a labelled object of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Container of an instance.
    Instance,
    /// Container of a task.
    Task,
    /// Build container.
    Build,
    /// Container that packs or unpacks the files of a volume.
    Archiver,
    /// Bridge.
    Network,
    /// Image of one step of a Dockerfile.
    Image,
}

impl Kind {
    /// Value of the label [`KIND`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Task => "task",
            Self::Build => "build",
            Self::Archiver => "archiver",
            Self::Network => "network",
            Self::Image => "image",
        }
    }
}
