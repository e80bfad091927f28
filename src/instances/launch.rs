//! Launches one instance: image, container, start, health check. Each step may have been done before the server died.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, future::try_join_all};
use tokio::sync::{Mutex, broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    check_target::CheckTarget,
    container::{CONTAINER_REMOVED, run},
    diagnosis::Diagnosis,
    error::InstancesError,
    failure::{InstanceFailure, Run},
    health::{self, NotPassed},
    listening::Listening,
    pump::Pumps,
    unhealthy::Unhealthy,
};
use crate::{
    config::Config,
    engine::{Container, ContainerId, LogOptions},
    model::{AppName, CheckType, HealthCheck, InstanceId, Line, Probe, SizeTarget},
    store::{App, Instance, InstanceState, Release, Store, UserId},
    turns::Turns,
    workload::{Purpose, Runtime, Workload, WorkloadBudget},
};

/// Number of log lines that are shown of an instance that failed.
const LAST_LINES: u32 = 30;
/// Longest wait for these lines.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(3);
/// Interval at which an instance is inspected during its health check, in case the event of its exit was missed.
const INSPECT_INTERVAL: Duration = Duration::from_secs(2);
/// Time in which a port that nothing listens on refuses a connection.
const REFUSED_WITHIN: Duration = Duration::from_millis(20);
/// Delay before the caller is informed about an instance that is not healthy yet. Most are healthy earlier.
const INFORM_AFTER: Duration = Duration::from_secs(10);

/// Result of a launch.
pub(super) enum Launched {
    /// The instance passed its health checks. A failure of these was only to be reported.
    Healthy { container: ContainerId, warnings: Vec<String> },
    /// The instance ended, or did not become healthy in time.
    Failed(InstanceFailure),
    /// The launch was cancelled.
    Cancelled,
    /// The launch failed for another reason than the instance, and is to be retried.
    Error(InstancesError),
}

/// Launches the instances of all apps.
pub(super) struct Launcher {
    pub(super) config: Arc<Config>,
    pub(super) store: Store,
    pub(super) runtime: Runtime,
    pub(super) pumps: Pumps,
    /// Instances whose containers have ended.
    pub(super) exits: broadcast::Sender<InstanceId>,
    /// Bounds the containers that are created and started at a time; owners take turns.
    pub(super) starting: Turns<Option<UserId>>,
}

/// What an instance is launched from.
pub(super) struct Launch {
    pub(super) app: App,
    pub(super) release: Arc<Release>,
    pub(super) row: Instance,
    /// How it is checked. Its port is that of the variable `PORT`.
    pub(super) target: CheckTarget,
    /// Health checks that it must pass; without any, it is healthy as soon as it runs.
    pub(super) checks: Vec<HealthCheck>,
    /// Receives the state of the instance, if a caller waits for the rollout.
    pub(super) progress: Option<mpsc::Sender<Line>>,
    /// Held during a pull: one at a time for an app.
    pub(super) pull: Arc<Mutex<()>>,
}

/// A check that an instance did not pass when it was started.
struct FailedCheck {
    check: HealthCheck,
    not_passed: NotPassed,
}

impl Launch {
    /// The checks of a type that must pass before the instance is healthy.
    /// The checks of a type as they are made before the instance is healthy, with their places in the list.
    fn checks_of(&self, check_type: CheckType) -> impl Iterator<Item = (usize, HealthCheck)> {
        let of_type = self.checks.iter().enumerate().filter(move |(_, check)| check.check_type == check_type);
        of_type.map(move |(place, check)| match check_type {
            CheckType::Readiness => (place, check.at_start()),
            CheckType::Startup | CheckType::Liveness => (place, check.clone()),
        })
    }
}

/// Which checks of a launch have passed, by their places in the list.
struct PassedChecks(Vec<AtomicBool>);

impl PassedChecks {
    fn none_of(launch: &Launch) -> Self {
        Self(launch.checks.iter().map(|_| AtomicBool::new(false)).collect())
    }

    fn set(&self, place: usize) {
        self.0[place].store(true, Relaxed);
    }

    fn has(&self, place: usize) -> bool {
        self.0[place].load(Relaxed)
    }
}

