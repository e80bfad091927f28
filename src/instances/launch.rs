//! Brings one instance up: image, container, start, check; each step may have been done before the server died.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use tokio::sync::{Mutex, Semaphore, broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    InstancesError,
    health::{self, Unhealthy},
    listening::Listening,
    pump::Pumps,
};
use crate::{
    config::Config,
    engine::{Container, ContainerId, Engine, EngineError, ImageId, InstanceSpec, LogOptions},
    model::{CONTAINER_PORT, HealthCheck, InstanceId, Line, Probe, Secret},
    store::{App, Instance, InstanceState, PortMapping, Release, Store},
};

/// The last lines that are shown of an instance that failed.
const LAST_LINES: u32 = 30;
/// How long they are waited for.
const LAST_LINES_WAIT: Duration = Duration::from_secs(3);
/// How often an instance is looked at while it is checked, should its exit not be told.
const LOOK: Duration = Duration::from_secs(2);
/// How long whoever waits for it hears nothing; most that work are healthy by then.
const SILENCE: Duration = Duration::from_secs(10);

/// Why an instance failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// Which: `web.1`.
    pub(super) instance: String,
    /// What happened.
    pub(super) reason: String,
    /// What is likely wrong, and what to do.
    pub(super) hint: Option<String>,
    /// The last lines that it printed.
    pub(super) log: Vec<String>,
}

/// What came of a launch.
pub(super) enum Launched {
    /// It passed its check.
    Healthy { container: ContainerId },
    /// It ended, or did not become healthy in time.
    Failed { failure: Failure, ran: Duration },
    /// It is not wanted any more.
    Cancelled,
    /// It is neither the instance's fault nor known what is: to be tried again.
    Unknown(InstancesError),
}

/// What launching needs; one for all apps.
pub(super) struct Launcher {
    pub(super) config: Arc<Config>,
    pub(super) store: Store,
    pub(super) engine: Engine,
    pub(super) pumps: Pumps,
    pub(super) registry_token: Secret,
    /// Names of containers that have ended.
    pub(super) exits: broadcast::Sender<InstanceId>,
    /// Containers that are made and started at a time.
    pub(super) starting: Semaphore,
}

/// What an instance is launched from.
pub(super) struct Launch {
    pub(super) app: App,
    pub(super) release: Arc<Release>,
    pub(super) row: Instance,
    /// The port that `PORT` names in it, and that is checked: the mapping's, or else the release's.
    pub(super) port: u16,
    /// Where it is told how far it is, if somebody waits for it.
    pub(super) lines: Option<mpsc::Sender<Line>>,
    /// One pull of an image at a time for one app.
    pub(super) pull: Arc<Mutex<()>>,
}

/// `web.1`
pub(super) fn name_of(row: &Instance) -> String {
    format!("{}.{}", row.process_type, row.ordinal)
}

/// How long a container ran.
pub(super) fn ran(container: &Container) -> Duration {
    let since = container.started_at.zip(container.finished_at);
    since.and_then(|(start, end)| Duration::try_from(end.duration_since(start)).ok()).unwrap_or_default()
}

impl Launcher {
    /// Safe to be cancelled by the token only: no call to the engine is left half done.
    pub(super) async fn launch(&self, launch: &Launch, cancel: &CancellationToken) -> Launched {
        match self.bring_up(launch, cancel).await {
            Ok(launched) => launched,
            // What the engine refuses to start, it will refuse again: as a rule the image lacks the process.
            Err(InstancesError::Engine(error)) if error.is_of_the_container() => {
                let reason = format!("it cannot be started: {}", Line::sanitize(&error.to_string()));
                let hint = "check the command of this process type in the Procfile".to_owned();
                self.failed(launch, reason, Some(hint), Duration::ZERO).await
            }
            Err(error) => Launched::Unknown(error),
        }
    }

