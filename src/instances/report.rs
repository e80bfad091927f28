//! Report of an app's instances.

use std::net::IpAddr;

use crate::{
    model::{InstanceId, ProcessType, ReleaseNumber},
    store::{Instance, InstanceState, Millis},
};

/// State of an instance, as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReportState {
    /// The container is created, started and checked.
    Starting,
    /// The instance passed its health check.
    Healthy,
    /// The instance fails its readiness checks, and gets no requests while another is ready.
    Unready,
    /// The instance is drained, stopped and removed.
    Retiring,
    /// A predecessor failed, and the instance is not started yet.
    Waiting,
}

impl std::fmt::Display for ReportState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unready => "unready",
            Self::Retiring => "retiring",
            Self::Waiting => "waiting (back-off)",
        })
    }
}

/// An instance, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct InstanceReport {
    /// Name: `web.1`.
    pub name: String,
    /// Process type.
    pub process_type: ProcessType,
    /// Identity, and name of the container.
    pub id: InstanceId,
    /// State.
    pub state: ReportState,
    /// Number of the release.
    pub release: ReleaseNumber,
    /// Address, once it has one.
    pub address: Option<IpAddr>,
    /// Identity of the container, once it is created.
    pub container: Option<String>,
    /// How many predecessors of the same name failed in a row.
    pub restarts: u32,
    /// How often a process of it was killed because it was out of memory.
    pub oom_kills: u32,
    /// Why the instance of the same name before it failed, if it replaces one.
    pub last_failure: Option<String>,
    /// Time of creation; of an instance that is waiting, time of the start.
    pub since: Millis,
}

impl InstanceReport {
    pub(super) fn new(row: Instance, now: Millis) -> Self {
        let state = match row.state {
            InstanceState::Starting if row.not_before > now => ReportState::Waiting,
            InstanceState::Starting => ReportState::Starting,
            InstanceState::Healthy if !row.ready => ReportState::Unready,
            InstanceState::Healthy => ReportState::Healthy,
            InstanceState::Retiring => ReportState::Retiring,
        };
        Self {
            name: row.name(),
            state,
            release: row.release,
            address: row.endpoint,
            restarts: row.restarts,
            oom_kills: row.oom_kills,
            last_failure: row.last_failure,
            since: if state == ReportState::Waiting { row.not_before } else { row.created_at },
            container: row.container,
            process_type: row.process_type,
            id: row.id,
        }
    }
}
