//! One task an app: looks at what is declared and what runs, takes the next steps, and looks again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::{Mutex, Notify, mpsc, oneshot, watch},
    task::{JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    InstancesError, Shared,
    launch::{Failure, Launch, Launched, name_of, ran},
    logs::RELEASE,
    plan::{Action, Known, UpdateStrategy, Wanted, plan},
};
use crate::{
    engine::{Container, ContainerId},
    model::{CONTAINER_PORT, InstanceId, Line, ProcessType, ReleaseNumber},
    pause,
    store::{App, AppId, Deployment, Instance, InstanceState, NewInstance, ProcessSpec, Release, StoreError, now},
};

/// Everything is looked at this often, even when nothing is told.
const PERIOD: Duration = Duration::from_secs(30);
/// The wait after a trouble of the engine or the database, doubling.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// So often is a candidate's instance tried when the trouble is the engine's.
const CANDIDATE_TRIES: u32 = 4;
/// Trouble that lasts longer is told to who waits.
const LASTING: Duration = Duration::from_secs(3);
/// Containers that are looked at at a time.
const LOOKS: usize = 8;

/// How others reach the task of an app.
pub(super) struct Handle {
    notify: Notify,
    verify: AtomicBool,
    asked: AtomicU64,
    /// Who waits for the outcome of a generation; held while one begins or ends.
    pub(super) waiters: Mutex<HashMap<u64, Waiter>>,
    pub(super) rounds: watch::Sender<Round>,
}

/// Someone who waits for a deployment.
pub(super) struct Waiter {
    pub(super) outcome: oneshot::Sender<Outcome>,
    pub(super) lines: mpsc::Sender<Line>,
}

/// What became of a deployment.
pub(super) enum Outcome {
    /// It is the current one, and in the route table of this version.
    Committed(u64),
    /// It was given up.
    Failed(Failure),
    /// A newer one took its place.
    Superseded,
}

/// What the task saw when it last looked.
#[derive(Debug, Clone, Default)]
pub(super) struct Round {
    /// Everything asked for up to here was there to be seen.
    pub(super) seen: u64,
    /// What is declared runs, and nothing else but what is on its way out.
    pub(super) settled: bool,
    /// Instances of the current release that fail again and again.
    pub(super) failing: Vec<Failure>,
    /// Generations that still have instances.
    pub(super) generations: BTreeSet<u64>,
    /// There is no such app any more.
    pub(super) gone: bool,
    /// Why nothing can be done, for some time already.
    pub(super) trouble: Option<Trouble>,
}

#[derive(Debug, Clone)]
pub(super) struct Trouble {
    /// Everything asked for up to here was there to be seen.
    pub(super) seen: u64,
    pub(super) why: String,
}

impl Round {
    /// Why nothing could be done since this was asked for.
    pub(super) fn trouble_since(&self, asked: u64) -> Option<&Trouble> {
        self.trouble.as_ref().filter(|trouble| trouble.seen >= asked)
    }
}

impl Handle {
    pub(super) fn new() -> Self {
        Self {
            notify: Notify::new(),
            verify: AtomicBool::new(true),
            asked: AtomicU64::new(0),
            waiters: Mutex::default(),
            rounds: watch::Sender::new(Round::default()),
        }
    }

    /// Has the task look; the number is in [`Round::seen`] once it did.
    pub(super) fn wake(&self) -> u64 {
        let number = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.notify.notify_one();
        number
    }

    /// Has the task look, also at the containers of healthy instances.
    pub(super) fn verify(&self) {
        self.verify.store(true, Ordering::Release);
        self.wake();
    }
}

struct Death {
    ran: Duration,
    failure: Failure,
}

