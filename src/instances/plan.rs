//! The plan: a pure function from the rows of an app, and the instances that have failed, to the next actions.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use super::failure::Run;
use crate::{
    model::{InstanceId, ProcessType, ReleaseNumber},
    store::{App, Deployment, Instance, InstanceState, Millis},
};

/// How the instances of a new generation replace the old ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UpdateStrategy {
    /// New instances start beside the old ones, which are retired when all new ones are healthy.
    #[default]
    Surge,
    /// The old instances are removed before the new ones start, which must be healthy before the release becomes current: for
    /// process types that write to a volume.
    StopFirst,
    /// The release becomes current first; then each old instance is removed before the new one starts: health checks are
    /// disabled.
    Unchecked,
}

impl UpdateStrategy {
    /// Whether an instance starts only when its predecessor is removed.
    fn stops_first(self) -> bool {
        match self {
            Self::Surge => false,
            Self::StopFirst | Self::Unchecked => true,
        }
    }
}

/// What a release declares for a process type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DeclaredType {
    pub(super) strategy: UpdateStrategy,
    /// Whether its instances may write to a volume or a folder of the machine.
    pub(super) writes: bool,
    /// Quantity of instances if the process type was never scaled.
    pub(super) default_quantity: u32,
}

/// An instance that a deployment is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeclaredInstance {
    pub(super) process_type: ProcessType,
    pub(super) ordinal: u32,
}

/// What a plan is made from.
pub(super) struct PlanInput<'a> {
    pub(super) app: &'a App,
    /// Process types of the current release and of the candidate's.
    pub(super) releases: &'a HashMap<ReleaseNumber, BTreeMap<ProcessType, DeclaredType>>,
    pub(super) rows: &'a [Instance],
    /// Instances that have failed, with the runs of their containers.
    pub(super) failed: &'a HashMap<InstanceId, Run>,
    pub(super) now: Millis,
}

/// One action towards the declared state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Add the row of an instance that is missing.
    Create(Deployment, DeclaredInstance),
    /// Replace an instance that has failed.
    Replace { old: InstanceId, restarts: u32, not_before: Millis },
    /// Create and start the container, and check its health.
    Launch(InstanceId),
    /// Launch an instance at this time: the one of its name before it failed.
    BackOff(InstanceId, Millis),
    /// Plan again at this time.
    Wait(Millis),
    /// Mark an instance that is not declared as retiring.
    Retire(InstanceId),
    /// Drain, stop and remove a retiring instance.
    Remove(InstanceId),
    /// Make the candidate current: all its instances are healthy.
    Commit(Deployment),
    /// Abandon the candidate, because this instance of it has failed.
    Abandon(Deployment, InstanceId),
}

/// An instance that ran for this long was not in a crash loop.
const STABLE_AFTER: Duration = Duration::from_mins(1);
const MAX_BACK_OFF: Millis = 5 * 60 * 1000;
/// Interval at which an instance looks whether its predecessor is removed.
const PREDECESSOR_INTERVAL: Millis = 1000;

/// Delay before the start after this many failures in a row: none at first, then 1 s, doubling up to 5 min.
fn back_off(restarts: u32) -> Millis {
    match restarts {
        0 | 1 => 0,
        n => 1000_i64.checked_shl(n - 2).filter(|ms| *ms > 0).unwrap_or(MAX_BACK_OFF).min(MAX_BACK_OFF),
    }
}

fn declared_instances(input: &PlanInput<'_>, deployment: Deployment) -> Vec<DeclaredInstance> {
    let Some(types) = input.releases.get(&deployment.release) else { return Vec::new() };
    let instances = |(process_type, declared): (&ProcessType, &DeclaredType)| {
        let quantity = *input.app.formation.get(process_type).unwrap_or(&declared.default_quantity);
        let process_type = process_type.clone();
        (1..=quantity).map(move |ordinal| DeclaredInstance { process_type: process_type.clone(), ordinal })
    };
    types.iter().flat_map(instances).collect()
}