/// Whether a check depends on what the instance listens on.
fn connects_to_port(check: &HealthCheck) -> bool {
    match check.probe {
        Probe::Tcp | Probe::Http(_) => check.check_type == CheckType::Startup && check.port.is_none(),
        Probe::Command(_) | Probe::Uptime(_) => false,
    }
}

impl Launcher {
    /// Launches an instance. To cancel, use the token and let the future end: dropping it may interrupt a call to the
    /// engine.
    pub(super) async fn launch(&self, launch: &Launch, cancel: &CancellationToken) -> Launched {
        match self.try_launch(launch, cancel).await {
            Ok(launched) => launched,
            // If the engine refuses to start a container once, it always does.
            Err(InstancesError::Engine(error)) if error.is_start_failure() => {
                self.failed(launch, Diagnosis::cannot_start(&Line::sanitize(&error.to_string()))).await
            }
            Err(error) => Launched::Error(error),
        }
    }

    async fn try_launch(&self, launch: &Launch, cancel: &CancellationToken) -> Result<Launched, InstancesError> {
        let row = &launch.row;
        // Before a permit to start is acquired, since a pull may take long.
        match cancel.run_until_cancelled(self.prepare(launch)).await {
            None => return Ok(Launched::Cancelled),
            Some(prepared) => prepared?,
        }
        // Subscribe before the start, or a quick exit would be missed.
        let mut exits = self.exits.subscribe();
        let container = {
            let target = SizeTarget::Type(row.process_type.clone());
            let budget = WorkloadBudget::read(&self.store, launch.app.id, &target).await?;
            let turn = self.starting.take(budget.owner, usize::MAX);
            let Some(_turn) = cancel.run_until_cancelled(turn).await else {
                return Ok(Launched::Cancelled);
            };
            match self.runtime.observe(row.id.as_str()).await? {
                Some(container) if container.state.is_alive() => container.id,
                Some(container) if container.started_at.is_some() => return Ok(self.ended(launch, &container).await),
                None if row.container.is_some() => return Ok(self.failed(launch, CONTAINER_REMOVED).await),
                Some(_) | None => {
                    let id = self.runtime.create(&self.workload(launch, budget)).await?;
                    if cancel.is_cancelled() {
                        return Ok(Launched::Cancelled);
                    }
                    self.store.set_instance(row.id.clone(), Some(id.0.clone()), InstanceState::Starting).await?;
                    self.runtime.start(&id).await?;
                    id
                }
            }
        };
        if row.container.as_ref() != Some(&container.0) {
            self.store.set_instance(row.id.clone(), Some(container.0.clone()), InstanceState::Starting).await?;
        }
        self.pumps.ensure(row);

        let address = SocketAddr::new(self.endpoint(row).await?, launch.target.port);
        let passed = PassedChecks::none_of(launch);
        let checked = tokio::select! {
            () = cancel.cancelled() => return Ok(Launched::Cancelled),
            ended = self.ended_container(&row.id, &mut exits) => {
                return Ok(match ended {
                    Some(container) => self.ended(launch, &container).await,
                    None => self.failed(launch, CONTAINER_REMOVED).await,
                });
            }
            checked = self.until_healthy(address.ip(), launch, &passed) => checked,
            never = self.inform_caller(&container, address, launch, &passed) => match never {},
        };
        match (checked, self.runtime.observe(row.id.as_str()).await?) {
            // Only if the container still has the address, it is the one that passed the check.
            (Ok(warnings), Some(c)) if c.state.is_alive() && c.address == Some(address.ip()) => {
                Ok(Launched::Healthy { container: c.id, warnings })
            }
            (_, Some(c)) if !c.state.is_alive() => Ok(self.ended(launch, &c).await),
            (Ok(_), _) => {
                let reason = "its container was removed, or moved to another address, by someone else";
                Ok(self.failed(launch, reason).await)
            }
            (Err(failed), _) => {
                let FailedCheck { check, not_passed: NotPassed { unhealthy, after, early } } = *failed;
                let mut diagnosis = self.diagnose(&container, launch, &check, &unhealthy).await;
                let seconds = after.as_secs_f32().round();
                let same = if early { " and five times the same response" } else { "" };
                if check.name.is_some() {
                    diagnosis.reason = check.failure(&diagnosis.reason);
                }
                diagnosis.reason = format!("not healthy after {seconds} s{same}: {}", diagnosis.reason);
                Ok(self.failed(launch, diagnosis).await)
            }
        }
    }

