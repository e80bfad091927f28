//! Operations of port mappings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::store::{PortMapping, PortScheme};

/// A port mapping: a port of the router that leads to a port of the web instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mapping {
    /// Protocol.
    pub scheme: PortScheme,
    /// Port of the router.
    pub host: u16,
    /// Port that the instances listen on.
    pub container: u16,
}

impl From<&PortMapping> for Mapping {
    fn from(mapping: &PortMapping) -> Self {
        Self { scheme: mapping.scheme, host: mapping.host_port, container: mapping.container_port }
    }
}

impl std::fmt::Display for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.scheme.as_str(), self.host, self.container)
    }
}
