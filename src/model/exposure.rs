//! What the outside reaches of a process type.

use super::ProcessType;

/// What the outside reaches of the instances of a process type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exposure {
    /// Nothing.
    Nothing,
    /// What the port mappings of the app lead to, over HTTP or TCP.
    PortMappings,
}

impl Exposure {
    /// The process type that port mappings lead to by convention, also while the app has no release.
    pub fn conventional_type() -> ProcessType {
        ProcessType::web()
    }

    /// The convention that decides what a process type of a new release exposes: `web` gets requests, and nothing else does.
    /// Where a release exists, ask it instead.
    pub fn by_convention(process_type: &ProcessType) -> Self {
        if *process_type == Self::conventional_type() { Self::PortMappings } else { Self::Nothing }
    }
}
