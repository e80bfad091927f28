//! Which running instances are checked for readiness and liveness.

use std::{collections::HashMap, sync::Arc};

use super::state::WorkerState;
use crate::{
    instances::{error::InstancesError, monitor::Monitored},
    model::{CheckType, HealthCheck, Probe},
    store::{App, Instance, InstanceState},
};

/// Has the healthy instances of the current release monitored that have readiness or liveness checks. One that has none any
/// more counts as ready.
pub(super) async fn monitor(state: &mut WorkerState, app: &App, rows: &[Instance]) -> Result<(), InstancesError> {
    let current = app.current.map(|current| current.generation);
    let mut wanted = HashMap::new();
    let mut mappings = None;
    for row in rows {
        let serves = row.state == InstanceState::Healthy && Some(row.generation) == current;
        let checks: Vec<_> = match (serves, state.memory.failure(&row.id)) {
            (true, None) => state.checks(app, row).into_iter().filter(is_periodic).collect(),
            (true, Some(_)) | (false, _) => continue,
        };
        if !row.ready && !checks.iter().any(|check| check.check_type == CheckType::Readiness && !check.warn) {
            state.shared.store.set_ready(row.id.clone(), true).await?;
            state.routes_stale = true;
        }
        let (Some(address), Some(release)) = (row.endpoint, state.releases.get(&row.release)) else { continue };
        if checks.is_empty() {
            continue;
        }
        let mappings = match &mappings {
            Some(mappings) => mappings,
            None => mappings.insert(state.shared.store.port_mappings(app.id).await?),
        };
        let exposed = state.is_exposed(row);
        let slots = Arc::clone(&state.handle.check_slots);
        let instance = state.shared.check_target(row, Arc::clone(release), exposed, mappings, slots).at(address);
        wanted.insert(row.id.clone(), Monitored { instance, checks, ready: row.ready });
    }
    state.monitors.keep(wanted);
    Ok(())
}

/// Whether a check is made of a running instance from time to time.
fn is_periodic(check: &HealthCheck) -> bool {
    let tests = match check.probe {
        Probe::Tcp | Probe::Http(_) | Probe::Command(_) => true,
        Probe::Uptime(_) => false,
    };
    tests
        && match check.check_type {
            CheckType::Startup => false,
            CheckType::Readiness | CheckType::Liveness => true,
        }
}