    async fn bring_up(&self, launch: &Launch, cancel: &CancellationToken) -> Result<Launched, InstancesError> {
        let row = &launch.row;
        // Before a place among those that start is taken: a pull may take long.
        match cancel.run_until_cancelled(self.image(launch)).await {
            None => return Ok(Launched::Cancelled),
            Some(image) => drop(image?),
        }
        // Listening before the start, or a quick exit would be missed.
        let mut exits = self.exits.subscribe();
        let container = {
            let Some(permit) = cancel.run_until_cancelled(self.starting.acquire()).await else {
                return Ok(Launched::Cancelled);
            };
            let _permit = permit.map_err(|_| InstancesError::ShuttingDown)?;
            match self.engine.inspect(row.id.as_str()).await? {
                Some(container) if container.state.is_alive() => container.id,
                Some(container) if container.started_at.is_some() => return Ok(self.ended(launch, &container).await),
                None if row.container.is_some() => {
                    let reason = "its container was removed by someone else".to_owned();
                    return Ok(self.failed(launch, reason, None, Duration::ZERO).await);
                }
                Some(_) | None => {
                    let id = self.create(launch).await?;
                    if cancel.is_cancelled() {
                        return Ok(Launched::Cancelled);
                    }
                    let noted = Some(id.0.clone());
                    self.store.set_instance(row.id.clone(), noted, InstanceState::Starting).await?;
                    self.engine.start(&id).await?;
                    id
                }
            }
        };
        if row.container.as_ref() != Some(&container.0) {
            let noted = Some(container.0.clone());
            self.store.set_instance(row.id.clone(), noted, InstanceState::Starting).await?;
        }
        self.pumps.ensure(row);

        let address = SocketAddr::new(self.engine.address(row.bridge, row.slot).into(), launch.port);
        let spec = launch.release.processes.iter().find(|p| p.process.process_type == row.process_type);
        let Some(check) = spec.map(|spec| &spec.health_check) else { return Ok(Launched::Cancelled) };
        let checked = tokio::select! {
            () = cancel.cancelled() => return Ok(Launched::Cancelled),
            ended = self.ended_container(&row.id, &mut exits) => {
                let Some(ended) = ended else {
                    let reason = "its container was removed by someone else".to_owned();
                    return Ok(self.failed(launch, reason, None, Duration::ZERO).await);
                };
                return Ok(self.ended(launch, &ended).await);
            }
            checked = self.until_healthy(&container, address, check) => checked,
            never = self.tell_so_far(&container, launch, &check.probe) => match never {},
        };
        match (checked, self.engine.inspect(row.id.as_str()).await?) {
            // What answered is the instance only if its container still has the address.
            (Ok(()), Some(c)) if c.state.is_alive() && c.address.map(Into::into) == Some(address.ip()) => {
                Ok(Launched::Healthy { container: c.id })
            }
            (_, Some(c)) if !c.state.is_alive() => Ok(self.ended(launch, &c).await),
            (Ok(()), _) => {
                let reason = "its container was removed, or moved to another address, by someone else".to_owned();
                Ok(self.failed(launch, reason, None, Duration::ZERO).await)
            }
            (Err(met), _) => {
                let (reason, hint) = self.diagnose(&container, launch, &check.probe, &met).await;
                let seconds = check.deadline().saturating_sub(check.timeout).as_secs_f32();
                let reason = format!("not healthy after {seconds} s: {reason}");
                Ok(self.failed(launch, reason, hint, Duration::ZERO).await)
            }
        }
    }

    /// An open port is no proof: servers with workers open it before these have loaded the app. Whoever accepts has.
    async fn until_healthy(
        &self,
        container: &ContainerId,
        address: SocketAddr,
        check: &HealthCheck,
    ) -> Result<(), Unhealthy> {
        health::until_healthy(address, check).await?;
        if check.probe != Probe::Tcp {
            return Ok(());
        }
        let accepted = async {
            let mut wait = Duration::from_millis(10);
            loop {
                // What cannot be seen does not count against it.
                let listeners = self.engine.listening_ports(container).await.unwrap_or_default();
                if !listeners.iter().any(|listener| listener.port == address.port() && listener.waiting > 0) {
                    return;
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_millis(200));
            }
        };
        tokio::time::timeout(check.deadline(), accepted).await.map_err(|_| Unhealthy::NotAccepted)
    }

