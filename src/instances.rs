//! The reconciler: the one code path that brings instances to what the store declares, and keeps them there.
//!
//! Each app has one task ([`worker`]) that asks a pure function ([`plan`]) for the next steps and takes them: launching
//! ([`launch`], [`health`]), routing ([`routes`]), removing. It remembers nothing that matters: whatever dies, the rows
//! and the engine's containers say how to go on ([`adopt`]).

mod adopt;
mod health;
mod launch;
mod listening;
mod logs;
mod plan;
mod pump;
mod requests;
mod routes;
mod worker;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use health::{Unhealthy, until_healthy};
pub use logs::{LogEntry, Logs};
pub use plan::UpdateStrategy;

use crate::{
    config::{Config, ConfigError},
    engine::{Engine, EngineError},
    model::{InstanceId, InvalidName, ProcessType, ReleaseNumber, Secret},
    progress::Progress,
    router::Link,
    store::{App, AppId, InstanceState, Millis, Store, StoreError, now},
};
use launch::{Failure, Launcher};
use pump::Pumps;
use routes::Routes;
use worker::{Handle, Outcome, Round, Waiter, Worker};

/// What goes wrong with instances, and is not the app's fault.
#[derive(Debug, thiserror::Error)]
pub enum InstancesError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A name that was made here is refused.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A log cannot be written or read.
    #[error("cannot use the log {path}: {source}; check the disk's free space and the folder's permissions")]
    Log {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A task ended by a bug.
    #[error("an instance's task failed: {0}")]
    Panicked(#[source] tokio::task::JoinError),
    /// The app is not on its way out.
    #[error("the app {0} is not marked for removal; its instances stay")]
    NotDestroying(String),
    /// Instances are there for longer than they should be.
    #[error("{left} instances of the app are not gone yet, {why}; they go as soon as that is mended: try again then")]
    StillThere {
        /// How many.
        left: usize,
        /// What is likely the reason.
        why: &'static str,
    },
    /// What is declared cannot be brought about, for now.
    #[error("{0}; what was asked for is kept, and tried again until it works")]
    Trouble(String),
    /// The server ends.
    #[error("the server is shutting down; try again when it is back")]
    ShuttingDown,
}

/// Why what was asked for does not run.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// An instance of it failed.
    #[error("{instance} did not become healthy: {reason}{}", hint.as_ref().map(|h| format!("; {h}")).unwrap_or_default())]
    Unhealthy {
        /// Which: `web.1`.
        instance: String,
        /// What happened.
        reason: String,
        /// What is likely wrong, and what to do.
        hint: Option<String>,
        /// The last lines that it printed.
        log: Vec<String>,
    },
    /// A newer release or restart of the app took its place.
    #[error("a newer release of this app took its place; releases:list shows it")]
    Superseded,
    /// The caller gave it up.
    #[error("cancelled; the release before it serves on")]
    Cancelled,
    /// There is nothing to restart.
    #[error("the app {0} has no release yet; deploy one with git push")]
    NotDeployed(String),
    /// It is declared not to run.
    #[error("the app {0} is stopped; ps:start {0} starts it")]
    Stopped(String),
    /// There is no such app or release any more.
    #[error("the app, or its release, is gone")]
    Gone,
    /// Not the app's fault.
    #[error(transparent)]
    Instances(#[from] InstancesError),
}

impl From<Failure> for RolloutError {
    fn from(Failure { instance, reason, hint, log }: Failure) -> Self {
        Self::Unhealthy { instance, reason, hint, log }
    }
}

impl From<StoreError> for RolloutError {
    fn from(error: StoreError) -> Self {
        Self::Instances(error.into())
    }
}

/// How far an instance is, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportState {
    /// It is made, started and checked.
    Starting,
    /// It passed its check.
    Healthy,
    /// It is drained, stopped and removed.
    Retiring,
    /// Its predecessor failed, and it is not started yet.
    Waiting,
}

impl std::fmt::Display for ReportState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Retiring => "retiring",
            Self::Waiting => "waiting (back-off)",
        })
    }
}

/// An instance, for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct InstanceReport {
    /// `web.1`
    pub name: String,
    /// Its identity, and its container's name.
    pub id: InstanceId,
    /// How far it is.
    pub state: ReportState,
    /// Which release it runs.
    pub release: ReleaseNumber,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its container, once that is made.
    pub container: Option<String>,
    /// How often its predecessors in this place failed in a row.
    pub restarts: u32,
    /// When it was made; when it is waiting, when it will be started.
    pub since: Millis,
}

