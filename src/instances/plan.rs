//! What to do next for one app: a pure function of what is declared and what is known.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use crate::{
    model::{InstanceId, ProcessType, ReleaseNumber},
    store::{App, Deployment, Instance, InstanceState, Millis},
};

/// How a new generation of a process type takes over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UpdateStrategy {
    /// New instances come up beside the old ones, which leave when all are healthy.
    #[default]
    Surge,
    /// An old instance is gone before the new one starts: for singletons and those with a volume.
    StopFirst,
}

/// What a release says of one of its process types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) strategy: UpdateStrategy,
    /// How many instances, where nobody has scaled it.
    pub(super) quantity: u32,
}

/// What the reconciler knows of one app.
pub(super) struct Known<'a> {
    pub(super) app: &'a App,
    /// The process types of the current and of the candidate release.
    pub(super) releases: &'a HashMap<ReleaseNumber, BTreeMap<ProcessType, Wanted>>,
    pub(super) rows: &'a [Instance],
    /// Rows whose container has ended or failed its check, with the time that it ran healthily.
    pub(super) dead: &'a HashMap<InstanceId, Duration>,
    pub(super) now: Millis,
}

/// One step towards what is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// An instance is missing.
    Create { deployment: Deployment, process_type: ProcessType, ordinal: u32 },
    /// An instance of the current deployment has failed: another takes its place.
    Replace { old: InstanceId, restarts: u32, not_before: Millis },
    /// Make its container, start it, check it.
    Launch(InstanceId),
    /// Nothing before this moment.
    Wait(Millis),
    /// It is not wanted any more.
    Retire(InstanceId),
    /// Drain, stop and remove it.
    Remove(InstanceId),
    /// The candidate is complete and healthy.
    Commit(Deployment),
    /// This instance of the candidate has failed, so the candidate has.
    GiveUp(Deployment, InstanceId),
}

/// An instance that ran for this long is not in a crash loop.
const STABLE: Duration = Duration::from_mins(1);
const LONGEST_BACK_OFF: Millis = 5 * 60 * 1000;

/// The wait before the start after this many failures in a row: none, then 1 s, doubling to 5 min.
pub(super) fn back_off(restarts: u32) -> Millis {
    match restarts {
        0 | 1 => 0,
        n => 1000_i64.checked_shl(n - 2).filter(|ms| *ms > 0).unwrap_or(LONGEST_BACK_OFF).min(LONGEST_BACK_OFF),
    }
}

/// The slots that a deployment is declared to have.
pub(super) fn slots(known: &Known<'_>, deployment: Deployment) -> Vec<(ProcessType, u32)> {
    let Some(types) = known.releases.get(&deployment.release) else { return Vec::new() };
    let quantity = |(t, wanted): (&ProcessType, &Wanted)| *known.app.formation.get(t).unwrap_or(&wanted.quantity);
    types.iter().flat_map(|of| (1..=quantity(of)).map(move |ordinal| (of.0.clone(), ordinal))).collect()
}

fn strategy(known: &Known<'_>, deployment: Deployment, process_type: &ProcessType) -> UpdateStrategy {
    let types = known.releases.get(&deployment.release);
    types.and_then(|types| types.get(process_type)).map_or_else(UpdateStrategy::default, |wanted| wanted.strategy)
}

/// The next steps; carrying them out and asking again leads to what is declared.
pub(super) fn plan(known: &Known<'_>) -> Vec<Action> {
    let app = known.app;
    let mut actions = Vec::new();
    let mut wanted = HashSet::new();
    if !app.destroying {
        if let Some(current) = app.current.filter(|_| !app.stopped) {
            plan_current(known, current, &mut wanted, &mut actions);
        }
        if let Some(candidate) = app.candidate {
            plan_candidate(known, candidate, &mut wanted, &mut actions);
        }
    }
    for row in known.rows {
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

fn holder<'a>(known: &Known<'a>, deployment: Deployment, slot: &(ProcessType, u32)) -> Option<&'a Instance> {
    known
        .rows
        .iter()
        .filter(|row| row.generation == deployment.generation && row.state != InstanceState::Retiring)
        .filter(|row| row.process_type == slot.0 && row.ordinal == slot.1)
        .max_by_key(|row| row.state == InstanceState::Healthy)
}

