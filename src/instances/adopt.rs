//! Adopts the containers that run at start, then passes the engine's events on to the workers of the apps.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};

use super::{container::failure_of, error::InstancesError, health, memory_kills, shared::Shared, workers::Workers};
use crate::{
    engine::Container,
    store::{Instance, InstanceState},
    workload::Purpose,
};

/// Delay before a retry after an error of the engine or the database.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Longest wait for an instance that was healthy to accept a connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Number of instances that are probed at a time.
const MAX_PROBES: usize = 32;

/// Runs until the server shuts down.
pub(super) async fn supervise(workers: Workers) {
    let shutdown = workers.shared().shutdown.clone();
    let both = async { tokio::join!(watch(&workers), memory_kills::report(workers.shared())) };
    let _ = shutdown.run_until_cancelled(both).await;
}

async fn watch(workers: &Workers) {
    let shared = workers.shared();
    // Subscribe before the containers are listed, so that no exit is missed.
    let mut exits = shared.runtime.changes(Purpose::Instance);
    while let Err(error) = adopt(shared).await {
        tracing::warn!(%error, "cannot adopt the running containers yet; retrying, the router keeps its route table");
        tokio::time::sleep(RETRY_DELAY).await;
    }
    shared.routes.open();
    while let Err(error) = verify_all(workers).await {
        tracing::warn!(%error, "cannot read the apps; retrying");
        tokio::time::sleep(RETRY_DELAY).await;
    }
    while let Some(exit) = exits.next().await {
        let Ok(id) = exit.name.parse() else { continue };
        match shared.store.instance(id).await {
            Ok(Some(row)) => {
                let _ = shared.launcher.exits.send(row.id);
                workers.handle(row.app).verify();
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "cannot read the row of a container that ended"),
        }
    }
}

/// Has the workers of all apps verify their instances.
pub(super) async fn verify_all(workers: &Workers) -> Result<(), InstancesError> {
    for app in workers.shared().store.apps().await? {
        workers.handle(app.id).verify();
    }
    Ok(())
}

/// Finds out which healthy instances still run. The others are to be launched again.
async fn adopt(shared: &Shared) -> Result<(), InstancesError> {
    let containers = remove_strays(shared).await?;
    for container in containers.iter().filter(|container| container.state.is_alive()) {
        if let Err(error) = shared.runtime.adopt(container).await {
            tracing::warn!(%error, "a running instance was not taken over completely");
        }
    }
    let running: HashMap<_, _> = containers.into_iter().map(|container| (container.name.clone(), container)).collect();
    let state = shared.store.routing_state().await?;
    // The port of an app's first mapping is the one that is probed.
    let mut mappings = HashMap::new();
    for (app, mapping) in &state.mappings {
        mappings.entry(*app).or_insert(mapping);
    }
    let is_healthy = |row: &&Instance| row.state == InstanceState::Healthy;
    let healthy: Vec<_> = state.instances.iter().filter(is_healthy).cloned().collect();
    let not_running: Vec<_> = stream::iter(healthy)
        .map(|row| {
            let failed = failure_of(&row, running.get(row.id.as_str())).is_some();
            let exposed = state.is_exposed(&row);
            let port = row.port_of(mappings.get(&row.app).copied());
            async move {
                let refused = !failed && exposed && refuses(&row, port).await;
                if !failed {
                    shared.pumps.ensure(&row);
                }
                (failed || refused).then_some(row)
            }
        })
        .buffer_unordered(MAX_PROBES)
        .filter_map(std::future::ready)
        .collect()
        .await;
    for row in not_running {
        // It has to pass its health check again. If its container has ended, the launch finds that out.
        shared.store.set_instance(row.id, row.container, InstanceState::Starting).await?;
    }
    Ok(())
}

/// Whether nothing listens.
async fn refuses(row: &Instance, port: u16) -> bool {
    let Some(endpoint) = row.endpoint else { return true };
    let address = SocketAddr::new(endpoint, port);
    health::refuses(address, PROBE_TIMEOUT).await
}

/// Removes instances' containers that have no row, and returns the others. The rows are read after the containers,
/// because a row is added before its container is created, and removed after it.
pub(super) async fn remove_strays(shared: &Shared) -> Result<Vec<Container>, InstancesError> {
    let containers = shared.runtime.list(Purpose::Instance).await?;
    let rows = shared.store.all_instances().await?;
    let known: HashSet<_> = rows.iter().map(|row| row.id.as_str()).collect();
    let (ours, strays): (Vec<_>, Vec<_>) = containers.into_iter().partition(|c| known.contains(c.name.as_str()));
    for stray in strays {
        tracing::warn!(container = %stray.name, "removing a container that belongs to no instance");
        shared.runtime.remove(&stray.id).await?;
    }
    Ok(ours)
}