    /// Waits until the instance passes its startup checks, and then its readiness checks: a release that never becomes ready
    /// gets no request. Returns what is only to be reported.
    async fn until_healthy(
        &self,
        address: IpAddr,
        launch: &Launch,
        passed: &PassedChecks,
    ) -> Result<Vec<String>, Box<FailedCheck>> {
        let instance = launch.target.clone().at(address);
        let started = instance.started(&launch.checks).await;
        let mut warnings = Vec::new();
        for check_type in [CheckType::Startup, CheckType::Readiness] {
            let all = launch.checks_of(check_type).map(|(place, check)| {
                let instance = &instance;
                async move {
                    match instance.until_passed(&check, started).await {
                        Ok(()) => {
                            passed.set(place);
                            Ok(None)
                        }
                        Err(not_passed) if check.warn => Ok(Some(check.failure(&not_passed.unhealthy))),
                        Err(not_passed) => Err(Box::new(FailedCheck { check, not_passed })),
                    }
                }
            });
            warnings.extend(try_join_all(all).await?.into_iter().flatten());
        }
        Ok(warnings)
    }

    /// Informs the caller of a rollout where an instance listens that does not become healthy soon, or which check it has not
    /// passed, and again whenever that changes.
    async fn inform_caller(
        &self,
        container: &ContainerId,
        address: SocketAddr,
        launch: &Launch,
        passed: &PassedChecks,
    ) -> Infallible {
        let Some(progress) = &launch.progress else { return std::future::pending().await };
        let (name, port, mut last) = (launch.row.name(), launch.target.port, None);
        tokio::time::sleep(INFORM_AFTER).await;
        loop {
            let failing = |check_type| {
                let all = launch.checks.iter().enumerate();
                let mut of_type = all.filter(|(_, check)| check.check_type == check_type);
                of_type.find(|(place, _)| !passed.has(*place)).map(|(_, check)| check)
            };
            let text = match failing(CheckType::Startup).or_else(|| failing(CheckType::Readiness)) {
                None | Some(HealthCheck { probe: Probe::Uptime(_), .. }) => None,
                Some(check) if connects_to_port(check) => {
                    // An error is logged by the diagnosis in the end.
                    let listeners = self.runtime.diagnose(container).await.ok();
                    let refused = health::refuses(address, REFUSED_WITHIN).await;
                    listeners.and_then(|listeners| {
                        Listening::of(&listeners, port, refused).not_healthy_yet(&name, port, &check.probe)
                    })
                }
                Some(check) => {
                    Some(format!("{name} has not passed its {} yet: {}", check.label(), check.description()))
                }
            };
            if let Some(text) = text.filter(|text| last.as_ref() != Some(text)) {
                // A caller that reads too slowly misses the line.
                let _ = progress.try_send(Line::Detail(text.clone()));
                last = Some(text);
            }
            tokio::time::sleep(INSPECT_INTERVAL).await;
        }
    }

    /// Waits until the instance's container has ended; returns `None` if the container was removed.
    async fn ended_container(&self, id: &InstanceId, exits: &mut broadcast::Receiver<InstanceId>) -> Option<Container> {
        loop {
            let event = async { while exits.recv().await.is_ok_and(|ended| ended != *id) {} };
            let _ = tokio::time::timeout(INSPECT_INTERVAL, event).await;
            match self.runtime.observe(id.as_str()).await {
                Ok(Some(container)) if container.state.is_alive() => {}
                Ok(container) => return container,
                Err(error) => {
                    tracing::warn!(%error, instance = %id, "cannot inspect the instance's container; retrying");
                    tokio::time::sleep(INSPECT_INTERVAL).await;
                }
            }
        }
    }