fn declared_type(input: &PlanInput<'_>, release: ReleaseNumber, process_type: &ProcessType) -> DeclaredType {
    input.releases.get(&release).and_then(|types| types.get(process_type)).copied().unwrap_or_default()
}

fn strategy(input: &PlanInput<'_>, deployment: Deployment, process_type: &ProcessType) -> UpdateStrategy {
    declared_type(input, deployment.release, process_type).strategy
}

/// The process types whose old instances give way to those of the candidate now: its other instances are healthy, and
/// would be in vain if these failed later. Of a new release, these are all that write, as it may be to the same volume.
fn handed_over(input: &PlanInput<'_>) -> HashSet<ProcessType> {
    let Some(candidate) = input.app.candidate.filter(|_| !input.app.stopped) else { return HashSet::new() };
    let (stop_first, others): (Vec<_>, Vec<_>) = candidate_instances(input, candidate)
        .into_iter()
        .partition(|instance| strategy(input, candidate, &instance.process_type) == UpdateStrategy::StopFirst);
    let is_healthy = |instance: &DeclaredInstance| {
        strategy(input, candidate, &instance.process_type) == UpdateStrategy::Unchecked
            || row_of(input, candidate, instance)
                .is_some_and(|row| row.state == InstanceState::Healthy && !input.failed.contains_key(&row.id))
    };
    if stop_first.is_empty() || !others.iter().all(is_healthy) {
        return HashSet::new();
    }
    let restarted = stop_first.into_iter().map(|instance| instance.process_type);
    if input.app.candidate_process_type.is_some() {
        return restarted.collect();
    }
    let current = input.app.current.and_then(|current| input.releases.get(&current.release));
    let writers = current.into_iter().flatten().filter(|(_, declared)| declared.writes);
    restarted.chain(writers.map(|(process_type, _)| process_type.clone())).collect()
}

/// The instances that a candidate is to have.
fn candidate_instances(input: &PlanInput<'_>, candidate: Deployment) -> Vec<DeclaredInstance> {
    // The release of a stopped app becomes current without instances; they start when the app is started.
    let mut instances = if input.app.stopped { Vec::new() } else { declared_instances(input, candidate) };
    if let Some(restarted) = &input.app.candidate_process_type {
        instances.retain(|instance| instance.process_type == *restarted);
    }
    instances
}

/// Whether an instance of a process type that stops first still has a predecessor: one of the same name or, if it writes, one of
/// its process type of another generation, or of any that writes of another release.
fn has_predecessor(input: &PlanInput<'_>, deployment: Deployment, instance: &DeclaredInstance) -> bool {
    let declared = declared_type(input, deployment.release, &instance.process_type);
    let is_predecessor = |row: &Instance| {
        let other_generation = row.generation != deployment.generation;
        if row.process_type == instance.process_type {
            let same_name = row.ordinal == instance.ordinal;
            return other_generation && (declared.writes || same_name)
                || same_name && row.state == InstanceState::Retiring;
        }
        let other_release = other_generation && row.release != deployment.release;
        other_release && declared.writes && declared_type(input, row.release, &row.process_type).writes
    };
    declared.strategy.stops_first() && input.rows.iter().any(is_predecessor)
}

/// The next actions. Repeatedly planning and acting brings the app to its declared state.
pub(super) fn plan(input: &PlanInput<'_>) -> Vec<Action> {
    let app = input.app;
    let mut actions = Vec::new();
    let mut wanted = HashSet::new();
    if !app.destroying {
        let handed_over = handed_over(input);
        if let Some(current) = app.current.filter(|_| !app.stopped) {
            plan_current(input, current, &handed_over, &mut wanted, &mut actions);
        }
        // After the current deployment: the commit of a restart of one process type moves the rows that were added for it.
        if let Some(candidate) = app.candidate {
            plan_candidate(input, candidate, &handed_over, &mut wanted, &mut actions);
        }
    }
    for row in input.rows {
        match row.state {
            InstanceState::Retiring => actions.push(Action::Remove(row.id.clone())),
            InstanceState::Starting | InstanceState::Healthy if !wanted.contains(&row.id) => {
                actions.push(Action::Retire(row.id.clone()));
            }
            InstanceState::Starting | InstanceState::Healthy => {}
        }
    }
    actions
}

