//! Handles the results of instances' tasks.

use std::time::Duration;

use super::{state::WorkerState, tasks::TaskResult};
use crate::{
    instances::{error::InstancesError, failure::InstanceFailure, launch::Launched},
    model::{InstanceId, Line},
    store::{Instance, InstanceState, now},
};

/// Records the result of the task of an instance.
pub(super) async fn record(state: &mut WorkerState, id: &InstanceId, result: TaskResult) {
    let recorded = match result {
        TaskResult::Launched(launched) => record_launch(state, id, launched).await,
        TaskResult::TornDown(torn_down) => torn_down,
        TaskResult::Panicked(error) => Err(InstancesError::Panicked(error)),
    };
    match recorded {
        Ok(()) => state.memory.forget_errors(id),
        Err(error) => record_error(state, id, error).await,
    }
}

async fn record_launch(state: &mut WorkerState, id: &InstanceId, launched: Launched) -> Result<(), InstancesError> {
    let Some(row) = state.shared.store.instance(id.clone()).await? else { return Ok(()) };
    match launched {
        Launched::Healthy { container } => {
            state.shared.store.set_instance(id.clone(), Some(container.0), InstanceState::Healthy).await?;
            state.routes_stale = true;
            state.memory.remember_healthy(&row);
            report_healthy(state, &row).await;
            Ok(())
        }
        Launched::Failed(failure) => {
            state.instance_failed(&row, failure).await;
            Ok(())
        }
        Launched::Cancelled => Ok(()),
        Launched::Error(error) => Err(error),
    }
}

async fn report_healthy(state: &WorkerState, row: &Instance) {
    let took = u64::try_from(now() - row.created_at.max(row.not_before)).unwrap_or(0);
    let took = format!("{:.1} s", Duration::from_millis(took).as_secs_f32());
    let text = format!("Healthy after {took} (v{})", row.release);
    state.shared.logs.event(state.app, &row.name(), text).await;
    if let Some(waiter) = state.handle.rollouts.lock().await.get(&row.generation) {
        // A caller that reads too slowly misses the line.
        let line = Line::Detail(format!("{} is healthy after {took}", row.name()));
        let _ = waiter.progress.try_send(line);
    }
}

async fn record_error(state: &mut WorkerState, id: &InstanceId, error: InstancesError) {
    tracing::warn!(%error, instance = %id, "cannot start or stop an instance; retrying");
    if !state.memory.remember_error(id.clone()) {
        return;
    }
    // A caller waits for a candidate, so its instances are not retried for ever.
    let Ok(Some(row)) = state.shared.store.instance(id.clone()).await else { return };
    let Ok(Some(app)) = state.shared.store.app(state.app).await else { return };
    if app.candidate.is_some_and(|c| c.generation == row.generation) && row.state == InstanceState::Starting {
        let failure = InstanceFailure::new(row.name(), Line::sanitize(&error.to_string()));
        state.instance_failed(&row, failure).await;
    }
}
