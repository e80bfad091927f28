//! Verification that the containers of healthy instances still run.

use futures_util::{StreamExt as _, stream};

use super::state::WorkerState;
use crate::store::{Instance, InstanceState};

/// Number of containers that are inspected at a time.
const MAX_INSPECTIONS: usize = 8;

/// Finds healthy instances that have failed.
pub(super) async fn verify(state: &mut WorkerState, rows: &[Instance]) {
    let healthy: Vec<_> = rows
        .iter()
        .filter(|row| row.state == InstanceState::Healthy && state.memory.failure(&row.id).is_none())
        .filter(|row| !state.tasks.is_running(&row.id))
        .cloned()
        .collect();
    let engine = state.shared.engine.clone();
    let inspected = stream::iter(healthy)
        .map(move |row| {
            let engine = engine.clone();
            async move {
                let container = engine.inspect(row.id.as_str()).await;
                (row, container)
            }
        })
        .buffered(MAX_INSPECTIONS)
        .collect::<Vec<_>>()
        .await;
    for (row, container) in inspected {
        match container {
            Ok(container) => match state.shared.failure_of(&row, container.as_ref()) {
                Some(failure) => state.instance_failed(&row, failure).await,
                None => state.shared.pumps.ensure(&row),
            },
            // The instance may be alive, so it is left as it is.
            Err(error) => tracing::warn!(%error, instance = %row.id, "cannot inspect the instance's container"),
        }
    }
}
