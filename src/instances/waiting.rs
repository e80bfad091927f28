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

use super::{check_target::CheckSlots, failure::InstanceFailure};
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
    /// Every declared instance is healthy, and all others are retiring.
    pub(super) settled: bool,
    /// Instances of the current release that fail repeatedly.
    pub(super) failing: Vec<InstanceFailure>,
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
    /// Every declared instance is healthy.
    Settled,
    /// An instance fails repeatedly.
    Failing(InstanceFailure),
    /// The worker cannot proceed, for this reason.
    Stalled(String),
    /// The app does not exist any more.
    AppGone,
}

impl Round {
    /// `None` while a caller that asked by `request` has to wait.
    fn settlement(&self, request: u64) -> Option<Settlement> {
        let current = self.request >= request;
        if self.app_gone {
            Some(Settlement::AppGone)
        } else if current && self.settled {
            Some(Settlement::Settled)
        } else if let Some(failure) = self.failing.first().filter(|_| current) {
            Some(Settlement::Failing(failure.clone()))
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
    /// until it is known why that is not so.
    pub(super) fn settlement(&self) -> impl Future<Output = Settlement> {
        let request = self.wake();
        self.round_with(move |round| round.settlement(request))
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
    use super::*;

    #[test]
    fn only_a_round_after_the_request_answers_it() {
        let failure = InstanceFailure::new("web.1".into(), "it exited with status 1");
        let settled = Round { request: 2, settled: true, ..Round::default() };
        assert_eq!(settled.settlement(3), None);
        assert_eq!(settled.settlement(2), Some(Settlement::Settled));
        let failing = Round { request: 2, failing: vec![failure.clone()], ..Round::default() };
        assert_eq!(failing.settlement(3), None);
        assert_eq!(failing.settlement(1), Some(Settlement::Failing(failure)));
        let stalled = Round { stall: Some(Stall { request: 3, reason: "no space".into() }), ..settled };
        assert_eq!(stalled.settlement(4), None);
        assert_eq!(stalled.settlement(3), Some(Settlement::Stalled("no space".into())));
        assert_eq!(Round { app_gone: true, ..stalled }.settlement(9), Some(Settlement::AppGone));
    }

    #[test]
    fn a_caller_that_is_cancelled_at_once_has_still_woken_the_worker() {
        let handle = WorkerHandle::new();
        drop(handle.settlement());
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
