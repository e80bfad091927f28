//! The container of an instance, as the engine reports it.

use std::time::Duration;

use super::{
    diagnosis::Diagnosis,
    failure::{InstanceFailure, Run},
};
use crate::{engine::Container, store::Instance};

/// Reason of a failure.
pub(super) const CONTAINER_REMOVED: &str = "its container was removed by someone else";

/// The run of a container; of length zero if it has not ended.
pub(super) fn run(container: &Container) -> Run {
    let since = container.started_at.zip(container.finished_at);
    let length = since.and_then(|(start, end)| Duration::try_from(end.duration_since(start)).ok()).unwrap_or_default();
    Run { length, ended_in_outage: container.ended_in_outage }
}

/// Why a healthy instance has failed, if its container does not run any more at the instance's address.
pub(super) fn failure_of(row: &Instance, container: Option<&Container>) -> Option<InstanceFailure> {
    let Some(container) = container else { return Some(InstanceFailure::new(row.name(), CONTAINER_REMOVED)) };
    let diagnosis = if !container.state.is_alive() {
        Diagnosis::exited(container)
    } else if container.address != row.endpoint || row.container.as_ref() != Some(&container.id.0) {
        "its container was replaced by someone else".into()
    } else {
        return None;
    };
    Some(InstanceFailure { run: run(container), ..InstanceFailure::new(row.name(), diagnosis) })
}