    /// The address of an instance that was started; of the runtime, if it was not assigned before.
    async fn endpoint(&self, row: &Instance) -> Result<IpAddr, InstancesError> {
        if let Some(endpoint) = row.endpoint {
            return Ok(endpoint);
        }
        let container = self.runtime.observe(row.id.as_str()).await?;
        let endpoint = container.and_then(|container| container.address).ok_or(InstancesError::NoAddress)?;
        self.store.set_endpoint(row.id.clone(), endpoint).await?;
        Ok(endpoint)
    }

    /// Prepares the image of a release. The caller holds the app's lock for pulls.
    pub(super) async fn prepare_release(&self, app: &AppName, release: &Release) -> Result<(), InstancesError> {
        Ok(self.runtime.prepare(app, release.number, &release.image).await?)
    }

    async fn prepare(&self, launch: &Launch) -> Result<(), InstancesError> {
        let _pull = launch.pull.lock().await;
        self.prepare_release(&launch.app.name, &launch.release).await
    }

    fn workload(&self, launch: &Launch, budget: WorkloadBudget) -> Workload {
        let (row, app, release) = (&launch.row, &launch.app.name, &launch.release);
        let name = (row.process_type.as_str(), u64::from(row.ordinal));
        let port = [("PORT", launch.target.port.to_string())];
        let grace = launch.app.stop_grace(&row.process_type, self.config.instances.stop_grace());
        let workload =
            Workload::of_release(row.id.as_str(), Purpose::Instance, app, release, name, &port, grace, budget);
        Workload {
            entrypoint: vec![format!("/cnb/process/{}", row.process_type)],
            address: row.endpoint,
            mounts: launch.app.mounts_of(&row.process_type).cloned().collect(),
            ..workload
        }
    }

    async fn ended(&self, launch: &Launch, container: &Container) -> Launched {
        let diagnosis = Diagnosis::exited(container);
        self.failed_after(launch, diagnosis, run(container)).await
    }

    async fn failed(&self, launch: &Launch, diagnosis: impl Into<Diagnosis>) -> Launched {
        self.failed_after(launch, diagnosis.into(), Run::default()).await
    }

    async fn failed_after(&self, launch: &Launch, diagnosis: Diagnosis, run: Run) -> Launched {
        let log = self.last_lines(&launch.row.id).await;
        let diagnosis = diagnosis.with_launcher_message(&log).with_cause_in_log(&launch.app.name, &log);
        Launched::Failed(InstanceFailure { instance: launch.row.name(), diagnosis, log, run })
    }

    /// Last lines that an instance printed, safe for a terminal; empty if its container is removed.
    pub(super) async fn last_lines(&self, id: &InstanceId) -> Vec<String> {
        let options = LogOptions { tail: Some(LAST_LINES), ..LogOptions::default() };
        let lines = self.runtime.logs(&ContainerId::from(id), options);
        let lines = lines.filter_map(|line| std::future::ready(line.ok().map(|line| Line::sanitize(&line.text))));
        tokio::time::timeout(LAST_LINES_TIMEOUT, lines.collect()).await.unwrap_or_default()
    }

    async fn diagnose(
        &self,
        container: &ContainerId,
        launch: &Launch,
        check: &HealthCheck,
        unhealthy: &Unhealthy,
    ) -> Diagnosis {
        if let Some(port) = check.port.filter(|port| *port != launch.target.port) {
            return Diagnosis::of_other_port(unhealthy, port, launch.target.port);
        }
        if unhealthy.responded() {
            return Diagnosis::of_check(unhealthy);
        }
        let listening = match self.runtime.diagnose(container).await {
            Ok(listeners) => {
                Listening::of(&listeners, launch.target.port, matches!(unhealthy, Unhealthy::Refused { .. }))
            }
            Err(error) => {
                tracing::debug!(%error, "cannot read on which ports the instance listens");
                return Diagnosis::of_check(unhealthy);
            }
        };
        let diagnosis = Diagnosis::unhealthy(unhealthy, listening, launch.target.port, &check.probe);
        match listening {
            Listening::Elsewhere(_) => {
                let mappings = self.store.port_mappings(launch.app.id).await.unwrap_or_default();
                diagnosis.or_map_port(&launch.app.name, &mappings, listening)
            }
            Listening::Reachable | Listening::OnLocalhost | Listening::OnIpv6Only | Listening::Nowhere => diagnosis,
        }
    }
}