/// Containers that are made and started at a time.
const STARTING: usize = 8;
/// How long the router is waited for before what is done is called done: it gets the table when it is back.
const ROUTER: Duration = Duration::from_secs(10);

/// The reconciler of all apps; cheap to clone.
#[derive(Clone)]
pub struct Instances(Arc<Shared>);

struct Shared {
    config: Arc<Config>,
    store: Store,
    engine: Engine,
    routes: Routes,
    launcher: Launcher,
    pumps: Pumps,
    logs: Logs,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    /// The tasks of the apps: who they are, not what they know.
    workers: StdMutex<HashMap<AppId, Arc<Handle>>>,
}

/// Waits until nothing can be done of what was asked for, and gives back why.
async fn trouble_since(rounds: &mut watch::Receiver<Round>, asked: u64) -> String {
    let round = rounds.wait_for(|round| round.trouble_since(asked).is_some()).await.map(|round| round.clone());
    match round.ok().and_then(|round| round.trouble) {
        Some(trouble) => trouble.why,
        // The app's task has ended: nothing more is said.
        None => std::future::pending().await,
    }
}

impl Instances {
    /// Starts to bring all apps to what is declared. Deployments that were under way when the server ended are given
    /// up. Nothing is routed before it is known which containers still run, and where. The tasks run on `tracker` until
    /// `shutdown`.
    pub async fn start(
        config: Arc<Config>,
        store: Store,
        engine: Engine,
        link: Link,
        registry_token: Secret,
        tracker: &TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Self, InstancesError> {
        store.abandon_all_interrupted().await?;
        let logs = Logs::new(&config.data_dir, shutdown.clone());
        let pumps = Pumps::new(engine.clone(), logs.clone(), tracker.clone(), shutdown.clone());
        let exits = broadcast::Sender::new(1024);
        let launcher = Launcher {
            config: Arc::clone(&config),
            store: store.clone(),
            engine: engine.clone(),
            pumps: pumps.clone(),
            registry_token,
            exits,
            starting: Semaphore::new(STARTING),
        };
        let unanswered = link.unanswered();
        let routes = Routes::new(store.clone(), link, config.router.listen.clone(), config.address_plan()?);
        let tracker = tracker.clone();
        let workers = StdMutex::default();
        let shared =
            Arc::new(Shared { config, store, engine, routes, launcher, pumps, logs, tracker, shutdown, workers });
        shared.tracker.spawn(adopt::supervise(Arc::clone(&shared)));
        shared.tracker.spawn(requests::keep(Arc::clone(&shared), unanswered));
        Ok(Self(shared))
    }

    /// Brings up `release` beside what serves. Returns after the commit point, with the routes swapped; or with the
    /// reason why it was given up, after its instances are gone. `cancel` gives it up if it is not committed yet. The
    /// old instances drain and go in the background.
    pub async fn rollout(
        &self,
        app: AppId,
        release: ReleaseNumber,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), RolloutError> {
        self.0.store.release(app, release).await?.ok_or(RolloutError::Gone)?;
        self.deploy(app, release, progress, cancel).await
    }

    /// A new generation of the current release, by the same path.
    pub async fn restart(
        &self,
        app: AppId,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), RolloutError> {
        let found = self.0.store.app(app).await?.ok_or(RolloutError::Gone)?;
        let current = found.current.ok_or_else(|| RolloutError::NotDeployed(found.name.to_string()))?;
        if found.stopped {
            return Err(RolloutError::Stopped(found.name.to_string()));
        }
        self.deploy(app, current.release, progress, cancel).await
    }

    async fn deploy(
        &self,
        app: AppId,
        release: ReleaseNumber,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), RolloutError> {
        let shared = &self.0;
        if cancel.is_cancelled() {
            return Err(RolloutError::Cancelled);
        }
        let handle = shared.handle(app);
        let (outcome, mut ended) = oneshot::channel();
        let (lines, mut said) = mpsc::channel(64);
        let deployment = {
            let mut waiters = handle.waiters.lock().await;
            let found = shared.store.app(app).await?.filter(|app| !app.destroying).ok_or(RolloutError::Gone)?;
            if let Some(older) = found.candidate {
                shared.store.abandon_deployment(app, older).await?;
            }
            let begun = shared.store.begin_deployment(app, release).await?;
            let deployment = begun.ok_or(RolloutError::Gone)?;
            waiters.insert(deployment.generation, Waiter { outcome, lines });
            deployment
        };
        let mut rounds = handle.rounds.subscribe();
        let asked = handle.wake();
        let (mut given_up, mut told) = (false, false);
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut ended => break outcome,
                why = trouble_since(&mut rounds, asked), if !told => {
                    told = true;
                    let text = format!("it cannot be brought up for now: {}", InstancesError::Trouble(why));
                    let _ = cancel.run_until_cancelled(progress.trouble(text)).await;
                }
                () = shared.shutdown.cancelled() => return Err(InstancesError::ShuttingDown.into()),
                () = cancel.cancelled(), if !given_up => {
                    given_up = true;
                    if shared.store.abandon_deployment(app, deployment).await? {
                        handle.wake();
                        shared.wait_gone(&handle, deployment.generation).await;
                        return Err(RolloutError::Cancelled);
                    }
                    // Too late: it is committed, or was given up for another reason.
                }
                Some(line) = said.recv() => {
                    let _ = cancel.run_until_cancelled(progress.line(line)).await;
                }
            }
        };
        while let Ok(line) = said.try_recv() {
            let _ = cancel.run_until_cancelled(progress.line(line)).await;
        }
        match outcome {
            Ok(Outcome::Committed(version)) => {
                shared.routed(version, progress).await;
                Ok(())
            }
            Ok(Outcome::Failed(failure)) => {
                shared.wait_gone(&handle, deployment.generation).await;
                Err(failure.into())
            }
            Ok(Outcome::Superseded) if given_up => Err(RolloutError::Cancelled),
            Ok(Outcome::Superseded) => Err(RolloutError::Superseded),
            Err(_) => Err(RolloutError::Gone),
        }
    }

    /// Waits until what is declared runs, and what is not has left the routes; fails with the reason when an instance
    /// fails again after its first restart. What is declared stays declared.
    pub async fn settle(
        &self,
        app: AppId,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), RolloutError> {
        let handle = self.0.handle(app);
        let mut rounds = handle.rounds.subscribe();
        let asked = handle.wake();
        let looked = rounds.wait_for(|round| {
            let looked = round.seen >= asked && (round.settled || !round.failing.is_empty());
            looked || round.gone || round.trouble_since(asked).is_some()
        });
        let round = tokio::select! {
            round = looked => round.map_err(|_| RolloutError::Gone)?.clone(),
            () = cancel.cancelled() => return Err(RolloutError::Cancelled),
            () = self.0.shutdown.cancelled() => return Err(InstancesError::ShuttingDown.into()),
        };
        if round.gone {
            return Err(RolloutError::Gone);
        }
        if round.seen >= asked && round.settled {
            let version = self.0.routes.publish().await?;
            self.0.routed(version, progress).await;
            return Ok(());
        }
        match (round.failing.into_iter().next().filter(|_| round.seen >= asked), round.trouble) {
            (Some(first), _) => Err(first.into()),
            (None, Some(trouble)) => Err(InstancesError::Trouble(trouble.why).into()),
            (None, None) => Err(RolloutError::Gone),
        }
    }

    /// Publishes the route table, and returns the listeners that the router could not open; `None` when there is no
    /// router to tell: it gets the table when it is there.
    pub async fn publish_routes(&self) -> Result<Option<Vec<(SocketAddr, String)>>, InstancesError> {
        let published = async {
            let version = self.0.routes.publish().await?;
            Ok(self.0.routes.applied_within(version, self.0.patience()).await)
        };
        tokio::select! {
            failed = published => failed,
            () = self.0.shutdown.cancelled() => Err(InstancesError::ShuttingDown),
        }
    }

    /// The app's instances, as they are.
    pub async fn report(&self, app: AppId) -> Result<Vec<InstanceReport>, InstancesError> {
        let now = now();
        let mut rows = self.0.store.instances(app).await?;
        rows.sort_by(|a, b| {
            (&a.process_type, a.ordinal, a.created_at).cmp(&(&b.process_type, b.ordinal, b.created_at))
        });
        let report = rows.into_iter().map(|row| {
            let state = match row.state {
                InstanceState::Starting if row.not_before > now => ReportState::Waiting,
                InstanceState::Starting => ReportState::Starting,
                InstanceState::Healthy => ReportState::Healthy,
                InstanceState::Retiring => ReportState::Retiring,
            };
            InstanceReport {
                name: launch::name_of(&row),
                state,
                release: row.release,
                address: self.0.engine.address(row.bridge, row.slot),
                restarts: row.restarts,
                since: if state == ReportState::Waiting { row.not_before } else { row.created_at },
                container: row.container,
                id: row.id,
            }
        });
        Ok(report.collect())
    }

    /// Removes all instances of an app that is marked for removal, and its logs; returns when they are gone for certain.
    pub async fn remove_app(&self, app: AppId) -> Result<(), InstancesError> {
        if let Some(found) = self.0.store.app(app).await? {
            if !found.destroying {
                return Err(InstancesError::NotDestroying(found.name.to_string()));
            }
            let handle = self.0.handle(app);
            let mut rounds = handle.rounds.subscribe();
            let asked = handle.wake();
            let limits = &self.0.config.instances;
            let longest = Duration::from_secs(limits.drain_seconds + limits.stop_grace_seconds + 60);
            let gone = rounds.wait_for(|r| r.gone || (r.seen >= asked && r.settled && r.generations.is_empty()));
            tokio::select! {
                _ = tokio::time::timeout(longest, gone) => {}
                () = self.0.shutdown.cancelled() => return Err(InstancesError::ShuttingDown),
            }
            let left = self.0.store.instances(app).await?.len();
            if left > 0 {
                let why = if self.0.routes.connected() {
                    "since Docker does not end them"
                } else {
                    "since the router does not answer: start `paas router`"
                };
                return Err(InstancesError::StillThere { left, why });
            }
        }
        self.0.logs.remove(app).await
    }

    /// What instances printed.
    pub fn logs(&self) -> &Logs {
        &self.0.logs
    }
}

