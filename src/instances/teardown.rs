//! Teardown of an instance: drain, stop, remove.

use std::time::{Duration, Instant};

use super::{error::InstancesError, shared::Shared};
use crate::{
    engine::ContainerId,
    store::{App, AppId, Instance},
};

/// How an instance that is retiring leaves the route table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unrouting {
    /// The instance was in no route table.
    NeverRouted,
    /// The instance failed, so there are no requests to wait for.
    Failed,
    /// Requests in flight are to end first.
    Drain,
}

/// Exit status of a container whose first process was killed by SIGKILL, as a shell has it.
const KILLED: i64 = 137;

/// Time between two looks whether the app is being destroyed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Waits until the app has been in destruction for the grace period of the configuration: what the app itself had set could be
/// an hour.
async fn is_no_longer_wanted(shared: &Shared, app: AppId) {
    while !matches!(shared.store.app(app).await, Ok(Some(App { destroying: true, .. }))) {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    tokio::time::sleep(shared.config.instances.stop_grace()).await;
}

/// Takes a retiring instance out of the route table, drains and stops it, and removes its container and its row.
pub(super) async fn tear_down(shared: &Shared, row: &Instance, unrouting: Unrouting) -> Result<(), InstancesError> {
    let limits = &shared.config.instances;
    let version = match unrouting {
        Unrouting::NeverRouted => None,
        Unrouting::Failed | Unrouting::Drain => Some(shared.routes.publish().await?),
    };
    if let (Unrouting::Drain, Some(version)) = (unrouting, version) {
        let drained = async {
            shared.routes.applied(version).await;
            shared.routes.drained(&row.id).await;
        };
        let app = shared.store.app(row.app).await?.filter(|app| !app.destroying);
        let limit = app.and_then(|app| app.checks.wait_to_retire);
        let limit = limit.unwrap_or_else(|| Duration::from_secs(limits.drain_seconds));
        let ends = async {
            tokio::select! {
                () = drained => {}
                () = is_no_longer_wanted(shared, row.app) => {}
            }
        };
        if tokio::time::timeout(limit, ends).await.is_err() {
            tracing::warn!(instance = %row.id, "the instance was not drained in time; stopping it");
        }
    }
    let container = ContainerId::from(&row.id);
    let app = shared.store.app(row.app).await?;
    let grace = app.as_ref().map_or(limits.stop_grace(), |app| app.stop_grace(&row.process_type, limits.stop_grace()));
    let began = Instant::now();
    tokio::select! {
        stopped = shared.runtime.stop(&container, grace) => stopped?,
        () = is_no_longer_wanted(shared, row.app) => shared.runtime.kill(&container).await?,
    }
    shared.pumps.finish(row).await;
    if let Some(app) = &app
        && began.elapsed() >= grace
        && let Some(ended) = shared.runtime.observe(row.id.as_str()).await?
        && ended.exit_code == Some(KILLED)
    {
        let seconds = ended.stop_grace.map_or(grace, |created_with| created_with.max(grace)).as_secs();
        let (app, process_type) = (&app.name, &row.process_type);
        let text = format!(
            "Did not end within {seconds} s and was killed; ps:set {app} stop-timeout {process_type}=SECONDS gives it more time"
        );
        shared.logs.event(row.app, &row.name(), text).await;
    }
    shared.runtime.remove(&container).await?;
    if let Some(version) = version {
        // The row holds the address until then: a router with an older table would send the instance's requests to the
        // next instance with the address.
        shared.routes.applied(version).await;
    }
    shared.store.remove_instance(row.id.clone()).await?;
    Ok(())
}
