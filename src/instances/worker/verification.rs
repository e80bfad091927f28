//! Verification that the containers of healthy instances still run, and that the engine has their images.

use std::{collections::HashSet, time::Duration};

use futures_util::{StreamExt as _, stream};

use super::state::WorkerState;
use crate::{
    instances::{
        container::failure_of,
        diagnosis::Diagnosis,
        failure::{InstanceFailure, Run},
    },
    model::ReleaseNumber,
    store::{App, Instance, InstanceState},
};

/// Number of containers that are inspected at a time.
const MAX_INSPECTIONS: usize = 8;

/// Longest time that the app's reconciler waits for lost images.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(20);

/// Finds instances that are killed because they have written more than they may.
pub(super) async fn find_overuses(state: &mut WorkerState, rows: &[Instance]) {
    state.handle.retain_overuses(rows);
    for row in rows.iter().filter(|row| row.state != InstanceState::Retiring) {
        let Some(overuse) = state.handle.overuse(&row.id).filter(|_| state.memory.failure(&row.id).is_none()) else {
            continue;
        };
        let failure = InstanceFailure::new(row.name(), Diagnosis::overused(&overuse));
        state.instance_failed(row, InstanceFailure { run: Run::until_now(row), ..failure }).await;
    }
}

/// Finds healthy instances that have failed, and restores the images of the others.
pub(super) async fn verify(state: &mut WorkerState, app: &App, rows: &[Instance]) {
    let healthy: Vec<_> = rows
        .iter()
        .filter(|row| row.state == InstanceState::Healthy && state.memory.failure(&row.id).is_none())
        .filter(|row| !state.tasks.is_running(&row.id))
        .cloned()
        .collect();
    let runtime = state.shared.runtime.clone();
    let inspected = stream::iter(healthy)
        .map(move |row| {
            let runtime = runtime.clone();
            async move {
                let container = runtime.observe(row.id.as_str()).await;
                (row, container)
            }
        })
        .buffered(MAX_INSPECTIONS)
        .collect::<Vec<_>>()
        .await;
    let mut running = HashSet::new();
    for (row, container) in inspected {
        match container {
            Ok(container) => {
                if let Some(failure) = failure_of(&row, container.as_ref()) {
                    state.instance_failed(&row, failure).await;
                } else {
                    state.shared.pumps.ensure(&row);
                    running.insert(row.release);
                }
            }
            // The instance may be alive, so it is left as it is.
            Err(error) => tracing::warn!(%error, instance = %row.id, "cannot inspect the instance's container"),
        }
    }
    if tokio::time::timeout(RESTORE_TIMEOUT, restore_images(state, app, &running)).await.is_err() {
        tracing::warn!(app = %app.name, "the engine is too slow to restore images: the next verification tries again");
    }
}

/// Pulls and tags the images of these releases that the engine has lost. It may lose an image although a container uses it:
/// Docker looks for tags and containers first and removes the image later, and another app or another server with the same
/// image may have pulled, tagged and used it in between. Containers keep the layers, so the pull is short.
async fn restore_images(state: &WorkerState, app: &App, releases: &HashSet<ReleaseNumber>) {
    // A launch is pulling: the next verification looks again.
    let Ok(_pull) = state.pull.try_lock() else { return };
    for release in releases.iter().filter_map(|number| state.releases.get(number)) {
        if let Err(error) = state.shared.launcher.prepare_release(&app.name, release).await {
            tracing::warn!(%error, app = %app.name, release = release.number, "cannot restore the image of a release");
        }
    }
}
