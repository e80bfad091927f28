//! Steps of a plan, each carried out by one function.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    candidate,
    state::{WorkerState, as_sentence},
    tasks::TaskResult,
};
use crate::{
    instances::{
        error::InstancesError,
        failure::InstanceFailure,
        identity::new_id,
        launch::Launch,
        plan::{Action, DeclaredInstance},
        teardown::{Unrouting, tear_down},
    },
    model::{CONTAINER_PORT, InstanceId, ProcessType, ReleaseNumber},
    store::{App, Deployment, Instance, InstanceState, Millis, NewInstance, StoreError, now},
};

/// Result of a step.
pub(super) enum Step {
    /// Rows have changed, so the plan is out of date.
    RowsChanged,
    /// A task carries out the step. Its end wakes the worker.
    InProgress,
    /// The step is due at this time.
    DelayedUntil(Instant),
}

/// Carries out one action of the plan that was made from these rows.
pub(super) async fn take(
    state: &mut WorkerState,
    app: &App,
    rows: &[Instance],
    action: &Action,
) -> Result<Step, InstancesError> {
    let row = |id: &InstanceId| rows.iter().find(|row| row.id == *id);
    match action {
        Action::Create(deployment, instance) => create(state, app, *deployment, instance).await,
        Action::Replace { old, restarts, not_before } => match row(old) {
            Some(row) => replace(state, app, row, *restarts, *not_before).await,
            None => Ok(Step::RowsChanged),
        },
        Action::Launch(id) => match row(id) {
            Some(row) => launch(state, app, row).await,
            None => Ok(Step::RowsChanged),
        },
        Action::BackOff(_, until) | Action::Wait(until) => Ok(Step::DelayedUntil(Instant::now() + until_time(*until))),
        Action::Retire(id) => match row(id) {
            Some(row) => retire(state, app, row).await,
            None => Ok(Step::RowsChanged),
        },
        Action::Remove(id) => match row(id) {
            Some(row) => Ok(remove(state, row)),
            None => Ok(Step::RowsChanged),
        },
        Action::Commit(deployment) => {
            candidate::commit(state, *deployment).await?;
            Ok(Step::RowsChanged)
        }
        Action::Abandon(deployment, id) => {
            candidate::abandon_failed(state, *deployment, id).await?;
            Ok(Step::RowsChanged)
        }
    }
}

fn until_time(time: Millis) -> Duration {
    Duration::from_millis(u64::try_from(time - now()).unwrap_or(0))
}

async fn create(
    state: &mut WorkerState,
    app: &App,
    deployment: Deployment,
    DeclaredInstance { process_type, ordinal }: &DeclaredInstance,
) -> Result<Step, InstancesError> {
    let new = NewInstance {
        id: new_id(&app.name, process_type, *ordinal)?,
        app: app.id,
        generation: deployment.generation,
        release: deployment.release,
        process_type: process_type.clone(),
        ordinal: *ordinal,
        restarts: 0,
        not_before: 0,
        port: declared_port(state, deployment.release, process_type),
        last_failure: None,
    };
    match state.shared.store.add_instance(new, state.shared.runtime.placement()).await {
        // A caller waits for the candidate, so it is not retried until there is a free address.
        Err(error @ StoreError::Taken(_)) if app.candidate == Some(deployment) => {
            let failure = InstanceFailure::new(format!("{process_type}.{ordinal}"), error.to_string());
            candidate::abandon(state, deployment, failure).await?;
        }
        added => added.map(drop)?,
    }
    Ok(Step::RowsChanged)
}

/// The port that the release declares for a process type.
fn declared_port(state: &WorkerState, release: ReleaseNumber, process_type: &ProcessType) -> u16 {
    state.spec(release, process_type).map_or(CONTAINER_PORT, |spec| spec.port)
}