fn bring_up(row: &Instance, now: Millis) -> Action {
    // A wait longer than any that is ever given comes of a clock that was set back.
    let due = row.not_before <= now || row.not_before - now > LONGEST_BACK_OFF;
    if due { Action::Launch(row.id.clone()) } else { Action::Wait(row.not_before) }
}

fn plan_current(known: &Known<'_>, current: Deployment, wanted: &mut HashSet<InstanceId>, actions: &mut Vec<Action>) {
    for slot in slots(known, current) {
        let Some(row) = holder(known, current, &slot) else {
            let predecessor = strategy(known, current, &slot.0) == UpdateStrategy::StopFirst
                && known.rows.iter().any(|r| r.process_type == slot.0 && r.ordinal == slot.1);
            if !predecessor {
                actions.push(Action::Create { deployment: current, process_type: slot.0, ordinal: slot.1 });
            }
            continue;
        };
        wanted.insert(row.id.clone());
        if let Some(ran) = known.dead.get(&row.id) {
            let restarts = if *ran >= STABLE { 1 } else { row.restarts.saturating_add(1) };
            let not_before = known.now + back_off(restarts);
            actions.push(Action::Replace { old: row.id.clone(), restarts, not_before });
        } else if row.state == InstanceState::Starting {
            actions.push(bring_up(row, known.now));
        }
    }
}

