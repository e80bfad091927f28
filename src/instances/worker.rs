//! The worker of an app: plans from the app's rows what to do, does it, and waits until something changes.

mod candidate;
mod memory;
mod monitoring;
mod results;
mod state;
mod steps;
mod tasks;
mod verification;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    error::InstancesError,
    plan::{Action, DeclaredInstance, PlanInput, plan},
    shared::Shared,
    waiting::{Round, Stall, WorkerHandle},
};
use crate::{
    model::InstanceId,
    store::{App, AppId, Instance, InstanceState, now},
};
use memory::{Memory, retry_delay};
use state::WorkerState;
use steps::Step;

/// Callers are notified that rounds fail once they have failed for this long.
const STALLED_AFTER: Duration = Duration::from_secs(3);

/// End of a round.
enum RoundEnd {
    /// The app does not exist any more.
    AppGone,
    /// Everything that can be done now is done or in progress.
    Done { next: Option<Instant> },
}

/// Keeps an app as it is declared, until the app is destroyed or the server shuts down.
pub(super) async fn run(shared: Arc<Shared>, app: AppId, handle: Arc<WorkerHandle>) {
    let shutdown = shared.shutdown.clone();
    let mut state = WorkerState::new(shared, app, handle);
    let _ = shutdown.run_until_cancelled(reconcile(&mut state)).await;
    state.tasks.shut_down().await;
}

async fn reconcile(state: &mut WorkerState) {
    state.shared.routes.opened().await;
    let (mut errors, mut failing_since) = (0, None::<Instant>);
    loop {
        let request = state.handle.last_request();
        let next = match round(state, request).await {
            Ok(RoundEnd::Done { next }) => {
                (errors, failing_since) = (0, None);
                next
            }
            Ok(RoundEnd::AppGone) => {
                state.handle.rollouts.lock().await.clear();
                state.handle.publish(Round { request, app_gone: true, ..Round::default() });
                return;
            }
            Err(error) => {
                tracing::warn!(%error, app = state.app.0, "cannot reconcile an app; retrying");
                errors += 1;
                if failing_since.get_or_insert_with(Instant::now).elapsed() >= STALLED_AFTER {
                    state.handle.publish_stall(Stall { request, reason: error.to_string() });
                }
                Some(Instant::now() + retry_delay(errors))
            }
        };
        tokio::select! {
            () = state.handle.woken() => {}
            Some((id, finding)) = state.monitors.next() => results::record_finding(state, &id, finding).await,
            Some((id, result)) = state.tasks.join_next() => results::record(state, &id, result).await,
            () = until(next) => {}
        }
        while let Some((id, result)) = state.tasks.try_join_next() {
            results::record(state, &id, result).await;
        }
    }
}

/// Waits until a time; without one, for ever: the next wake-up or task ends the wait.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Takes steps until all that remain are in progress or due later.
async fn round(state: &mut WorkerState, request: u64) -> Result<RoundEnd, InstancesError> {
    loop {
        let Some(app) = state.shared.store.app(state.app).await? else { return Ok(RoundEnd::AppGone) };
        let rows = state.shared.store.instances(state.app).await?;
        state.load_releases(&app, &rows).await?;
        state.memory.retain(&rows);
        verification::find_overuses(state, &rows).await;
        if state.handle.take_verify() {
            verification::verify(state, &app, &rows).await;
        }
        candidate::notify_callers(state).await?;
        let actions = plan(&PlanInput {
            app: &app,
            releases: &state.declared_types(&app),
            rows: &rows,
            failed: &state.memory.failed_runs(),
            now: now(),
        });
        let mut rows_changed = false;
        let mut next: Option<Instant> = None;
        for action in &actions {
            match steps::take(state, &app, &rows, action).await? {
                Step::RowsChanged => rows_changed = true,
                Step::InProgress => {}
                Step::DelayedUntil(at) => next = next.into_iter().chain([at]).min(),
            }
        }
        monitoring::monitor(state, &app, &rows).await?;
        if state.routes_stale {
            state.shared.routes.publish().await?;
            state.routes_stale = false;
        }
        if !rows_changed {
            state.handle.publish(summary(request, &app, &rows, &actions, &state.memory));
            return Ok(RoundEnd::Done { next });
        }
    }
}

/// What callers that wait for a round are to know of it.
fn summary(request: u64, app: &App, rows: &[Instance], actions: &[Action], memory: &Memory) -> Round {
    let candidate = app.candidate.map(|c| c.generation);
    let of_candidate = |id: &InstanceId| rows.iter().any(|r| r.id == *id && Some(r.generation) == candidate);
    let current = app.current.map(|c| c.generation);
    let starting = rows.iter().filter(|row| row.state == InstanceState::Starting && Some(row.generation) == current);
    let failing: Vec<_> = starting.filter_map(|row| Some((row, memory.repeated_failure(row)?))).collect();
    let settled = actions.iter().all(|action| match action {
        Action::Launch(id) | Action::BackOff(id, _) => of_candidate(id) || failing.iter().any(|(row, _)| row.id == *id),
        Action::Retire(_) | Action::Wait(_) | Action::Replace { .. } => false,
        Action::Create(deployment, _) => Some(deployment.generation) == candidate,
        Action::Remove(_) | Action::Commit(_) | Action::Abandon(..) => true,
    });
    let declared = |row: &Instance| DeclaredInstance { process_type: row.process_type.clone(), ordinal: row.ordinal };
    let failing = failing.into_iter().map(|(row, failure)| (declared(row), failure)).collect();
    let generations = rows.iter().map(|row| row.generation).collect();
    Round { request, settled, failing, generations, ..Round::default() }
}
