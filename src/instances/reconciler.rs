//! The reconciler of all apps: the public interface of this module.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::sync::broadcast;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    adopt,
    error::{InstancesError, RolloutError},
    launch::Launcher,
    logs::Logs,
    pump::Pumps,
    report::InstanceReport,
    requests,
    routes::Routes,
    shared::Shared,
    started::StartedInstances,
    sweeps::{NameServers, Sweep, Verification},
    waiting::{Settlement, WorkerHandle},
    workers::Workers,
};
use crate::{
    config::Config,
    engine::{ContainerId, Usage, UsageSample},
    model::{AddressPlan, InstanceId},
    periodic::Driver,
    progress::Progress,
    router::Link,
    store::{App, AppId, Instance, Store, now},
    turns::Turns,
    workload::Runtime,
};

/// Number of containers that are created and started at a time.
const MAX_STARTING: usize = 8;
/// Number of instances that are measured at a time.
const MAX_SAMPLES: usize = 16;
/// Time for which the use of CPU is measured.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
/// Number of exits by which a launch may lag; it also inspects its container from time to time.
const MAX_EXITS: usize = 1024;

/// Time for all else that the removal of an app's instances takes, besides draining and stopping them.
const REMOVAL_TIME: Duration = Duration::from_mins(1);

/// The reconciler of all apps; cheap to clone.
#[derive(Clone)]
pub struct Instances {
    pub(super) shared: Arc<Shared>,
    pub(super) workers: Workers,
}