fn plan_candidate(
    known: &Known<'_>,
    candidate: Deployment,
    wanted: &mut HashSet<InstanceId>,
    actions: &mut Vec<Action>,
) {
    let mut steps = Vec::new();
    // What is stopped stays so: it is started with this release when it is started.
    let slots = if known.app.stopped { Vec::new() } else { slots(known, candidate) };
    for slot in slots {
        if strategy(known, candidate, &slot.0) == UpdateStrategy::StopFirst {
            continue;
        }
        let Some(row) = holder(known, candidate, &slot) else {
            steps.push(Action::Create { deployment: candidate, process_type: slot.0, ordinal: slot.1 });
            continue;
        };
        wanted.insert(row.id.clone());
        if known.dead.contains_key(&row.id) {
            actions.push(Action::GiveUp(candidate, row.id.clone()));
            return;
        }
        if row.state == InstanceState::Starting {
            steps.push(bring_up(row, known.now));
        }
    }
    if steps.is_empty() {
        steps.push(Action::Commit(candidate));
    }
    actions.append(&mut steps);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::AppId;

    const NOW: Millis = 1_000_000;

    fn deployment(n: u64) -> Deployment {
        Deployment { release: n, generation: n }
    }

    fn app(current: Option<u64>, candidate: Option<u64>, formation: &[(&str, u32)]) -> App {
        App {
            stack: None,
            source_folder: None,
            id: AppId(1),
            name: "a".parse().unwrap(),
            owner: None,
            deploy_branch: None,
            created_at: 0,
            stopped: false,
            destroying: false,
            current: current.map(deployment),
            candidate: candidate.map(deployment),
            formation: formation.iter().map(|(t, n)| (t.parse().unwrap(), *n)).collect(),
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
            bridge: 0,
            slot: 0,
            container: None,
            state,
            restarts: 0,
            not_before: 0,
            port: 8080,
            created_at: 0,
        }
    }

    fn id(text: &str) -> InstanceId {
        text.parse().unwrap()
    }

    fn decide(app: &App, rows: &[Instance], dead: &[(&str, u64)]) -> Vec<Action> {
        let types: BTreeMap<_, _> =
            ["web", "worker"].map(|t| (t.parse().unwrap(), UpdateStrategy::Surge)).into_iter().collect();
        decide_with(app, rows, dead, &types)
    }

    fn decide_with(
        app: &App,
        rows: &[Instance],
        dead: &[(&str, u64)],
        types: &BTreeMap<ProcessType, UpdateStrategy>,
    ) -> Vec<Action> {
        let wanted = |strategy: &UpdateStrategy| Wanted { strategy: *strategy, quantity: 0 };
        let wanted: BTreeMap<_, _> = types.iter().map(|(t, strategy)| (t.clone(), wanted(strategy))).collect();
        let releases = (1..9).map(|n| (n, wanted.clone())).collect();
        let dead = dead.iter().map(|(i, s)| (id(i), Duration::from_secs(*s))).collect();
        plan(&Known { app, releases: &releases, rows, dead: &dead, now: NOW })
    }

    fn create(n: u64, process_type: &str, ordinal: u32) -> Action {
        Action::Create { deployment: deployment(n), process_type: process_type.parse().unwrap(), ordinal }
    }

    use InstanceState::{Healthy, Retiring, Starting};

    #[test]
    fn missing_slots_are_made_and_superfluous_ones_retire() {
        let app = app(Some(1), None, &[("web", 2), ("worker", 1), ("unknown", 5)]);
        let rows = [row(1, "web.1", Healthy), row(1, "web.3", Healthy), row(1, "worker.1", Starting)];
        assert_eq!(
            decide(&app, &rows, &[]),
            [create(1, "web", 2), Action::Launch(id("i1-worker-1")), Action::Retire(id("i1-web-3"))]
        );
    }

    #[test]
    fn what_is_declared_and_healthy_is_left_alone() {
        let app = app(Some(1), None, &[("web", 1)]);
        assert_eq!(decide(&app, &[row(1, "web.1", Healthy)], &[]), []);
    }

    #[test]
    fn a_candidate_comes_up_beside_the_current_one_and_is_committed_when_all_are_healthy() {
        let app = app(Some(1), Some(2), &[("web", 2)]);
        let mut rows = vec![row(1, "web.1", Healthy), row(1, "web.2", Healthy)];
        assert_eq!(decide(&app, &rows, &[]), [create(2, "web", 1), create(2, "web", 2)]);
        rows.extend([row(2, "web.1", Healthy), row(2, "web.2", Starting)]);
        assert_eq!(decide(&app, &rows, &[]), [Action::Launch(id("i2-web-2"))]);
        rows[3].state = Healthy;
        assert_eq!(decide(&app, &rows, &[]), [Action::Commit(deployment(2))]);
    }

    #[test]
    fn a_candidate_without_instances_is_committed_at_once() {
        assert_eq!(decide(&app(None, Some(1), &[("web", 0)]), &[], &[]), [Action::Commit(deployment(1))]);
    }

    #[test]
    fn a_failed_instance_fails_its_candidate_and_touches_nothing_else() {
        let app = app(Some(1), Some(2), &[("web", 2)]);
        let rows =
            [row(1, "web.1", Healthy), row(1, "web.2", Healthy), row(2, "web.1", Healthy), row(2, "web.2", Starting)];
        let given_up = Action::GiveUp(deployment(2), id("i2-web-2"));
        assert_eq!(decide(&app, &rows, &[("i2-web-2", 0)])[0], given_up);
        let given_up = Action::GiveUp(deployment(2), id("i2-web-1"));
        assert!(decide(&app, &rows, &[("i2-web-1", 100)]).contains(&given_up), "also one that was healthy before");
    }

    #[test]
    fn instances_of_other_generations_retire_and_are_removed() {
        let app = app(Some(2), None, &[("web", 1)]);
        let rows = [row(2, "web.1", Healthy), row(1, "web.1", Healthy), row(1, "web.2", Retiring)];
        assert_eq!(decide(&app, &rows, &[]), [Action::Retire(id("i1-web-1")), Action::Remove(id("i1-web-2"))]);
    }

    #[test]
    fn stopped_and_destroyed_apps_have_none() {
        let mut app = app(Some(1), None, &[("web", 1)]);
        app.stopped = true;
        assert_eq!(decide(&app, &[row(1, "web.1", Healthy)], &[]), [Action::Retire(id("i1-web-1"))]);
        app.candidate = Some(deployment(2));
        assert_eq!(decide(&app, &[], &[]), [Action::Commit(deployment(2))], "a new release starts nothing");
        app.stopped = false;
        app.destroying = true;
        app.candidate = Some(deployment(2));
        assert_eq!(decide(&app, &[row(1, "web.1", Healthy)], &[]), [Action::Retire(id("i1-web-1"))]);
    }

    #[test]
    fn a_crashed_instance_is_replaced_at_once_and_then_ever_later() {
        let app = app(Some(1), None, &[("web", 1)]);
        let mut crashed = row(1, "web.1", Healthy);
        let replaced = |restarts, wait| [Action::Replace { old: id("i1-web-1"), restarts, not_before: NOW + wait }];
        assert_eq!(decide(&app, &[crashed.clone()], &[("i1-web-1", 5)]), replaced(1, 0));
        crashed.restarts = 1;
        assert_eq!(decide(&app, &[crashed.clone()], &[("i1-web-1", 5)]), replaced(2, 1000));
        crashed.restarts = 5;
        assert_eq!(decide(&app, &[crashed.clone()], &[("i1-web-1", 5)]), replaced(6, 16_000));
        assert_eq!(decide(&app, &[crashed.clone()], &[("i1-web-1", 61)]), replaced(1, 0), "it was stable");
        crashed.restarts = 4_000_000;
        assert_eq!(decide(&app, &[crashed], &[("i1-web-1", 5)]), replaced(4_000_001, 300_000));
    }

    #[test]
    fn an_instance_that_waits_is_not_launched() {
        let app = app(Some(1), None, &[("web", 1)]);
        let mut waiting = row(1, "web.1", Starting);
        waiting.not_before = NOW + 1;
        assert_eq!(decide(&app, &[waiting], &[]), [Action::Wait(NOW + 1)]);
    }

    #[test]
    fn two_holders_of_one_slot_become_one() {
        let app = app(Some(1), None, &[("web", 1)]);
        let mut twin = row(1, "web.1", Starting);
        twin.id = id("twin");
        assert_eq!(decide(&app, &[twin, row(1, "web.1", Healthy)], &[]), [Action::Retire(id("twin"))]);
    }

    #[test]
    fn a_singleton_starts_when_its_predecessor_is_gone() {
        let types = BTreeMap::from([(ProcessType::web(), UpdateStrategy::StopFirst)]);
        let on_trial = app(Some(1), Some(2), &[("web", 1)]);
        let old = row(1, "web.1", Healthy);
        assert_eq!(decide_with(&on_trial, std::slice::from_ref(&old), &[], &types), [Action::Commit(deployment(2))]);
        let committed = app(Some(2), None, &[("web", 1)]);
        assert_eq!(decide_with(&committed, &[old], &[], &types), [Action::Retire(id("i1-web-1"))]);
        let leaving = [row(1, "web.1", Retiring)];
        assert_eq!(decide_with(&committed, &leaving, &[], &types), [Action::Remove(id("i1-web-1"))]);
        assert_eq!(decide_with(&committed, &[], &[], &types), [create(2, "web", 1)]);
    }

    #[test]
    fn the_back_off_doubles_to_five_minutes() {
        let waits: Vec<_> = (0..14).map(back_off).collect();
        assert_eq!(waits[..6], [0, 0, 1000, 2000, 4000, 8000]);
        assert_eq!(waits[10..], [256_000, 300_000, 300_000, 300_000]);
        assert_eq!(back_off(u32::MAX), 300_000);
    }
}