enum Done {
    Launched(Launched),
    Removed(Result<(), InstancesError>),
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    id: AppId,
    handle: Arc<Handle>,
    releases: HashMap<ReleaseNumber, Arc<Release>>,
    dead: HashMap<InstanceId, Death>,
    /// Retiring instances that no router was ever told of.
    never_routed: HashSet<InstanceId>,
    /// Why instances failed last, by name.
    failures: BTreeMap<String, Failure>,
    troubles: HashMap<InstanceId, (u32, Instant)>,
    under_way: HashMap<InstanceId, (tokio::task::Id, CancellationToken)>,
    tasks: JoinSet<Done>,
    pull: Arc<Mutex<()>>,
    /// Whether the route table may differ from what was published.
    dirty: bool,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, id: AppId, handle: Arc<Handle>) -> Self {
        Self {
            shared,
            id,
            handle,
            releases: HashMap::new(),
            dead: HashMap::new(),
            never_routed: HashSet::new(),
            failures: BTreeMap::new(),
            troubles: HashMap::new(),
            under_way: HashMap::new(),
            tasks: JoinSet::new(),
            pull: Arc::default(),
            dirty: true,
        }
    }

    pub(super) async fn run(mut self) {
        let shutdown = self.shared.shutdown.clone();
        let _ = shutdown.run_until_cancelled(self.run_for_ever()).await;
        // Calls to the engine are left to end: a container made in this moment has its row.
        for (_, cancel) in self.under_way.values() {
            cancel.cancel();
        }
        let ends = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(2), ends).await.is_err() {
            self.tasks.shutdown().await;
        }
    }

    async fn run_for_ever(&mut self) {
        self.shared.routes.opened().await;
        let (mut failures, mut failing_since) = (0, None::<Instant>);
        let mut next_look = Instant::now() + PERIOD;
        loop {
            let seen = self.handle.asked.load(Ordering::Acquire);
            let wake_at = match self.round(seen).await {
                Ok(Some(wake_at)) => {
                    (failures, failing_since) = (0, None);
                    wake_at
                }
                Ok(None) => {
                    self.handle.waiters.lock().await.clear();
                    self.handle.rounds.send_modify(|round| *round = Round { seen, gone: true, ..Round::default() });
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, app = self.id.0, "cannot bring an app to what is declared; trying again");
                    failures += 1;
                    if failing_since.get_or_insert_with(Instant::now).elapsed() >= LASTING {
                        let trouble = Some(Trouble { seen, why: error.to_string() });
                        self.handle.rounds.send_modify(|round| round.trouble = trouble);
                    }
                    Some(Instant::now() + retry(failures))
                }
            };
            tokio::select! {
                () = self.handle.notify.notified() => {}
                Some(done) = self.tasks.join_next_with_id() => self.note(done).await,
                () = tokio::time::sleep_until(wake_at.unwrap_or(next_look).min(next_look)) => {}
            }
            while let Some(done) = self.tasks.try_join_next_with_id() {
                self.note(done).await;
            }
            if Instant::now() >= next_look {
                self.handle.verify.store(true, Ordering::Release);
                next_look = Instant::now() + PERIOD;
            }
        }
    }

    /// Takes all steps that can be taken now. Returns when to look again, or `None` when the app is gone.
    async fn round(&mut self, seen: u64) -> Result<Option<Option<Instant>>, InstancesError> {
        loop {
            let Some(app) = self.shared.store.app(self.id).await? else { return Ok(None) };
            let rows = self.shared.store.instances(self.id).await?;
            self.load_releases(&app).await?;
            self.forget_the_gone(&rows);
            if self.handle.verify.swap(false, Ordering::AcqRel) {
                self.verify(&rows).await;
            }
            self.tell_waiters().await?;
            let actions = plan(&Known {
                app: &app,
                releases: &self.wanted(),
                rows: &rows,
                dead: &self.dead.iter().map(|(id, death)| (id.clone(), death.ran)).collect(),
                now: now(),
            });
            let mut changed = false;
            let mut wake_at: Option<Instant> = None;
            for action in &actions {
                let (did, at) = self.act(&app, &rows, action).await?;
                changed |= did;
                wake_at = wake_at.into_iter().chain(at).min();
            }
            if self.dirty {
                self.shared.routes.publish().await?;
                self.dirty = false;
            }
            if !changed {
                self.show(seen, &app, &rows, &actions);
                return Ok(Some(wake_at));
            }
        }
    }

    async fn load_releases(&mut self, app: &App) -> Result<(), InstancesError> {
        let needed: Vec<_> = app.current.iter().chain(&app.candidate).map(|d| d.release).collect();
        self.releases.retain(|number, _| needed.contains(number));
        for number in needed {
            if !self.releases.contains_key(&number)
                && let Some(release) = self.shared.store.release(self.id, number).await?
            {
                self.releases.insert(number, Arc::new(release));
            }
        }
        Ok(())
    }

    fn wanted(&self) -> HashMap<ReleaseNumber, BTreeMap<ProcessType, Wanted>> {
        let wanted = |p: &ProcessSpec| Wanted { strategy: UpdateStrategy::default(), quantity: p.default_quantity };
        let types =
            |release: &Release| release.processes.iter().map(|p| (p.process.process_type.clone(), wanted(p))).collect();
        self.releases.iter().map(|(number, release)| (*number, types(release))).collect()
    }

    fn forget_the_gone(&mut self, rows: &[Instance]) {
        let there: HashSet<_> = rows.iter().map(|row| &row.id).collect();
        self.dead.retain(|id, _| there.contains(id));
        self.never_routed.retain(|id| there.contains(id));
        self.troubles.retain(|id, _| there.contains(id));
        let names: HashSet<_> = rows.iter().map(name_of).collect();
        self.failures.retain(|name, _| names.contains(name));
    }

    /// Looks whether the containers of healthy instances still run, where they are said to.
    async fn verify(&mut self, rows: &[Instance]) {
        let healthy: Vec<_> = rows
            .iter()
            .filter(|row| row.state == InstanceState::Healthy && !self.dead.contains_key(&row.id))
            .filter(|row| !self.under_way.contains_key(&row.id))
            .cloned()
            .collect();
        let engine = self.shared.engine.clone();
        let looked = stream::iter(healthy)
            .map(move |row| {
                let engine = engine.clone();
                async move {
                    let found = engine.inspect(row.id.as_str()).await;
                    (row, found)
                }
            })
            .buffered(LOOKS)
            .collect::<Vec<_>>()
            .await;
        for (row, found) in looked {
            match found {
                Ok(found) => {
                    if let Some(death) = self.shared.death(&row, found.as_ref()) {
                        self.died(&row, death).await;
                    } else {
                        self.shared.pumps.ensure(&row);
                    }
                }
                // It may be alive: what is not known changes nothing.
                Err(error) => tracing::warn!(%error, instance = %row.id, "cannot look at an instance"),
            }
        }
    }

    async fn died(&mut self, row: &Instance, (ran, failure): (Duration, Failure)) {
        let name = name_of(row);
        self.shared.logs.event(self.id, &name, sentence(&failure.reason)).await;
        self.failures.insert(name, failure.clone());
        self.dead.insert(row.id.clone(), Death { ran, failure });
    }

    async fn act(
        &mut self,
        app: &App,
        rows: &[Instance],
        action: &Action,
    ) -> Result<(bool, Option<Instant>), InstancesError> {
        let row = |id: &InstanceId| rows.iter().find(|row| row.id == *id);
        match action {
            Action::Create { deployment, process_type, ordinal } => {
                let new = NewInstance {
                    id: Shared::new_id(app, process_type, *ordinal)?,
                    app: self.id,
                    generation: deployment.generation,
                    release: deployment.release,
                    process_type: process_type.clone(),
                    ordinal: *ordinal,
                    restarts: 0,
                    not_before: 0,
                    port: self.port(deployment.release, process_type),
                };
                match self.shared.store.add_instance(new).await {
                    // Somebody waits for a candidate: it is not tried for ever.
                    Err(error @ StoreError::Taken(_)) if app.candidate == Some(*deployment) => {
                        let instance = format!("{process_type}.{ordinal}");
                        let failure = Failure { instance, reason: error.to_string(), hint: None, log: Vec::new() };
                        self.abandon(*deployment, failure).await?;
                    }
                    added => added.map(drop)?,
                }
                Ok((true, None))
            }
            Action::Replace { old, restarts, not_before } => {
                let Some(row) = row(old) else { return Ok((true, None)) };
                let new = NewInstance {
                    id: Shared::new_id(app, &row.process_type, row.ordinal)?,
                    app: self.id,
                    generation: row.generation,
                    release: row.release,
                    process_type: row.process_type.clone(),
                    ordinal: row.ordinal,
                    restarts: *restarts,
                    not_before: *not_before,
                    port: row.port,
                };
                self.shared.store.replace_instance(old.clone(), new).await?;
                self.dirty = true;
                let wait = Duration::from_millis(u64::try_from(not_before - now()).unwrap_or(0));
                let text = match wait.as_millis() {
                    0 => "Restarting".to_owned(),
                    _ => format!("Restarting in {} s", wait.as_secs_f32().round()),
                };
                self.shared.logs.event(self.id, &name_of(row), text).await;
                Ok((true, None))
            }
            Action::Launch(id) => match row(id) {
                Some(row) => Ok((false, self.launch(app, row).await?)),
                None => Ok((true, None)),
            },
            Action::Wait(until) => {
                let wait = u64::try_from(until - now()).unwrap_or(0);
                Ok((false, Some(Instant::now() + Duration::from_millis(wait))))
            }
            Action::Retire(id) => {
                let Some(row) = row(id) else { return Ok((true, None)) };
                if let Some((_, cancel)) = self.under_way.get(id) {
                    cancel.cancel();
                    return Ok((false, None));
                }
                let was_current = app.current.is_some_and(|current| row.generation <= current.generation);
                if !was_current || !row.process_type.is_web() || row.container.is_none() {
                    self.never_routed.insert(id.clone());
                }
                let container = row.container.clone();
                self.shared.store.set_instance(id.clone(), container, InstanceState::Retiring).await?;
                self.dirty = true;
                Ok((true, None))
            }
            Action::Remove(id) => match row(id) {
                Some(row) => Ok((false, self.remove(row))),
                None => Ok((true, None)),
            },
            Action::Commit(deployment) => {
                self.commit(*deployment).await?;
                Ok((true, None))
            }
            Action::GiveUp(deployment, id) => {
                self.give_up(*deployment, id).await?;
                Ok((true, None))
            }
        }
    }

    /// The port that the release declares for instances of this kind.
    fn port(&self, release: ReleaseNumber, process_type: &ProcessType) -> u16 {
        let release = self.releases.get(&release);
        let spec = release.and_then(|r| r.processes.iter().find(|p| p.process.process_type == *process_type));
        spec.map_or(CONTAINER_PORT, |spec| spec.port)
    }

    /// When this may be tried (again), if not now.
    fn not_yet(&self, id: &InstanceId) -> Option<Instant> {
        self.troubles.get(id).map(|(_, at)| *at).filter(|at| *at > Instant::now())
    }

    async fn launch(&mut self, app: &App, row: &Instance) -> Result<Option<Instant>, InstancesError> {
        if self.under_way.contains_key(&row.id) {
            return Ok(None);
        }
        if let Some(at) = self.not_yet(&row.id) {
            return Ok(Some(at));
        }
        let Some(release) = self.releases.get(&row.release) else { return Ok(None) };
        let mappings = self.shared.store.port_mappings(self.id).await?;
        let port = row.port_of(mappings.first().filter(|_| row.process_type.is_web()));
        // One speaks for all of a kind: they run the same program.
        let waiters = self.handle.waiters.lock().await;
        let lines = waiters.get(&row.generation).filter(|_| row.ordinal == 1).map(|waiter| waiter.lines.clone());
        drop(waiters);
        let launch = Launch {
            app: app.clone(),
            release: Arc::clone(release),
            row: row.clone(),
            port,
            lines,
            pull: Arc::clone(&self.pull),
        };
        let (shared, cancel) = (Arc::clone(&self.shared), CancellationToken::new());
        let token = cancel.clone();
        let task = self.tasks.spawn(async move { Done::Launched(shared.launcher.launch(&launch, &token).await) });
        self.under_way.insert(row.id.clone(), (task.id(), cancel));
        Ok(None)
    }

    fn remove(&mut self, row: &Instance) -> Option<Instant> {
        if self.under_way.contains_key(&row.id) {
            return None;
        }
        if let Some(at) = self.not_yet(&row.id) {
            return Some(at);
        }
        let routed = row.process_type.is_web() && !self.never_routed.contains(&row.id);
        let failed = self.dead.contains_key(&row.id);
        let (shared, row_) = (Arc::clone(&self.shared), row.clone());
        let task = self.tasks.spawn(async move { Done::Removed(shared.remove(&row_, routed, failed).await) });
        self.under_way.insert(row.id.clone(), (task.id(), CancellationToken::new()));
        None
    }

    async fn commit(&mut self, deployment: Deployment) -> Result<(), InstancesError> {
        pause::at("before-commit").await;
        let mut waiters = self.handle.waiters.lock().await;
        if !self.shared.store.commit_deployment(self.id, deployment).await? {
            return Ok(());
        }
        self.dirty = true;
        // The commit holds even if this fails: the next round publishes, and tells who waits.
        let version = self.shared.routes.publish().await?;
        pause::at("after-commit").await;
        self.dirty = false;
        if let Some(waiter) = waiters.remove(&deployment.generation) {
            let _ = waiter.outcome.send(Outcome::Committed(version));
        }
        drop(waiters);
        self.shared.logs.event(self.id, RELEASE, format!("Release v{} is live", deployment.release)).await;
        Ok(())
    }

    async fn give_up(&mut self, deployment: Deployment, id: &InstanceId) -> Result<(), InstancesError> {
        let Some(mut failure) = self.dead.get(id).map(|death| death.failure.clone()) else { return Ok(()) };
        if failure.log.is_empty() {
            failure.log = self.shared.launcher.last_lines(id).await;
        }
        self.abandon(deployment, failure).await
    }

    /// Gives a candidate up, and says why.
    async fn abandon(&mut self, deployment: Deployment, failure: Failure) -> Result<(), InstancesError> {
        let mut waiters = self.handle.waiters.lock().await;
        if !self.shared.store.abandon_deployment(self.id, deployment).await? {
            return Ok(());
        }
        if let Some(waiter) = waiters.remove(&deployment.generation) {
            let _ = waiter.outcome.send(Outcome::Failed(failure));
        }
        drop(waiters);
        let text = format!("Release v{} is given up", deployment.release);
        self.shared.logs.event(self.id, RELEASE, text).await;
        Ok(())
    }

    /// Whoever waits for what is neither current nor candidate any more waits in vain.
    async fn tell_waiters(&mut self) -> Result<(), InstancesError> {
        let mut waiters = self.handle.waiters.lock().await;
        if waiters.is_empty() {
            return Ok(());
        }
        // Read under the lock: a deployment that begins meanwhile is not taken for one that is over.
        let Some(app) = self.shared.store.app(self.id).await? else { return Ok(()) };
        let candidate = app.candidate.map(|c| c.generation);
        let over: Vec<_> = waiters.keys().copied().filter(|generation| candidate != Some(*generation)).collect();
        for generation in over {
            let outcome = if app.current.is_some_and(|current| current.generation == generation) {
                Outcome::Committed(self.shared.routes.publish().await?)
            } else {
                Outcome::Superseded
            };
            if let Some(waiter) = waiters.remove(&generation) {
                let _ = waiter.outcome.send(outcome);
            }
        }
        Ok(())
    }

    async fn note(&mut self, done: Result<(tokio::task::Id, Done), JoinError>) {
        let task = match &done {
            Ok((task, _)) => *task,
            Err(error) => error.id(),
        };
        let Some(id) = self.under_way.iter().find(|(_, (t, _))| *t == task).map(|(id, _)| id.clone()) else { return };
        self.under_way.remove(&id);
        let noted = match done {
            Ok((_, Done::Launched(launched))) => self.launched(&id, launched).await,
            Ok((_, Done::Removed(removed))) => removed,
            Err(error) => Err(InstancesError::Panicked(error)),
        };
        match noted {
            Ok(()) => {
                self.troubles.remove(&id);
            }
            Err(error) => self.trouble(&id, error).await,
        }
    }

    async fn launched(&mut self, id: &InstanceId, launched: Launched) -> Result<(), InstancesError> {
        let Some(row) = self.shared.store.instance(id.clone()).await? else { return Ok(()) };
        match launched {
            Launched::Healthy { container } => {
                let healthy = InstanceState::Healthy;
                self.shared.store.set_instance(id.clone(), Some(container.0), healthy).await?;
                self.dirty = true;
                self.failures.remove(&name_of(&row));
                let took = u64::try_from(now() - row.created_at.max(row.not_before)).unwrap_or(0);
                let took = format!("{:.1} s", Duration::from_millis(took).as_secs_f32());
                let text = format!("Healthy after {took} (v{})", row.release);
                self.shared.logs.event(self.id, &name_of(&row), text).await;
                if let Some(waiter) = self.handle.waiters.lock().await.get(&row.generation) {
                    // Who reads too slowly misses it.
                    let line = Line::Detail(format!("{} is healthy after {took}", name_of(&row)));
                    let _ = waiter.lines.try_send(line);
                }
                Ok(())
            }
            Launched::Failed { failure, ran } => {
                self.died(&row, (ran, failure)).await;
                Ok(())
            }
            Launched::Cancelled => Ok(()),
            Launched::Unknown(error) => Err(error),
        }
    }

    async fn trouble(&mut self, id: &InstanceId, error: InstancesError) {
        tracing::warn!(%error, instance = %id, "trouble with an instance; trying again");
        let tries = self.troubles.get(id).map_or(0, |(tries, _)| *tries) + 1;
        self.troubles.insert(id.clone(), (tries, Instant::now() + retry(tries)));
        if tries < CANDIDATE_TRIES {
            return;
        }
        // A candidate does not wait for ever, since somebody waits for it.
        let Ok(Some(row)) = self.shared.store.instance(id.clone()).await else { return };
        let Ok(Some(app)) = self.shared.store.app(self.id).await else { return };
        if app.candidate.is_some_and(|c| c.generation == row.generation) && row.state == InstanceState::Starting {
            let reason = Line::sanitize(&error.to_string());
            let failure = Failure { instance: name_of(&row), reason, hint: None, log: Vec::new() };
            self.died(&row, (Duration::ZERO, failure)).await;
        }
    }

    fn show(&self, seen: u64, app: &App, rows: &[Instance], actions: &[Action]) {
        let candidate = app.candidate.map(|c| c.generation);
        let of_candidate = |id: &InstanceId| rows.iter().any(|r| r.id == *id && Some(r.generation) == candidate);
        let settled = actions.iter().all(|action| match action {
            Action::Launch(id) => of_candidate(id),
            Action::Retire(_) | Action::Wait(_) | Action::Replace { .. } => false,
            Action::Create { deployment, .. } => Some(deployment.generation) == candidate,
            Action::Remove(_) | Action::Commit(_) | Action::GiveUp(..) => true,
        });
        let current = app.current.map(|c| c.generation);
        let failing = rows
            .iter()
            .filter(|row| row.state == InstanceState::Starting && Some(row.generation) == current)
            .filter_map(|row| {
                let failure = self.failures.get(&name_of(row)).cloned();
                failure.or_else(|| self.troubled(row)).filter(|_| row.restarts > 1 || self.is_troubled(row))
            })
            .collect();
        let generations = rows.iter().map(|row| row.generation).collect();
        // Who waits compares numbers, so an old round never passes for a new one.
        self.handle.rounds.send_replace(Round { seen, settled, failing, generations, ..Round::default() });
    }

    fn is_troubled(&self, row: &Instance) -> bool {
        self.troubles.get(&row.id).is_some_and(|(tries, _)| *tries >= CANDIDATE_TRIES)
    }

    fn troubled(&self, row: &Instance) -> Option<Failure> {
        let reason = match (self.is_troubled(row), row.restarts > 1) {
            (true, _) => "Docker does not do what it is asked to; the server's own log says more".to_owned(),
            (false, true) => format!("it failed {} times in a row", row.restarts),
            (false, false) => return None,
        };
        Some(Failure { instance: name_of(row), reason, hint: None, log: Vec::new() })
    }
}

