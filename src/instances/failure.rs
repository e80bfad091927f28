//! A failure of one instance.

use std::time::Duration;

use super::diagnosis::Diagnosis;
use crate::store::{Instance, now};

/// Why an instance failed, and what it printed last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InstanceFailure {
    /// Name of the instance: `web.1`.
    pub(super) instance: String,
    pub(super) diagnosis: Diagnosis,
    /// Last lines that the instance printed.
    pub(super) log: Vec<String>,
    /// The run of its container.
    pub(super) run: Run,
}

/// The run of the container of an instance that failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Run {
    /// How long it was; zero if that is not known.
    pub(super) length: Duration,
    /// Whether it ended while the engine, the machine or this server was stopped: the instance is not to blame.
    pub(super) ended_in_outage: bool,
}

impl Run {
    pub(super) fn of_length(length: Duration) -> Self {
        Self { length, ended_in_outage: false }
    }

    /// That of an instance which is found to have failed while it runs.
    pub(super) fn until_now(row: &Instance) -> Self {
        Self::of_length(Duration::from_millis(now().abs_diff(row.created_at.max(row.not_before))))
    }
}

impl InstanceFailure {
    /// A failure without log lines, of a container that may never have run.
    pub(super) fn new(instance: String, diagnosis: impl Into<Diagnosis>) -> Self {
        Self { instance, diagnosis: diagnosis.into(), log: Vec::new(), run: Run::default() }
    }

    /// What a caller is told who did not start the instance.
    pub(super) fn notice(&self) -> String {
        let Diagnosis { reason, hint, .. } = &self.diagnosis;
        let hint = hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
        format!(
            "{} is not healthy: {reason}{hint}; this command did not start it, and it is started again until it is healthy",
            self.instance
        )
    }
}
