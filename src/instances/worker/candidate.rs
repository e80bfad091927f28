//! The end of a rollout: the candidate is committed, abandoned or superseded, and its caller is notified.

use super::state::WorkerState;
use crate::{
    instances::{error::InstancesError, failure::InstanceFailure, logs::RELEASE_SOURCE, waiting::RolloutOutcome},
    model::InstanceId,
    pause,
    store::Deployment,
};

/// The commit point: makes the candidate current, and publishes its routes.
pub(super) async fn commit(state: &mut WorkerState, deployment: Deployment) -> Result<(), InstancesError> {
    pause::at("before-commit").await;
    let mut rollouts = state.handle.rollouts.lock().await;
    if !state.shared.store.commit_deployment(state.app, deployment).await? {
        return Ok(());
    }
    state.routes_stale = true;
    // If this fails, the release is current all the same: the next round publishes the routes and notifies the caller.
    let route_version = state.shared.routes.publish().await?;
    pause::at("after-commit").await;
    state.routes_stale = false;
    if let Some(waiter) = rollouts.remove(&deployment.generation) {
        let _ = waiter.outcome.send(RolloutOutcome::Committed { route_version });
    }
    drop(rollouts);
    state.shared.logs.event(state.app, RELEASE_SOURCE, format!("Release v{} is live", deployment.release)).await;
    Ok(())
}

/// Abandons the candidate because this instance of it has failed.
pub(super) async fn abandon_failed(
    state: &mut WorkerState,
    deployment: Deployment,
    id: &InstanceId,
) -> Result<(), InstancesError> {
    let Some(mut failure) = state.memory.failure(id).cloned() else { return Ok(()) };
    if failure.log.is_empty() {
        failure.log = state.shared.launcher.last_lines(id).await;
    }
    abandon(state, deployment, failure).await
}

/// Abandons the candidate.
pub(super) async fn abandon(
    state: &mut WorkerState,
    deployment: Deployment,
    failure: InstanceFailure,
) -> Result<(), InstancesError> {
    let mut rollouts = state.handle.rollouts.lock().await;
    if !state.shared.store.abandon_deployment(state.app, deployment).await? {
        return Ok(());
    }
    if let Some(waiter) = rollouts.remove(&deployment.generation) {
        let _ = waiter.outcome.send(RolloutOutcome::Failed(failure));
    }
    drop(rollouts);
    let text = format!("The rollout of release v{} failed", deployment.release);
    state.shared.logs.event(state.app, RELEASE_SOURCE, text).await;
    Ok(())
}

/// Notifies callers whose deployment is not the candidate any more: it became current, or another replaced it.
pub(super) async fn notify_callers(state: &mut WorkerState) -> Result<(), InstancesError> {
    let mut rollouts = state.handle.rollouts.lock().await;
    if rollouts.is_empty() {
        return Ok(());
    }
    // Read under the lock: a deployment that begins at the same time is in both the row and the map, or in neither.
    let Some(app) = state.shared.store.app(state.app).await? else { return Ok(()) };
    let candidate = app.candidate.map(|c| c.generation);
    let ended: Vec<_> = rollouts.keys().copied().filter(|generation| candidate != Some(*generation)).collect();
    for generation in ended {
        let outcome = if app.current.is_some_and(|current| current.generation == generation) {
            RolloutOutcome::Committed { route_version: state.shared.routes.publish().await? }
        } else {
            RolloutOutcome::Superseded
        };
        if let Some(waiter) = rollouts.remove(&generation) {
            let _ = waiter.outcome.send(outcome);
        }
    }
    Ok(())
}