/// The row of a declared instance; of two, the healthy one.
fn row_of<'a>(input: &PlanInput<'a>, deployment: Deployment, instance: &DeclaredInstance) -> Option<&'a Instance> {
    input
        .rows
        .iter()
        .filter(|row| row.generation == deployment.generation && row.state != InstanceState::Retiring)
        .filter(|row| row.process_type == instance.process_type && row.ordinal == instance.ordinal)
        .max_by_key(|row| row.state == InstanceState::Healthy)
}

fn launch_when_due(row: &Instance, now: Millis) -> Action {
    // A delay that exceeds the maximum means that the clock was set back.
    let due = row.not_before <= now || row.not_before - now > MAX_BACK_OFF;
    if due { Action::Launch(row.id.clone()) } else { Action::BackOff(row.id.clone(), row.not_before) }
}

/// The replacement of a failed instance.
fn replace(row: &Instance, run: Run, now: Millis) -> Action {
    let before = if run.length >= STABLE_AFTER { 0 } else { row.restarts };
    let restarts = before.saturating_add(u32::from(!run.ended_in_outage));
    Action::Replace { old: row.id.clone(), restarts, not_before: now + back_off(restarts) }
}

fn plan_current(
    input: &PlanInput<'_>,
    current: Deployment,
    handed_over: &HashSet<ProcessType>,
    wanted: &mut HashSet<InstanceId>,
    actions: &mut Vec<Action>,
) {
    // The end of its teardown is the next round at the latest; until then the app is not as it is declared.
    let wait = || Action::Wait(input.now + PREDECESSOR_INTERVAL);
    for instance in declared_instances(input, current) {
        if handed_over.contains(&instance.process_type) {
            continue;
        }
        let wait_for_predecessor = has_predecessor(input, current, &instance);
        let Some(row) = row_of(input, current, &instance) else {
            actions.push(if wait_for_predecessor { wait() } else { Action::Create(current, instance) });
            continue;
        };
        wanted.insert(row.id.clone());
        if let Some(run) = input.failed.get(&row.id) {
            actions.push(replace(row, *run, input.now));
        } else if row.state == InstanceState::Starting {
            actions.push(if wait_for_predecessor { wait() } else { launch_when_due(row, input.now) });
        }
    }
}

