//! How callers reach the worker of an app, and what they wait for: the outcome of a rollout, or a round of the worker
//! that shows what they asked for.

use std::{
    collections::{BTreeSet, HashMap},
    future::pending,
    sync::{
        Arc, Mutex as StdMutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::{Mutex, Notify, mpsc, oneshot, watch};

use super::{check_target::CheckSlots, failure::InstanceFailure, plan::DeclaredInstance, started::StartedInstances};
use crate::{
    model::{InstanceId, Line},
    store::Instance,
    workload::Overuse,
};

/// Reaches the worker of an app.
pub(super) struct WorkerHandle {
    wake: Notify,
    verify: AtomicBool,
    /// Instances that are killed because they have written more than they may.
    overuses: StdMutex<HashMap<InstanceId, Overuse>>,
    /// Number of wake-ups that were requested.
    requests: AtomicU64,
    /// Callers that wait for a rollout, by generation. Locked while a rollout begins or ends.
    pub(super) rollouts: Mutex<HashMap<u64, RolloutWaiter>>,
    rounds: watch::Sender<Round>,
    /// Bounds the health checks of the app.
    pub(super) check_slots: Arc<CheckSlots>,
}

/// The caller of a rollout.
pub(super) struct RolloutWaiter {
    pub(super) outcome: oneshot::Sender<RolloutOutcome>,
    pub(super) progress: mpsc::Sender<Line>,
}

/// How a rollout ended.
pub(super) enum RolloutOutcome {
    /// The release is current, and its instances are in the route table of this version.
    Committed { route_version: u64 },
    /// An instance failed.
    Failed(InstanceFailure),
    /// Another rollout replaced this one.
    Superseded,
}

/// What the worker found when it last read the app's rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Round {
    /// Last wake-up that was requested before the round.
    pub(super) request: u64,
    /// Every declared instance is healthy or fails repeatedly, and all others are retiring.
    pub(super) settled: bool,
    /// Instances of the current release that fail repeatedly.
    pub(super) failing: Vec<(DeclaredInstance, InstanceFailure)>,
    /// Generations that have instances.
    pub(super) generations: BTreeSet<u64>,
    /// The app does not exist any more.
    pub(super) app_gone: bool,
    /// Set when rounds have failed for some time.
    pub(super) stall: Option<Stall>,
}

/// Rounds fail because of the database or the engine.
#[derive(Debug, Clone)]
pub(super) struct Stall {
    /// Last wake-up that was requested before the failed round.
    pub(super) request: u64,
    pub(super) reason: String,
}

/// Whether an app runs as declared.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settlement {
    /// Every declared instance is healthy, but for those that fail repeatedly and that the caller did not start.
    Settled {
        /// Why these fail.
        failing: Vec<InstanceFailure>,
    },
    /// An instance that the caller started fails repeatedly.
    Failing(InstanceFailure),
    /// The worker cannot proceed, for this reason.
    Stalled(String),
    /// The app does not exist any more.
    AppGone,
}

impl Round {
    /// `None` while a caller that asked by `request`, and started these instances, has to wait.
    fn settlement(&self, request: u64, started: &StartedInstances) -> Option<Settlement> {
        let current = self.request >= request;
        let own = self.failing.iter().find(|(instance, _)| started.contains(instance));
        if self.app_gone {
            Some(Settlement::AppGone)
        } else if let Some((_, failure)) = own.filter(|_| current) {
            Some(Settlement::Failing(failure.clone()))
        } else if current && self.settled {
            Some(Settlement::Settled { failing: self.failing.iter().map(|(_, failure)| failure.clone()).collect() })
        } else {
            self.stalled_since(request).map(Settlement::Stalled)
        }
    }

    fn stalled_since(&self, request: u64) -> Option<String> {
        self.stall.as_ref().filter(|stall| stall.request >= request).map(|stall| stall.reason.clone())
    }
}

impl WorkerHandle {
    pub(super) fn new() -> Self {
        Self {
            wake: Notify::new(),
            verify: AtomicBool::new(true),
            overuses: StdMutex::default(),
            requests: AtomicU64::new(0),
            rollouts: Mutex::default(),
            rounds: watch::Sender::new(Round::default()),
            check_slots: Arc::default(),
        }
    }

    /// Has the worker start a round. Returns the number of the request, which [`Round::request`] reaches in it.
    pub(super) fn wake(&self) -> u64 {
        let request = self.requests.fetch_add(1, Ordering::AcqRel) + 1;
        self.wake.notify_one();
        request
    }

    /// Has the worker start a round that also inspects the containers of healthy instances.
    pub(super) fn verify(&self) {
        self.verify_next_round();
        self.wake();
    }

    /// Has the worker know that an instance is killed because it has written more than it may.
    pub(super) fn report_overuse(&self, id: InstanceId, overuse: Overuse) {
        self.overuses().insert(id, overuse);
        self.wake();
    }

    fn overuses(&self) -> MutexGuard<'_, HashMap<InstanceId, Overuse>> {
        self.overuses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the worker, even if the future is never polled. The future waits until every declared instance is healthy, or
    /// until it is known why that is not so. `started`: the instances that the caller started.
    pub(super) fn settlement(&self, started: StartedInstances) -> impl Future<Output = Settlement> {
        let request = self.wake();
        self.round_with(move |round| round.settlement(request, &started))
    }

    /// Wakes the worker, even if the future is never polled. The future waits until a generation has no instances.
    pub(super) fn generation_removed(&self, generation: u64) -> impl Future<Output = ()> {
        let request = self.wake();
        let removed = move |round: &Round| round.request >= request && !round.generations.contains(&generation);
        self.round_with(move |round| (round.app_gone || removed(round)).then_some(()))
    }