fn retry(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LAST_RETRY)
}

fn sentence(reason: &str) -> String {
    let text = reason.strip_prefix("it ").unwrap_or(reason);
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}

impl Shared {
    /// Whether an instance that was healthy is dead, given its container as it is now.
    pub(super) fn death(&self, row: &Instance, found: Option<&Container>) -> Option<(Duration, Failure)> {
        let failure = |reason: String, hint| Failure { instance: name_of(row), reason, hint, log: Vec::new() };
        match found {
            None => Some((Duration::ZERO, failure("its container was removed by someone else".to_owned(), None))),
            Some(c) if !c.state.is_alive() => {
                let (reason, hint) = self.launcher.exit_reason(c);
                Some((ran(c), failure(reason, hint)))
            }
            Some(c) => {
                let at_home = c.address == Some(self.engine.address(row.bridge, row.slot));
                let same = at_home && row.container.as_ref() == Some(&c.id.0);
                (!same).then(|| (ran(c), failure("its container was replaced by someone else".to_owned(), None)))
            }
        }
    }

    /// Takes an instance that is retiring out of the routes, waits for its last request, stops and removes it.
    async fn remove(&self, row: &Instance, routed: bool, failed: bool) -> Result<(), InstancesError> {
        let limits = &self.config.instances;
        let version = if routed { Some(self.routes.publish().await?) } else { None };
        if let Some(version) = version.filter(|_| !failed) {
            let drained = async {
                self.routes.applied(version).await;
                self.routes.drained(&row.id).await;
            };
            if tokio::time::timeout(Duration::from_secs(limits.drain_seconds), drained).await.is_err() {
                tracing::warn!(instance = %row.id, "not drained in time; stopping it all the same");
            }
        }
        let container = ContainerId::from(&row.id);
        self.engine.stop(&container, Duration::from_secs(limits.stop_grace_seconds)).await?;
        self.pumps.finish(row).await;
        self.engine.remove(&container).await?;
        if let Some(version) = version {
            // Until then a router that has an older table would send this instance's requests to who has its address next.
            self.routes.applied(version).await;
        }
        self.store.remove_instance(row.id.clone()).await?;
        Ok(())
    }
}