fn plan_candidate(
    input: &PlanInput<'_>,
    candidate: Deployment,
    handed_over: &HashSet<ProcessType>,
    wanted: &mut HashSet<InstanceId>,
    actions: &mut Vec<Action>,
) {
    let mut next = Vec::new();
    let mut waits = false;
    for instance in candidate_instances(input, candidate) {
        match strategy(input, candidate, &instance.process_type) {
            UpdateStrategy::Unchecked => continue,
            UpdateStrategy::StopFirst if !handed_over.contains(&instance.process_type) => {
                waits = true;
                continue;
            }
            UpdateStrategy::StopFirst | UpdateStrategy::Surge => {}
        }
        let Some(row) = row_of(input, candidate, &instance) else {
            let wait = Action::Wait(input.now + PREDECESSOR_INTERVAL);
            let wait_for_predecessor = has_predecessor(input, candidate, &instance);
            next.push(if wait_for_predecessor { wait } else { Action::Create(candidate, instance) });
            continue;
        };
        wanted.insert(row.id.clone());
        match input.failed.get(&row.id) {
            Some(run) if run.ended_in_outage => {
                next.push(replace(row, *run, input.now));
                continue;
            }
            Some(_) => {
                actions.push(Action::Abandon(candidate, row.id.clone()));
                return;
            }
            None => {}
        }
        if row.state == InstanceState::Starting {
            next.push(launch_when_due(row, input.now));
        }
    }
    if next.is_empty() && !waits {
        next.push(Action::Commit(candidate));
    }
    actions.append(&mut next);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::CheckSettings, store::AppId};

    const NOW: Millis = 1_000_000;

    fn deployment(n: u64) -> Deployment {
        Deployment { release: n, generation: n }
    }

    fn app(current: Option<u64>, candidate: Option<u64>, formation: &[(&str, u32)]) -> App {
        App {
            stack: None,
            source_folder: None,
            dockerfile: None,
            build_target: None,
            id: AppId(1),
            name: "a".parse().unwrap(),
            candidate_process_type: None,
            deploy_branch: None,
            created_at: 0,
            stopped: false,
            destroying: false,
            current: current.map(deployment),
            candidate: candidate.map(deployment),
            formation: formation.iter().map(|(t, n)| (t.parse().unwrap(), *n)).collect(),
            checks: CheckSettings::default(),
            stop_timeouts: BTreeMap::new(),
            mounts: Vec::new(),
        }
    }

    fn row(generation: u64, name: &str, state: InstanceState) -> Instance {
        let (process_type, ordinal) = name.split_once('.').unwrap();
        Instance {
            id: format!("i{generation}-{process_type}-{ordinal}").parse().unwrap(),
            app: AppId(1),
            generation,
            release: generation,
            process_type: process_type.parse().unwrap(),
            ordinal: ordinal.parse().unwrap(),
            node: "local".into(),
            endpoint: None,
            container: None,
            state,
            restarts: 0,
            not_before: 0,
            port: 8080,
            ready: true,
            created_at: 0,
            oom_kills: 0,
            last_failure: None,
        }
    }

    fn id(text: &str) -> InstanceId {
        text.parse().unwrap()
    }

    fn plan_for(app: &App, rows: &[Instance], failed: &[(&str, u64)]) -> Vec<Action> {
        let types: BTreeMap<_, _> =
            ["web", "worker"].map(|t| (t.parse().unwrap(), UpdateStrategy::Surge)).into_iter().collect();
        plan_with(app, rows, failed, &types)
    }

    fn plan_with(
        app: &App,
        rows: &[Instance],
        failed: &[(&str, u64)],
        types: &BTreeMap<ProcessType, UpdateStrategy>,
    ) -> Vec<Action> {
        let declared = |strategy: &UpdateStrategy| DeclaredType {
            strategy: *strategy,
            writes: *strategy == UpdateStrategy::StopFirst,
            default_quantity: 0,
        };
        let types: BTreeMap<_, _> = types.iter().map(|(t, strategy)| (t.clone(), declared(strategy))).collect();
        let releases = (1..9).map(|n| (n, types.clone())).collect();
        let failed = failed.iter().map(|(i, s)| (id(i), Run::of_length(Duration::from_secs(*s)))).collect();
        plan(&PlanInput { app, releases: &releases, rows, failed: &failed, now: NOW })
    }

    fn create(n: u64, process_type: &str, ordinal: u32) -> Action {
        Action::Create(deployment(n), DeclaredInstance { process_type: process_type.parse().unwrap(), ordinal })
    }

    use InstanceState::{Healthy, Retiring, Starting};

    #[test]
    fn missing_instances_are_created_and_surplus_ones_retired() {
        let app = app(Some(1), None, &[("web", 2), ("worker", 1), ("unknown", 5)]);
        let rows = [row(1, "web.1", Healthy), row(1, "web.3", Healthy), row(1, "worker.1", Starting)];
        assert_eq!(
            plan_for(&app, &rows, &[]),
            [create(1, "web", 2), Action::Launch(id("i1-worker-1")), Action::Retire(id("i1-web-3"))]
        );
    }

    #[test]
    fn a_declared_and_healthy_instance_is_left_alone() {
        let app = app(Some(1), None, &[("web", 1)]);
        assert_eq!(plan_for(&app, &[row(1, "web.1", Healthy)], &[]), []);
    }

    #[test]
    fn a_candidate_starts_beside_the_current_deployment_and_is_committed_when_healthy() {
        let app = app(Some(1), Some(2), &[("web", 2)]);
        let mut rows = vec![row(1, "web.1", Healthy), row(1, "web.2", Healthy)];
        assert_eq!(plan_for(&app, &rows, &[]), [create(2, "web", 1), create(2, "web", 2)]);
        rows.extend([row(2, "web.1", Healthy), row(2, "web.2", Starting)]);
        assert_eq!(plan_for(&app, &rows, &[]), [Action::Launch(id("i2-web-2"))]);
        rows[3].state = Healthy;
        assert_eq!(plan_for(&app, &rows, &[]), [Action::Commit(deployment(2))]);
    }

    #[test]
    fn a_restart_of_one_process_type_replaces_only_its_instances() {
        let mut app = app(Some(1), Some(2), &[("web", 1), ("worker", 2)]);
        app.candidate_process_type = Some(ProcessType::web());
        let mut rows = vec![row(1, "web.1", Healthy), row(1, "worker.1", Healthy), row(1, "worker.2", Starting)];
        let launch_worker = Action::Launch(id("i1-worker-2"));
        assert_eq!(plan_for(&app, &rows, &[]), [launch_worker.clone(), create(2, "web", 1)]);
        rows.push(row(2, "web.1", Healthy));
        let commit = Action::Commit(deployment(2));
        assert_eq!(plan_for(&app, &rows, &[]), [launch_worker.clone(), commit]);

        let abandon = Action::Abandon(deployment(2), id("i2-web-1"));
        assert_eq!(plan_for(&app, &rows, &[("i2-web-1", 0)]), [launch_worker.clone(), abandon]);

        // The commit moves the other instances to the new generation.
        app.current = app.candidate.take();
        app.candidate_process_type = None;
        for worker in rows.iter_mut().filter(|row| !row.process_type.is_web()) {
            worker.generation = 2;
        }
        assert_eq!(plan_for(&app, &rows, &[]), [launch_worker, Action::Retire(id("i1-web-1"))]);
    }

    #[test]
    fn a_candidate_without_instances_is_committed_at_once() {
        assert_eq!(plan_for(&app(None, Some(1), &[("web", 0)]), &[], &[]), [Action::Commit(deployment(1))]);
    }

    #[test]
    fn a_failed_instance_of_the_candidate_abandons_it_and_changes_nothing_else() {
        let app = app(Some(1), Some(2), &[("web", 2)]);
        let rows =
            [row(1, "web.1", Healthy), row(1, "web.2", Healthy), row(2, "web.1", Healthy), row(2, "web.2", Starting)];
        let abandon = Action::Abandon(deployment(2), id("i2-web-2"));
        assert_eq!(plan_for(&app, &rows, &[("i2-web-2", 0)])[0], abandon);
        let abandon = Action::Abandon(deployment(2), id("i2-web-1"));
        assert!(plan_for(&app, &rows, &[("i2-web-1", 100)]).contains(&abandon), "also one that was healthy before");
    }

    #[test]
    fn the_end_of_an_instance_in_an_outage_of_the_engine_is_no_failure_of_its_own() {
        let types =
            BTreeMap::from([("web".parse().unwrap(), DeclaredType { default_quantity: 1, ..Default::default() })]);
        let releases = HashMap::from([(1, types.clone()), (2, types)]);
        let replacement = |app: &App, row: Instance, seconds| {
            let run = Run { length: Duration::from_secs(seconds), ended_in_outage: true };
            let failed = HashMap::from([(row.id.clone(), run)]);
            plan(&PlanInput { app, releases: &releases, rows: &[row], failed: &failed, now: NOW })
        };
        let replace = |old, restarts, wait| [Action::Replace { old: id(old), restarts, not_before: NOW + wait }];
        let crashing = |restarts| Instance { restarts, ..row(1, "web.1", Healthy) };
        let running = app(Some(1), None, &[]);
        assert_eq!(replacement(&running, crashing(0), 5), replace("i1-web-1", 0, 0));
        assert_eq!(replacement(&running, crashing(6), 5), replace("i1-web-1", 6, 16_000), "it crashed before");
        assert_eq!(replacement(&running, crashing(6), 61), replace("i1-web-1", 0, 0), "it was stable");
        let rolling_out = app(None, Some(2), &[]);
        assert_eq!(replacement(&rolling_out, row(2, "web.1", Starting), 5), replace("i2-web-1", 0, 0));
    }

    #[test]
    fn instances_of_other_generations_are_retired_and_removed() {
        let app = app(Some(2), None, &[("web", 1)]);
        let rows = [row(2, "web.1", Healthy), row(1, "web.1", Healthy), row(1, "web.2", Retiring)];
        assert_eq!(plan_for(&app, &rows, &[]), [Action::Retire(id("i1-web-1")), Action::Remove(id("i1-web-2"))]);
    }

    #[test]
    fn stopped_and_destroyed_apps_have_no_instances() {
        let mut app = app(Some(1), None, &[("web", 1)]);
        app.stopped = true;
        assert_eq!(plan_for(&app, &[row(1, "web.1", Healthy)], &[]), [Action::Retire(id("i1-web-1"))]);
        app.candidate = Some(deployment(2));
        assert_eq!(plan_for(&app, &[], &[]), [Action::Commit(deployment(2))], "no instance is started");
        app.stopped = false;
        app.destroying = true;
        app.candidate = Some(deployment(2));
        assert_eq!(plan_for(&app, &[row(1, "web.1", Healthy)], &[]), [Action::Retire(id("i1-web-1"))]);
    }

    #[test]
    fn a_crashed_instance_is_replaced_at_once_and_then_with_growing_back_off() {
        let app = app(Some(1), None, &[("web", 1)]);
        let mut crashed = row(1, "web.1", Healthy);
        let replaced = |restarts, wait| [Action::Replace { old: id("i1-web-1"), restarts, not_before: NOW + wait }];
        assert_eq!(plan_for(&app, &[crashed.clone()], &[("i1-web-1", 5)]), replaced(1, 0));
        crashed.restarts = 1;
        assert_eq!(plan_for(&app, &[crashed.clone()], &[("i1-web-1", 5)]), replaced(2, 1000));
        crashed.restarts = 5;
        assert_eq!(plan_for(&app, &[crashed.clone()], &[("i1-web-1", 5)]), replaced(6, 16_000));
        assert_eq!(plan_for(&app, &[crashed.clone()], &[("i1-web-1", 61)]), replaced(1, 0), "it was stable");
        crashed.restarts = 4_000_000;
        assert_eq!(plan_for(&app, &[crashed], &[("i1-web-1", 5)]), replaced(4_000_001, 300_000));
    }

    #[test]
    fn an_instance_in_back_off_is_not_launched() {
        let app = app(Some(1), None, &[("web", 1)]);
        let mut delayed = row(1, "web.1", Starting);
        delayed.not_before = NOW + 1;
        assert_eq!(plan_for(&app, &[delayed], &[]), [Action::BackOff(id("i1-web-1"), NOW + 1)]);
    }

    #[test]
    fn of_two_instances_with_one_name_the_healthy_one_is_kept() {
        let app = app(Some(1), None, &[("web", 1)]);
        let mut twin = row(1, "web.1", Starting);
        twin.id = id("twin");
        assert_eq!(plan_for(&app, &[twin, row(1, "web.1", Healthy)], &[]), [Action::Retire(id("twin"))]);
    }

    #[test]
    fn without_checks_an_instance_starts_when_its_predecessor_is_removed() {
        let types = BTreeMap::from([(ProcessType::web(), UpdateStrategy::Unchecked)]);
        let rollout = app(Some(1), Some(2), &[("web", 1)]);
        let old = row(1, "web.1", Healthy);
        assert_eq!(plan_with(&rollout, std::slice::from_ref(&old), &[], &types), [Action::Commit(deployment(2))]);
        let committed = app(Some(2), None, &[("web", 1)]);
        let wait = || Action::Wait(NOW + PREDECESSOR_INTERVAL);
        assert_eq!(plan_with(&committed, &[old], &[], &types), [wait(), Action::Retire(id("i1-web-1"))]);
        let retiring = [row(1, "web.1", Retiring)];
        assert_eq!(plan_with(&committed, &retiring, &[], &types), [wait(), Action::Remove(id("i1-web-1"))]);
        assert_eq!(plan_with(&committed, &[], &[], &types), [create(2, "web", 1)]);
    }

    #[test]
    fn instances_that_write_to_a_volume_start_when_all_of_the_old_release_are_removed() {
        let types = BTreeMap::from([
            (ProcessType::web(), UpdateStrategy::Surge),
            ("worker".parse().unwrap(), UpdateStrategy::StopFirst),
        ]);
        let app = app(Some(1), Some(2), &[("web", 1), ("worker", 2)]);
        let wait = || Action::Wait(NOW + PREDECESSOR_INTERVAL);
        let old = |state| [row(1, "web.1", Healthy), row(1, "worker.1", state), row(1, "worker.2", Healthy)];
        let planned = |rows: &[Instance], failed: &[(&str, u64)]| plan_with(&app, rows, failed, &types);
        // Those that start beside the old ones come first: until they are healthy, nothing is stopped.
        assert_eq!(planned(&old(Healthy), &[]), [create(2, "web", 1)]);
        let with_web = |state, more: &[Instance]| [&old(Healthy)[..1], &[row(2, "web.1", state)], more].concat();
        let workers = &old(Healthy)[1..];
        assert_eq!(planned(&with_web(Starting, workers), &[]), [Action::Launch(id("i2-web-1"))]);
        let retire = |ordinal| Action::Retire(id(&format!("i1-worker-{ordinal}")));
        assert_eq!(planned(&with_web(Healthy, workers), &[]), [wait(), wait(), retire(1), retire(2)]);
        let retiring = [row(1, "worker.2", Retiring)];
        let removes = Action::Remove(id("i1-worker-2"));
        assert_eq!(
            planned(&with_web(Healthy, &retiring), &[]),
            [wait(), wait(), removes],
            "worker.1 waits for it, too"
        );
        assert_eq!(planned(&with_web(Healthy, &[]), &[]), [create(2, "worker", 1), create(2, "worker", 2)]);
        let new = |state| [row(2, "worker.1", Healthy), row(2, "worker.2", state)];
        assert_eq!(planned(&with_web(Healthy, &new(Starting)), &[]), [Action::Launch(id("i2-worker-2"))]);
        assert_eq!(planned(&with_web(Healthy, &new(Healthy)), &[]), [Action::Commit(deployment(2))]);

        // One that fails abandons the release; the old instances come back when the new ones are removed.
        let failed = planned(&with_web(Healthy, &new(Starting)), &[("i2-worker-2", 0)]);
        assert_eq!(failed[0], Action::Abandon(deployment(2), id("i2-worker-2")));
        let mut abandoned = app.clone();
        abandoned.candidate = None;
        let rows = [row(1, "web.1", Healthy), row(2, "worker.1", Retiring)];
        let after = plan_with(&abandoned, &rows, &[], &types);
        assert_eq!(after, [wait(), wait(), Action::Remove(id("i2-worker-1"))]);
        let back = plan_with(&abandoned, &rows[..1], &[], &types);
        assert_eq!(back, [create(1, "worker", 1), create(1, "worker", 2)]);
    }

    #[test]
    fn writers_of_two_releases_never_run_at_once_whatever_their_process_type() {
        let writer = |strategy| DeclaredType { strategy, writes: true, default_quantity: 1 };
        let stop_first = writer(UpdateStrategy::StopFirst);
        let types = |types: &[(&str, DeclaredType)]| -> BTreeMap<ProcessType, DeclaredType> {
            types.iter().map(|(name, declared)| (name.parse().unwrap(), *declared)).collect()
        };
        let mut app = app(Some(1), Some(2), &[]);
        let wait = || Action::Wait(NOW + PREDECESSOR_INTERVAL);
        let planned = |app: &App, new: &[(&str, DeclaredType)], rows: &[Instance]| {
            let old = types(&[("web", stop_first), ("worker", stop_first)]);
            let releases = HashMap::from([(1, old), (2, types(new))]);
            plan(&PlanInput { app, releases: &releases, rows, failed: &HashMap::new(), now: NOW })
        };
        let both = [("web", stop_first), ("worker", stop_first)];
        let old = [row(1, "web.1", Healthy), row(1, "worker.1", Healthy)];
        let retire = |name: &str| Action::Retire(id(&format!("i1-{name}-1")));
        assert_eq!(planned(&app, &both, &old), [wait(), wait(), retire("web"), retire("worker")]);
        let worker = [row(1, "worker.1", Retiring)];
        let remove = Action::Remove(id("i1-worker-1"));
        assert_eq!(planned(&app, &both, &worker), [wait(), wait(), remove.clone()], "web waits for worker, too");
        assert_eq!(planned(&app, &both, &[]), [create(2, "web", 1), create(2, "worker", 1)]);

        // Also one that the new release does not have, and one whose checks are disabled.
        assert_eq!(planned(&app, &both[..1], &old), [wait(), retire("web"), retire("worker")]);
        assert_eq!(planned(&app, &both[..1], &worker), [wait(), remove.clone()]);
        let unchecked = [("web", stop_first), ("worker", writer(UpdateStrategy::Unchecked))];
        assert_eq!(planned(&app, &unchecked, &old), [wait(), retire("web"), retire("worker")]);
        app.current = app.candidate.take();
        let rows = [row(2, "web.1", Healthy), row(1, "web.1", Retiring)];
        let removes = Action::Remove(id("i1-web-1"));
        assert_eq!(planned(&app, &unchecked, &rows), [wait(), removes]);
        assert_eq!(planned(&app, &unchecked, &rows[..1]), [create(2, "worker", 1)]);

        // The others go on in a restart of one.
        app.candidate = Some(Deployment { release: 2, generation: 3 });
        app.candidate_process_type = Some(ProcessType::web());
        let rows = [row(2, "web.1", Healthy), row(2, "worker.1", Healthy)];
        assert_eq!(planned(&app, &both, &rows), [wait(), Action::Retire(id("i2-web-1"))]);
        let create = |ordinal| {
            let web = DeclaredInstance { process_type: ProcessType::web(), ordinal };
            Action::Create(app.candidate.unwrap(), web)
        };
        assert_eq!(planned(&app, &both, &rows[1..]), [create(1)]);
    }

    #[test]
    fn the_replacement_of_a_failed_writer_waits_until_it_is_removed() {
        let types = BTreeMap::from([(ProcessType::web(), UpdateStrategy::StopFirst)]);
        let app = app(Some(1), None, &[("web", 1)]);
        let mut new = row(1, "web.1", Starting);
        new.id = id("new");
        let rows = [row(1, "web.1", Retiring), new.clone()];
        let wait = Action::Wait(NOW + PREDECESSOR_INTERVAL);
        assert_eq!(plan_with(&app, &rows, &[], &types), [wait, Action::Remove(id("i1-web-1"))]);
        assert_eq!(plan_with(&app, &[new], &[], &types), [Action::Launch(id("new"))]);
    }

    #[test]
    fn the_back_off_doubles_up_to_five_minutes() {
        let waits: Vec<_> = (0..14).map(back_off).collect();
        assert_eq!(waits[..6], [0, 0, 1000, 2000, 4000, 8000]);
        assert_eq!(waits[10..], [256_000, 300_000, 300_000, 300_000]);
        assert_eq!(back_off(u32::MAX), 300_000);
    }
}
