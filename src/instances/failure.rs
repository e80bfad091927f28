//! A failure of one instance.

use std::time::Duration;

use super::diagnosis::Diagnosis;

/// Why an instance failed, and what it printed last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InstanceFailure {
    /// Name of the instance: `web.1`.
    pub(super) instance: String,
    pub(super) diagnosis: Diagnosis,
    /// Last lines that the instance printed.
    pub(super) log: Vec<String>,
    /// How long the container ran before it ended; zero if that is not known.
    pub(super) ran: Duration,
}

impl InstanceFailure {
    /// A failure without log lines, of a container that may never have run.
    pub(super) fn new(instance: String, diagnosis: impl Into<Diagnosis>) -> Self {
        Self { instance, diagnosis: diagnosis.into(), log: Vec::new(), ran: Duration::ZERO }
    }
}
