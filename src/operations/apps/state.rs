//! The state of an app, as it follows from its instances.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    instances::{InstanceReport, ReportState},
    model::ReleaseNumber,
    operations::{context::Context, failure::Result},
    store::App,
};

/// The state of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AppState {
    /// It has no release.
    NotDeployed,
    /// It is stopped (`ps:stop`).
    Stopped,
    /// No instance is declared.
    Idle,
    /// At least one instance is healthy.
    Running,
    /// No instance is healthy yet.
    Starting,
    /// No instance is healthy, and one has failed repeatedly.
    Failing,
    /// It is being destroyed.
    Destroying,
}

impl AppState {
    /// The state as people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotDeployed => "not deployed",
            Self::Stopped => "stopped",
            Self::Idle => "no instances",
            Self::Running => "running",
            Self::Starting => "starting",
            Self::Failing => "failing",
            Self::Destroying => "being destroyed",
        }
    }

    pub(super) async fn of(context: &Context<'_>, app: &App) -> Result<Self> {
        if app.destroying {
            return Ok(Self::Destroying);
        }
        Ok(Self::with_report(app, &context.instances.report(app.id).await?))
    }

    /// The state of an app with these instances.
    pub(super) fn with_report(app: &App, report: &[InstanceReport]) -> Self {
        if app.destroying {
            return Self::Destroying;
        }
        Self::from_report(app.current.map(|current| current.release), app.stopped, report)
    }

    fn from_report(release: Option<ReleaseNumber>, stopped: bool, report: &[InstanceReport]) -> Self {
        let Some(release) = release else { return Self::NotDeployed };
        if stopped {
            return Self::Stopped;
        }
        let is_current =
            |instance: &&InstanceReport| instance.release == release && instance.state != ReportState::Retiring;
        let instances: Vec<_> = report.iter().filter(is_current).collect();
        if instances.is_empty() {
            return Self::Idle;
        }
        if instances.iter().any(|instance| instance.state == ReportState::Healthy) {
            return Self::Running;
        }
        let has_failed_repeatedly =
            |instance: &&InstanceReport| instance.state == ReportState::Waiting || instance.restarts > 1;
        if instances.iter().any(has_failed_repeatedly) { Self::Failing } else { Self::Starting }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_an_app_follows_from_its_instances() {
        use ReportState::{Healthy, Retiring, Starting, Waiting};
        let instance = |state, release, restarts| InstanceReport {
            name: "web.1".into(),
            state,
            release,
            address: Some([10, 0, 0, 1].into()),
            restarts,
            oom_kills: 0,
            last_failure: None,
            since: 0,
            container: None,
            process_type: "web".parse().unwrap(),
            id: "a".parse().unwrap(),
        };
        let state = |report: &[(ReportState, u64, u32)]| {
            let report: Vec<_> =
                report.iter().map(|(s, release, restarts)| instance(*s, *release, *restarts)).collect();
            AppState::from_report(Some(2), false, &report)
        };
        assert_eq!(AppState::from_report(None, false, &[]), AppState::NotDeployed);
        assert_eq!(AppState::from_report(Some(2), true, &[instance(Retiring, 2, 0)]), AppState::Stopped);
        assert_eq!(state(&[]), AppState::Idle, "scaled to zero");
        assert_eq!(state(&[(Retiring, 2, 0)]), AppState::Idle, "its last instance is stopping");
        assert_eq!(state(&[(Starting, 2, 0)]), AppState::Starting);
        assert_eq!(state(&[(Starting, 2, 1), (Healthy, 2, 0)]), AppState::Running);
        assert_eq!(
            state(&[(Waiting, 2, 3), (Healthy, 3, 0)]),
            AppState::Failing,
            "an instance of another release does not count"
        );
        assert_eq!(state(&[(Starting, 2, 4)]), AppState::Failing);
    }
}