    /// Wakes the worker, even if the future is never polled. The future waits until an app that is being destroyed has no
    /// instances.
    pub(super) fn all_removed(&self) -> impl Future<Output = ()> {
        let request = self.wake();
        let removed = move |round: &Round| round.request >= request && round.settled && round.generations.is_empty();
        self.round_with(move |round| (round.app_gone || removed(round)).then_some(()))
    }

    /// Waits until the worker has been unable to proceed for some time after `request`, and returns the reason.
    pub(super) async fn stalled_since(&self, request: u64) -> String {
        self.round_with(|round| round.stalled_since(request)).await
    }

    async fn round_with<T>(&self, found: impl Fn(&Round) -> Option<T>) -> T {
        let mut rounds = self.rounds.subscribe();
        loop {
            let found = found(&rounds.borrow_and_update());
            if let Some(found) = found {
                return found;
            }
            if rounds.changed().await.is_err() {
                // Cannot happen: the sender lives as long as `self`.
                return pending().await;
            }
        }
    }
}

/// The worker's side.
impl WorkerHandle {
    /// Waits for a wake-up.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// The last wake-up that was requested.
    pub(super) fn last_request(&self) -> u64 {
        self.requests.load(Ordering::Acquire)
    }

    pub(super) fn verify_next_round(&self) {
        self.verify.store(true, Ordering::Release);
    }

    /// What an instance has written, if it is killed for that.
    pub(super) fn overuse(&self, id: &InstanceId) -> Option<Overuse> {
        self.overuses().get(id).cloned()
    }

    /// Forgets instances whose rows are removed.
    pub(super) fn retain_overuses(&self, rows: &[Instance]) {
        self.overuses().retain(|id, _| rows.iter().any(|row| row.id == *id));
    }

    /// Whether this round is to inspect the containers of healthy instances.
    pub(super) fn take_verify(&self) -> bool {
        self.verify.swap(false, Ordering::AcqRel)
    }

    /// Callers compare [`Round::request`], so an old round is never taken for a new one.
    pub(super) fn publish(&self, round: Round) {
        self.rounds.send_replace(round);
    }

    /// Keeps what the last successful round found.
    pub(super) fn publish_stall(&self, stall: Stall) {
        self.rounds.send_modify(|round| round.stall = Some(stall));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::ProcessType;

    /// An instance of the process type web that fails.
    fn failing(ordinal: u32) -> (DeclaredInstance, InstanceFailure) {
        let failure = InstanceFailure::new(format!("web.{ordinal}"), "it exited with status 1");
        (DeclaredInstance { process_type: ProcessType::web(), ordinal }, failure)
    }

    fn formation(web: u32) -> BTreeMap<ProcessType, u32> {
        BTreeMap::from([(ProcessType::web(), web)])
    }

    #[test]
    fn only_a_round_after_the_request_answers_it() {
        let started = StartedInstances::all(&formation(1));
        let all_healthy = || Some(Settlement::Settled { failing: Vec::new() });
        let settled = Round { request: 2, settled: true, ..Round::default() };
        assert_eq!(settled.settlement(3, &started), None);
        assert_eq!(settled.settlement(2, &started), all_healthy());
        let of_own = Round { request: 2, settled: true, failing: vec![failing(1)], ..Round::default() };
        assert_eq!(of_own.settlement(3, &started), None);
        assert_eq!(of_own.settlement(1, &started), Some(Settlement::Failing(failing(1).1)));
        let stalled = Round { stall: Some(Stall { request: 3, reason: "no space".into() }), ..settled };
        assert_eq!(stalled.settlement(4, &started), None);
        assert_eq!(stalled.settlement(3, &started), Some(Settlement::Stalled("no space".into())));
        assert_eq!(Round { app_gone: true, ..stalled }.settlement(9, &started), Some(Settlement::AppGone));
    }

    #[test]
    fn an_instance_that_the_caller_did_not_start_does_not_fail_it() {
        let round = |settled, ordinals: &[u32]| {
            let failing = ordinals.iter().map(|ordinal| failing(*ordinal)).collect();
            Round { request: 1, settled, failing, ..Round::default() }
        };
        let scaled_up = StartedInstances::added(&formation(2), &formation(3));
        let others_fail = Some(Settlement::Settled { failing: vec![failing(1).1] });
        assert_eq!(round(true, &[1]).settlement(1, &scaled_up), others_fail);
        assert_eq!(round(true, &[1]).settlement(1, &StartedInstances::default()), others_fail);
        assert_eq!(round(false, &[1]).settlement(1, &scaled_up), None, "its own instance is still starting");
        assert_eq!(round(true, &[1, 3]).settlement(1, &scaled_up), Some(Settlement::Failing(failing(3).1)));
    }

    #[test]
    fn a_caller_that_is_cancelled_at_once_has_still_woken_the_worker() {
        let handle = WorkerHandle::new();
        drop(handle.settlement(StartedInstances::default()));
        assert_eq!(handle.last_request(), 1);
    }

    #[tokio::test]
    async fn a_caller_waits_for_the_round_after_its_request() {
        let handle = WorkerHandle::new();
        handle.publish(Round { request: handle.last_request(), generations: [1].into(), ..Round::default() });
        let removed = handle.generation_removed(2);
        let worker = async {
            handle.woken().await;
            handle.publish(Round { request: handle.last_request(), generations: [1].into(), ..Round::default() });
        };
        tokio::join!(removed, worker);
    }
}