impl Instances {
    /// Starts to reconcile all apps. Rollouts that a previous server did not finish are abandoned. No route table is
    /// published before the containers that still run were compared with the rows. The tasks run on `tracker` until
    /// `shutdown`.
    pub async fn start(
        config: Arc<Config>,
        store: Store,
        runtime: Runtime,
        link: Link,
        driver: &Driver,
        tracker: &TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Self, InstancesError> {
        store.abandon_all_interrupted().await?;
        let logs = Logs::new(&config.data_dir, shutdown.clone());
        let pumps = Pumps::new(runtime.clone(), logs.clone(), tracker.clone(), shutdown.clone());
        let launcher = Launcher {
            config: Arc::clone(&config),
            store: store.clone(),
            runtime: runtime.clone(),
            pumps: pumps.clone(),
            exits: broadcast::Sender::new(MAX_EXITS),
            starting: Turns::new(MAX_STARTING),
        };
        let unanswered = link.unanswered();
        let returned = [runtime.returned(), runtime.returned()];
        let internal = config.address_plan().ok().map(AddressPlan::router_address);
        let routes = Routes::new(store.clone(), link, config.router.listen.clone(), internal);
        let shared = Arc::new(Shared {
            config,
            store,
            runtime,
            routes,
            launcher,
            pumps,
            logs,
            tracker: tracker.clone(),
            shutdown,
        });
        let workers = Workers::new(Arc::clone(&shared), tracker.clone());
        tracker.spawn(adopt::supervise(workers.clone()));
        driver.start_woken_by(&returned[0], Verification(workers.clone()));
        driver.start_woken_by(&returned[1], Sweep(workers.clone()));
        driver.start(NameServers(workers.clone()));
        tracker.spawn(requests::log_unanswered(Arc::clone(&shared), unanswered));
        Ok(Self { shared, workers })
    }

    /// The handle of an app's worker.
    pub(super) fn worker(&self, app: AppId) -> Arc<WorkerHandle> {
        self.workers.handle(app)
    }

    /// Waits until the app runs as declared and the router has the routes. Fails with the reason when an instance of
    /// `started` has failed again after its first restart; of another one, the caller is only told. What is declared does not
    /// change.
    pub async fn settle(
        &self,
        app: AppId,
        started: StartedInstances,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), RolloutError> {
        let shared = &self.shared;
        let worker = self.worker(app);
        let settlement = tokio::select! {
            settlement = worker.settlement(started) => settlement,
            () = cancel.cancelled() => return Err(RolloutError::Cancelled),
            () = shared.shutdown.cancelled() => return Err(InstancesError::ShuttingDown.into()),
        };
        match settlement {
            Settlement::Settled { failing } => {
                for failure in &failing {
                    progress.trouble(failure.notice()).await;
                }
                let version = shared.routes.publish().await?;
                self.wait_for_router(version, progress).await;
                Ok(())
            }
            Settlement::Failing(failure) => Err(failure.into()),
            Settlement::Stalled(reason) => Err(InstancesError::Stalled(reason).into()),
            Settlement::AppGone => Err(RolloutError::Gone),
        }
    }

    /// Waits for a limited time until the router has applied a route table; warns the caller if there is no router.
    pub(super) async fn wait_for_router(&self, version: u64, progress: &Progress) {
        if self.shared.routes.applied_soon(version).await.is_none() && !self.shared.shutdown.is_cancelled() {
            let text = "the router does not respond; start `paas router`, which then gets the new routes";
            progress.trouble(text).await;
        }
    }

    /// Publishes the route table. Returns the listeners that the router could not open, with the reason; `None` when the
    /// router does not respond: it gets the table when it connects.
    pub async fn publish_routes(&self) -> Result<Option<Vec<(SocketAddr, String)>>, InstancesError> {
        let published = async {
            // A port that leads to another app than before is closed first to those who were linked to that one.
            self.shared.runtime.apply_openings().await?;
            let version = self.shared.routes.publish().await?;
            Ok(self.shared.routes.applied_soon(version).await)
        };
        tokio::select! {
            not_opened = published => not_opened,
            () = self.shared.shutdown.cancelled() => Err(InstancesError::ShuttingDown),
        }
    }

    /// The app's instances, by name.
    pub async fn report(&self, app: AppId) -> Result<Vec<InstanceReport>, InstancesError> {
        let now = now();
        let mut rows = self.shared.store.instances(app).await?;
        rows.sort_by(|a, b| {
            (&a.process_type, a.ordinal, a.created_at).cmp(&(&b.process_type, b.ordinal, b.created_at))
        });
        Ok(rows.into_iter().map(|row| InstanceReport::new(row, now)).collect())
    }

    /// The same of these instances, which may be of several apps.
    pub fn report_each(rows: Vec<Instance>) -> HashMap<AppId, Vec<InstanceReport>> {
        let (now, mut reports) = (now(), HashMap::<_, Vec<_>>::new());
        for row in rows {
            reports.entry(row.app).or_default().push(InstanceReport::new(row, now));
        }
        reports
    }

    /// What running instances use, measured for a moment. An instance that cannot be measured is left out.
    pub async fn usage(&self, instances: Vec<InstanceId>) -> HashMap<InstanceId, Usage> {
        let first: HashMap<_, _> = self.samples(instances).await.into_iter().collect();
        tokio::time::sleep(SAMPLE_INTERVAL).await;
        let second = self.samples(first.keys().cloned().collect()).await;
        second
            .into_iter()
            .filter_map(|(id, sample)| Some((sample.since(first.get(&id)?), id)))
            .map(|(used, id)| (id, used))
            .collect()
    }

    async fn samples(&self, instances: Vec<InstanceId>) -> Vec<(InstanceId, UsageSample)> {
        let runtime = &self.shared.runtime;
        let sample = |id: InstanceId| async move {
            let sample = runtime.usage(&ContainerId::from(&id)).await;
            if let Err(error) = &sample {
                tracing::debug!(%error, instance = %id, "cannot measure what an instance uses");
            }
            Some((id, sample.ok().flatten()?))
        };
        let samples = stream::iter(instances).map(sample).buffer_unordered(MAX_SAMPLES);
        samples.filter_map(std::future::ready).collect().await
    }

    /// Removes all instances of an app that is being destroyed, and its log. Returns when they are removed.
    pub async fn remove_app(&self, app: AppId) -> Result<(), InstancesError> {
        let shared = &self.shared;
        if let Some(found) = shared.store.app(app).await? {
            if !found.destroying {
                return Err(InstancesError::NotDestroying(found.name.to_string()));
            }
            let worker = self.worker(app);
            let limit = self.removal_limit(&found).await?;
            tokio::select! {
                _ = tokio::time::timeout(limit, worker.all_removed()) => {}
                () = shared.shutdown.cancelled() => return Err(InstancesError::ShuttingDown),
            }
            let left = shared.store.instances(app).await?;
            if let Some(first) = left.first() {
                let why = if !shared.routes.connected() {
                    "the router does not respond (start `paas router`)"
                } else if shared.runtime.observe(first.id.as_str()).await.is_ok() {
                    "they are still being drained or stopped (checks:set wait-to-retire, ps:set stop-timeout)"
                } else {
                    "Docker does not respond"
                };
                return Err(InstancesError::NotRemoved { left: left.len(), why });
            }
        }
        shared.logs.remove(app).await
    }

    /// Longest time that the removal of an app's instances takes: some may already be drained for as long as the app's
    /// settings say, and a container keeps the grace period that it was created with.
    pub(super) async fn removal_limit(&self, app: &App) -> Result<Duration, InstancesError> {
        let limits = &self.shared.config.instances;
        let drain = Duration::from_secs(limits.drain_seconds).max(app.checks.wait_to_retire.unwrap_or_default());
        let mut grace = app.longest_stop_grace(limits.stop_grace());
        for row in self.shared.store.instances(app.id).await? {
            // An engine that does not respond is reported in the end.
            let container = self.shared.runtime.observe(row.id.as_str()).await.ok().flatten();
            grace = grace.max(container.and_then(|container| container.stop_grace).unwrap_or_default());
        }
        Ok(drain + grace + REMOVAL_TIME)
    }

    /// Logs of the apps.
    pub fn logs(&self) -> &Logs {
        &self.shared.logs
    }
}