/// Takes the handle of an app's task away when that ends.
struct Forget {
    shared: Arc<Shared>,
    app: AppId,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.shared.workers.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.app);
    }
}

impl Shared {
    /// The app's task, started if need be.
    fn handle(self: &Arc<Self>, app: AppId) -> Arc<Handle> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let handle = workers.entry(app).or_insert_with(|| {
            let handle = Arc::new(Handle::new());
            let worker = Worker::new(Arc::clone(self), app, Arc::clone(&handle));
            let shared = Arc::clone(self);
            // Even if it panics: the next who asks for this app's task gets a new one.
            let forget = Forget { shared, app };
            self.tracker.spawn(async move {
                let _forget = forget;
                worker.run().await;
            });
            handle
        });
        Arc::clone(handle)
    }

    /// An identity that was never used, and is a container's name.
    fn new_id(app: &App, process_type: &ProcessType, ordinal: u32) -> Result<InstanceId, InvalidName> {
        const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let random: String =
            rand::random::<[u8; 10]>().iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
        format!("{}-{}-{ordinal}-{random}", app.name, word(process_type)).parse()
    }

    /// How long to wait for the router.
    fn patience(&self) -> Duration {
        if self.routes.connected() { ROUTER } else { Duration::from_secs(1) }
    }

    /// Waits until the router has the table in force; when there is none, says so and goes on.
    async fn routed(&self, version: u64, progress: &Progress) {
        if self.routes.applied_within(version, self.patience()).await.is_none() && !self.shutdown.is_cancelled() {
            progress.trouble("the router does not answer; start `paas router`: it gets the new routes then").await;
        }
    }

    /// Waits until no instance of a generation is left, but not for ever: what is left goes in the background.
    async fn wait_gone(&self, handle: &Handle, generation: u64) {
        let mut rounds = handle.rounds.subscribe();
        let asked = handle.wake();
        let gone = rounds.wait_for(|r| r.gone || (r.seen >= asked && !r.generations.contains(&generation)));
        let limits = &self.config.instances;
        let longest = Duration::from_secs(limits.stop_grace_seconds + 10);
        tokio::select! {
            _ = tokio::time::timeout(longest, gone) => {}
            () = self.shutdown.cancelled() => {}
        }
    }
}

/// A process type as part of an instance's identity, which has fewer letters.
fn word(process_type: &ProcessType) -> String {
    let letters = process_type.as_str().chars().take(9);
    letters.map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_type_is_part_of_an_identity() {
        for (process_type, expected) in [("web", "web"), ("Job_a.v2-x", "job-a-v2-"), ("0", "0")] {
            let word = word(&process_type.parse().unwrap());
            assert_eq!(word, expected);
            assert!(format!("app-{word}-1-abc").parse::<InstanceId>().is_ok());
        }
    }
}