async fn replace(
    state: &mut WorkerState,
    app: &App,
    old: &Instance,
    restarts: u32,
    not_before: Millis,
) -> Result<Step, InstancesError> {
    let new = NewInstance {
        id: new_id(&app.name, &old.process_type, old.ordinal)?,
        app: app.id,
        generation: old.generation,
        release: old.release,
        process_type: old.process_type.clone(),
        ordinal: old.ordinal,
        restarts,
        not_before,
        port: old.port,
        last_failure: state.memory.failure(&old.id).map(|failure| as_sentence(&failure.diagnosis.reason)),
    };
    state.shared.store.replace_instance(old.id.clone(), new, state.shared.runtime.placement()).await?;
    state.routes_stale = true;
    let wait = until_time(not_before);
    let text = match wait.as_millis() {
        0 => "Restarting".to_owned(),
        _ => format!("Restarting in {} s", wait.as_secs_f32().round()),
    };
    state.shared.logs.event(app.id, &old.name(), text).await;
    Ok(Step::RowsChanged)
}

async fn launch(state: &mut WorkerState, app: &App, row: &Instance) -> Result<Step, InstancesError> {
    if state.tasks.is_running(&row.id) {
        return Ok(Step::InProgress);
    }
    if let Some(at) = state.memory.delayed_until(&row.id) {
        return Ok(Step::DelayedUntil(at));
    }
    let Some(release) = state.releases.get(&row.release) else {
        // Cannot happen: the releases of all declared instances are loaded.
        return Ok(Step::InProgress);
    };
    let mappings = state.shared.store.port_mappings(app.id).await?;
    let exposed = state.is_exposed(row);
    // Only the first instance of a process type informs the caller: all run the same program.
    let rollouts = state.handle.rollouts.lock().await;
    let progress = rollouts.get(&row.generation).filter(|_| row.ordinal == 1).map(|waiter| waiter.progress.clone());
    drop(rollouts);
    let slots = Arc::clone(&state.handle.check_slots);
    let launch = Launch {
        app: app.clone(),
        release: Arc::clone(release),
        row: row.clone(),
        target: state.shared.check_target(row, Arc::clone(release), exposed, &mappings, slots),
        checks: state.checks(app, row),
        progress,
        pull: Arc::clone(&state.pull),
    };
    let (shared, cancel) = (Arc::clone(&state.shared), CancellationToken::new());
    let token = cancel.clone();
    let task = async move { TaskResult::Launched(shared.launcher.launch(&launch, &token).await) };
    state.tasks.spawn(row.id.clone(), cancel, task);
    Ok(Step::InProgress)
}

async fn retire(state: &mut WorkerState, app: &App, row: &Instance) -> Result<Step, InstancesError> {
    if state.tasks.cancel(&row.id) {
        return Ok(Step::InProgress);
    }
    let was_current = app.current.is_some_and(|current| row.generation <= current.generation);
    if !was_current || !state.is_exposed(row) || row.container.is_none() {
        state.memory.remember_never_routed(row.id.clone());
    }
    state.shared.store.set_instance(row.id.clone(), row.container.clone(), InstanceState::Retiring).await?;
    state.routes_stale = true;
    Ok(Step::RowsChanged)
}

fn remove(state: &mut WorkerState, row: &Instance) -> Step {
    if state.tasks.is_running(&row.id) {
        return Step::InProgress;
    }
    if let Some(at) = state.memory.delayed_until(&row.id) {
        return Step::DelayedUntil(at);
    }
    let unrouting = if !state.is_exposed(row) || !state.memory.was_routed(&row.id) {
        Unrouting::NeverRouted
    } else if state.memory.failure(&row.id).is_some() {
        Unrouting::Failed
    } else {
        Unrouting::Drain
    };
    let (shared, task_row) = (Arc::clone(&state.shared), row.clone());
    let task = async move { TaskResult::TornDown(tear_down(&shared, &task_row, unrouting).await) };
    state.tasks.spawn(row.id.clone(), CancellationToken::new(), task);
    Step::InProgress
}
