//! At start, and when the engine tells something: whose containers are these?

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};

use super::{InstancesError, Shared, health};
use crate::{
    engine::Kind,
    model::{HealthCheck, Probe},
    store::{AppId, Instance, InstanceState, PortMapping},
};

/// The wait before the engine is asked again at start.
const RETRY: Duration = Duration::from_secs(1);
/// How often containers without a row are looked for.
const SWEEP: Duration = Duration::from_mins(10);
/// How long an instance that was healthy has to accept a connection.
const PROBE: Duration = Duration::from_secs(1);
/// Instances that are probed at a time.
const PROBES: usize = 32;

/// Adopts what runs, then tells the tasks of the apps what the engine tells.
pub(super) async fn supervise(shared: Arc<Shared>) {
    let shutdown = shared.shutdown.clone();
    let _ = shutdown.run_until_cancelled(watch(&shared)).await;
}

async fn watch(shared: &Arc<Shared>) {
    // From before the first look, so that no exit falls between.
    let mut exits = shared.engine.exits();
    while let Err(error) = adopt(shared).await {
        tracing::warn!(%error, "cannot look at what runs yet; the router goes on with what it has");
        tokio::time::sleep(RETRY).await;
    }
    shared.routes.open();
    wake_all(shared).await;
    let mut sweep = tokio::time::interval_at(tokio::time::Instant::now() + SWEEP, SWEEP);
    loop {
        tokio::select! {
            exit = exits.next() => {
                let Some(exit) = exit else { return };
                let Ok(id) = exit.name.parse() else { continue };
                match shared.store.instance(id).await {
                    Ok(Some(row)) => {
                        let _ = shared.launcher.exits.send(row.id);
                        shared.handle(row.app).verify();
                    }
                    Ok(None) => {}
                    Err(error) => tracing::warn!(%error, "cannot look an instance up"),
                }
            }
            _ = sweep.tick() => {
                if let Err(error) = remove_strays(shared).await {
                    tracing::warn!(%error, "cannot look for containers without a row");
                }
                // Whoever reloaded the machine's packet filter has taken ours away.
                if let Err(error) = shared.engine.close_firewall().await {
                    tracing::warn!(%error, "cannot look after the packet filters");
                }
                wake_all(shared).await;
            }
        }
    }
}

async fn wake_all(shared: &Arc<Shared>) {
    loop {
        match shared.store.apps().await {
            Ok(apps) => {
                for app in apps {
                    shared.handle(app.id).verify();
                }
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read the apps");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn adopt(shared: &Arc<Shared>) -> Result<(), InstancesError> {
    let running: HashMap<_, _> =
        remove_strays(shared).await?.into_iter().map(|container| (container.name.clone(), container)).collect();
    let rows = shared.store.all_instances().await?;
    let mappings = web_mappings(shared).await?;
    let healthy: Vec<_> = rows.into_iter().filter(|row| row.state == InstanceState::Healthy).collect();
    let lost: Vec<_> = stream::iter(healthy)
        .map(|row| {
            let dead = shared.death(&row, running.get(row.id.as_str())).is_some();
            let port = row.port_of(mappings.get(&row.app));
            async move {
                let refused = !dead && row.process_type.is_web() && refuses(shared, &row, port).await;
                if !dead {
                    shared.pumps.ensure(&row);
                }
                (dead || refused).then_some(row)
            }
        })
        .buffer_unordered(PROBES)
        .filter_map(std::future::ready)
        .collect()
        .await;
    for row in lost {
        // It has to pass its check again; one that has ended will be found out by that.
        shared.store.set_instance(row.id, row.container, InstanceState::Starting).await?;
    }
    Ok(())
}

/// The mapping whose port is probed, of each app.
async fn web_mappings(shared: &Shared) -> Result<HashMap<AppId, PortMapping>, InstancesError> {
    let mut first = HashMap::new();
    for (app, mapping) in shared.store.all_port_mappings().await? {
        first.entry(app).or_insert(mapping);
    }
    Ok(first)
}

/// Whether nothing listens; one that is merely slow may be under load.
async fn refuses(shared: &Shared, row: &Instance, port: u16) -> bool {
    let address = SocketAddr::new(shared.engine.address(row.bridge, row.slot).into(), port);
    let check = HealthCheck { probe: Probe::Tcp, attempts: 1, wait: PROBE, timeout: PROBE };
    matches!(health::once(address, &check).await, Err(health::Unhealthy::Refused))
}

/// Removes instances' containers that have no row, and returns the others. A row is there before its container, and
/// goes after it, so that the rows are read after the containers.
async fn remove_strays(shared: &Shared) -> Result<Vec<crate::engine::Container>, InstancesError> {
    let containers = shared.engine.list(Some(Kind::Instance)).await?;
    let rows = shared.store.all_instances().await?;
    let known: HashSet<_> = rows.iter().map(|row| row.id.as_str()).collect();
    let (ours, strays): (Vec<_>, Vec<_>) = containers.into_iter().partition(|c| known.contains(c.name.as_str()));
    for stray in strays {
        tracing::warn!(container = %stray.name, "removing a container that nobody knows");
        shared.engine.remove(&stray.id).await?;
    }
    Ok(ours)
}
