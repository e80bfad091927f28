//! Handles the results of instances' tasks.

use std::time::Duration;

use super::{state::WorkerState, tasks::TaskResult};
use crate::{
    instances::{
        error::InstancesError,
        failure::{InstanceFailure, Run},
        launch::Launched,
        monitor::Finding,
    },
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
        Launched::Healthy { container, warnings } => {
            state.shared.store.set_instance(id.clone(), Some(container.0), InstanceState::Healthy).await?;
            state.routes_stale = true;
            if !row.ready {
                // It passed its readiness checks again, if it has some.
                state.shared.store.set_ready(id.clone(), true).await?;
            }
            state.memory.remember_healthy(&row);
            for warning in warnings {
                report_warning(state, &row, warning).await;
            }
            report_healthy(state, &row).await;
            Ok(())
        }
        // It was ended for another reason, which is known.
        Launched::Failed(_) if state.memory.failure(id).is_some() => Ok(()),
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

async fn report_warning(state: &WorkerState, row: &Instance, warning: String) {
    state.shared.logs.event(state.app, &row.name(), format!("Warning: {warning}")).await;
    if let Some(waiter) = state.handle.rollouts.lock().await.get(&row.generation) {
        // A caller that reads too slowly misses the line.
        let _ = waiter.progress.try_send(Line::Trouble(format!("{}: {warning}", row.name())));
    }
}

/// Records what the checks of a running instance found.
pub(super) async fn record_finding(state: &mut WorkerState, id: &InstanceId, finding: Finding) {
    if let Err(error) = try_record_finding(state, id, finding).await {
        // The monitor begins anew with what the row says.
        tracing::warn!(%error, instance = %id, "cannot record what a health check found");
        state.monitors.forget(id);
    }
}

async fn try_record_finding(state: &mut WorkerState, id: &InstanceId, finding: Finding) -> Result<(), InstancesError> {
    let row = state.shared.store.instance(id.clone()).await?;
    let healthy = |row: &Instance| row.state == InstanceState::Healthy && state.memory.failure(id).is_none();
    let Some(row) = row.filter(healthy) else { return Ok(()) };
    match finding {
        Finding::Ready => {
            state.shared.store.set_ready(id.clone(), true).await?;
            state.routes_stale = true;
            state.shared.logs.event(state.app, &row.name(), "Ready again".to_owned()).await;
        }
        Finding::NotReady(reason) => {
            state.shared.store.set_ready(id.clone(), false).await?;
            state.routes_stale = true;
            state.shared.logs.event(state.app, &row.name(), format!("Not ready: {reason}")).await;
            if state.is_exposed(&row) {
                let rows = state.shared.store.instances(state.app).await?;
                let of_service = |other: &&Instance| {
                    other.state == InstanceState::Healthy
                        && other.generation == row.generation
                        && other.process_type == row.process_type
                };
                if rows.iter().filter(of_service).all(|other| !other.ready) {
                    let text = format!("No {} instance is ready: all get requests until one is", row.process_type);
                    state.shared.logs.event(state.app, &row.name(), text).await;
                }
            }
        }
        Finding::NotAlive(reason) => {
            let failure = InstanceFailure { run: Run::until_now(&row), ..InstanceFailure::new(row.name(), reason) };
            state.instance_failed(&row, failure).await;
        }
        Finding::Warning(reason) => report_warning(state, &row, reason).await,
        Finding::PassesAgain(check) => {
            state.shared.logs.event(state.app, &row.name(), format!("Passes again: {}", Line::sanitize(&check))).await;
        }
    }
    Ok(())
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