    /// Tells who waits, when it takes long, what is known of the instance by then; again only when that changes.
    async fn tell_so_far(&self, container: &ContainerId, launch: &Launch, probe: &Probe) -> Infallible {
        let lines = launch.lines.as_ref().filter(|_| !matches!(probe, Probe::Uptime(_)));
        let Some(lines) = lines else { return std::future::pending().await };
        let (name, mut told) = (name_of(&launch.row), None);
        tokio::time::sleep(SILENCE).await;
        loop {
            // What cannot be seen is no news; the diagnosis in the end notes why.
            if let Ok(listeners) = self.engine.listening_ports(container).await {
                let text = Listening::of(&listeners, launch.port).so_far(&name, launch.port, probe);
                if let Some(text) = text.filter(|text| told.as_ref() != Some(text)) {
                    // Who reads too slowly misses it.
                    let _ = lines.try_send(Line::Detail(text.clone()));
                    told = Some(text);
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Returns when the instance's container has ended; `None` when it is gone altogether.
    async fn ended_container(&self, id: &InstanceId, exits: &mut broadcast::Receiver<InstanceId>) -> Option<Container> {
        loop {
            let told = async { while exits.recv().await.is_ok_and(|ended| ended != *id) {} };
            let _ = tokio::time::timeout(LOOK, told).await;
            match self.engine.inspect(id.as_str()).await {
                Ok(Some(container)) if container.state.is_alive() => {}
                Ok(container) => return container,
                Err(error) => {
                    tracing::warn!(%error, instance = %id, "cannot look at an instance");
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    async fn create(&self, launch: &Launch) -> Result<ContainerId, InstancesError> {
        self.engine.ensure_app_bridge(launch.row.bridge).await?;
        let image = self.image(launch).await?;
        match self.engine.create_instance(&self.spec(launch, image)).await {
            // Someone pruned it in this moment.
            Err(EngineError::ImageMissing { .. }) => {
                let image = self.image(launch).await?;
                Ok(self.engine.create_instance(&self.spec(launch, image)).await?)
            }
            made => Ok(made?),
        }
    }

    async fn image(&self, launch: &Launch) -> Result<ImageId, InstancesError> {
        let _one = launch.pull.lock().await;
        let reference = format!("{}/{}@{}", self.config.registry.listen, launch.app.name, launch.release.image);
        let image = match self.engine.image_id(&reference).await? {
            Some(image) => image,
            None => self.engine.pull(&reference, self.registry_token.expose()).await?,
        };
        let tag = self.engine.release_tag(&launch.app.name, launch.release.number);
        if self.engine.image_id(&tag).await?.as_ref() != Some(&image) {
            self.engine.tag(&image, &tag).await?;
        }
        Ok(image)
    }

    fn spec(&self, launch: &Launch, image: ImageId) -> InstanceSpec {
        let (row, limits) = (&launch.row, &self.config.instances);
        let ours = [
            ("PORT", launch.port.to_string()),
            ("PAAS_APP", launch.app.name.to_string()),
            ("PAAS_PROCESS", name_of(row)),
            ("PAAS_RELEASE", format!("v{}", launch.release.number)),
        ];
        let vars = launch.release.config.iter().filter(|(key, _)| ours.iter().all(|(own, _)| key.as_str() != *own));
        let mut env: Vec<_> = vars.map(|(key, value)| format!("{key}={}", value.expose())).collect();
        env.extend(ours.iter().map(|(key, value)| format!("{key}={value}")));
        let spec = launch.release.processes.iter().find(|p| p.process.process_type == row.process_type);
        InstanceSpec {
            id: row.id.clone(),
            app: launch.app.name.clone(),
            process_type: row.process_type.clone(),
            release: launch.release.number,
            image,
            bridge: row.bridge,
            address: self.engine.address(row.bridge, row.slot),
            entrypoint: vec![format!("/cnb/process/{}", row.process_type)],
            cmd: Vec::new(),
            env,
            cpu_millis: limits.cpu_millis,
            memory_mib: limits.memory_mib,
            pids: limits.pids,
            stop_grace: Duration::from_secs(limits.stop_grace_seconds),
            labels: std::collections::BTreeMap::new(),
            own_user: spec.is_some_and(|spec| spec.own_user),
        }
    }

    async fn ended(&self, launch: &Launch, container: &Container) -> Launched {
        let (reason, hint) = self.exit_reason(container);
        self.failed(launch, reason, hint, ran(container)).await
    }

    /// In words, how a container ended.
    pub(super) fn exit_reason(&self, container: &Container) -> (String, Option<String>) {
        let memory = self.config.instances.memory_mib;
        match container.exit_code {
            _ if container.oom_killed => (
                format!("it ran out of memory (limit {memory} MiB)"),
                Some("use less memory, or raise instances.memory_mib in paas.toml".to_owned()),
            ),
            Some(0) => (
                "it exited with status 0".to_owned(),
                Some("a process must keep running: do not let it fork into the background".to_owned()),
            ),
            Some(code @ 126..=127) => (
                format!("it exited with status {code}"),
                Some("its command was not found or cannot be executed: check the Procfile".to_owned()),
            ),
            Some(137) => ("it was killed (SIGKILL)".to_owned(), None),
            Some(code) => (format!("it exited with status {code}"), None),
            None => ("it ended".to_owned(), None),
        }
    }

    async fn failed(&self, launch: &Launch, reason: String, hint: Option<String>, ran: Duration) -> Launched {
        let log = self.last_lines(&launch.row.id).await;
        Launched::Failed { failure: Failure { instance: name_of(&launch.row), reason, hint, log }, ran }
    }

    /// What an instance printed last, safe for a terminal; nothing if its container is gone.
    pub(super) async fn last_lines(&self, id: &InstanceId) -> Vec<String> {
        let options = LogOptions { tail: Some(LAST_LINES), ..LogOptions::default() };
        let lines = self.engine.logs(&ContainerId::from(id), options);
        let lines = lines.filter_map(|line| std::future::ready(line.ok().map(|line| Line::sanitize(&line.text))));
        tokio::time::timeout(LAST_LINES_WAIT, lines.collect()).await.unwrap_or_default()
    }

    async fn diagnose(
        &self,
        container: &ContainerId,
        launch: &Launch,
        probe: &Probe,
        met: &Unhealthy,
    ) -> (String, Option<String>) {
        let listeners = match self.engine.listening_ports(container).await {
            Ok(listeners) => listeners,
            Err(error) => {
                tracing::debug!(%error, "cannot see what it listens on");
                return (met.to_string(), None);
            }
        };
        let port = launch.port;
        let wanted = format!("$PORT ({port})");
        match (Listening::of(&listeners, port), probe) {
            (Listening::Reachable, Probe::Http(path)) => {
                let hint = format!("GET {path} must answer with a status from 200 to 399");
                (met.to_string(), Some(format!("{hint}; or change the path in app.json")))
            }
            (Listening::Reachable, Probe::Tcp | Probe::Uptime(_)) => (met.to_string(), None),
            (Listening::OnLocalhost, _) => {
                (format!("it listens on port {port} of localhost only"), Some("let it listen on 0.0.0.0".to_owned()))
            }
            (Listening::Elsewhere(other), _) => {
                let mappings = self.store.port_mappings(launch.app.id).await.unwrap_or_default();
                let or = match mappings.first() {
                    // The usual port stands for the one that is wanted.
                    Some(PortMapping { scheme, host_port, .. })
                        if !other.loopback && mappings.len() == 1 && other.port != CONTAINER_PORT =>
                    {
                        let (app, scheme, port) = (&launch.app.name, scheme.as_str(), other.port);
                        format!(", or say which it is: ports:set {app} {scheme}:{host_port}:{port}")
                    }
                    _ => String::new(),
                };
                let hint = format!("let it listen on the port that the variable PORT holds, on 0.0.0.0{or}");
                (format!("it listens on port {}, not on {wanted}", other.port), Some(hint))
            }
            (Listening::Nowhere, _) => (
                format!("it does not listen on {wanted}"),
                Some("let it listen on the port that the variable PORT holds, on 0.0.0.0".to_owned()),
            ),
        }
    }
}
