//! Ids that the engine gives to images and containers.

use std::{fmt, str::FromStr};

use crate::model::{Digest, InstanceId, InvalidDigest, TaskId};

/// Id of an image on the engine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct ImageId(Digest);

impl ImageId {
    /// The id as text: `sha256:…`.
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

/// Id of a container on the engine. In requests, the container's name is accepted as well.
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

/// The container of a task has the task's id as its name.
impl From<&TaskId> for ContainerId {
    fn from(id: &TaskId) -> Self {
        Self(id.as_str().to_owned())
    }
}

/// The container of an instance has the instance's id as its name.
impl From<&InstanceId> for ContainerId {
    fn from(id: &InstanceId) -> Self {
        Self(id.as_str().to_owned())
    }
}
