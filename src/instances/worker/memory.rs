//! What the worker of an app remembers of its instances from round to round. A restart of the server loses it without
//! harm.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    instances::failure::{InstanceFailure, Run},
    model::InstanceId,
    store::Instance,
};

/// First delay after an error of the engine or the database; it doubles with each further error.
const FIRST_RETRY_DELAY: Duration = Duration::from_millis(250);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);
/// Number of errors in a row after which the caller is notified that an instance cannot be started.
const MAX_ERRORS: u32 = 4;

/// Failures and errors of an app's instances.
#[derive(Default)]
pub(super) struct Memory {
    /// Failed instances that the plan has not replaced yet.
    failed: HashMap<InstanceId, InstanceFailure>,
    /// Retiring instances that were in no route table.
    never_routed: HashSet<InstanceId>,
    /// Last failure of each instance name that has not been healthy since.
    last_failures: BTreeMap<String, InstanceFailure>,
    /// Instances whose launch or teardown ended with an error.
    errors: HashMap<InstanceId, Errors>,
}

struct Errors {
    in_a_row: u32,
    retry_at: Instant,
}

/// Delay before a retry after this number of errors in a row.
pub(super) fn retry_delay(errors: u32) -> Duration {
    FIRST_RETRY_DELAY.saturating_mul(1 << errors.saturating_sub(1).min(10)).min(MAX_RETRY_DELAY)
}

impl Memory {
    /// Forgets instances whose rows are removed.
    pub(super) fn retain(&mut self, rows: &[Instance]) {
        let ids: HashSet<_> = rows.iter().map(|row| &row.id).collect();
        self.failed.retain(|id, _| ids.contains(id));
        self.never_routed.retain(|id| ids.contains(id));
        self.errors.retain(|id, _| ids.contains(id));
        let names: HashSet<_> = rows.iter().map(Instance::name).collect();
        self.last_failures.retain(|name, _| names.contains(name));
    }

    pub(super) fn remember_failure(&mut self, id: InstanceId, failure: InstanceFailure) {
        self.last_failures.insert(failure.instance.clone(), failure.clone());
        self.failed.insert(id, failure);
    }

    pub(super) fn remember_healthy(&mut self, row: &Instance) {
        self.last_failures.remove(&row.name());
    }

    pub(super) fn remember_never_routed(&mut self, id: InstanceId) {
        self.never_routed.insert(id);
    }

    /// Counts an error of a launch or teardown. Returns whether the next one is no longer worth waiting for.
    pub(super) fn remember_error(&mut self, id: InstanceId) -> bool {
        let in_a_row = self.errors.get(&id).map_or(0, |errors| errors.in_a_row) + 1;
        self.errors.insert(id, Errors { in_a_row, retry_at: Instant::now() + retry_delay(in_a_row) });
        in_a_row >= MAX_ERRORS
    }

    pub(super) fn forget_errors(&mut self, id: &InstanceId) {
        self.errors.remove(id);
    }

    pub(super) fn failure(&self, id: &InstanceId) -> Option<&InstanceFailure> {
        self.failed.get(id)
    }

    /// The runs of the containers of failed instances.
    pub(super) fn failed_runs(&self) -> HashMap<InstanceId, Run> {
        self.failed.iter().map(|(id, failure)| (id.clone(), failure.run)).collect()
    }

    pub(super) fn was_routed(&self, id: &InstanceId) -> bool {
        !self.never_routed.contains(id)
    }

    /// Until when a launch or teardown is delayed after an error.
    pub(super) fn delayed_until(&self, id: &InstanceId) -> Option<Instant> {
        self.errors.get(id).map(|errors| errors.retry_at).filter(|at| *at > Instant::now())
    }

    /// The failure of an instance that fails repeatedly.
    pub(super) fn repeated_failure(&self, row: &Instance) -> Option<InstanceFailure> {
        let errors = self.errors.get(&row.id).is_some_and(|errors| errors.in_a_row >= MAX_ERRORS);
        if !errors && row.restarts <= 1 {
            return None;
        }
        let last = self.last_failures.get(&row.name()).cloned();
        Some(last.unwrap_or_else(|| {
            let reason = if errors {
                "Docker cannot start or stop it; see the server's log".to_owned()
            } else {
                format!("it failed {} times in a row", row.restarts)
            };
            InstanceFailure::new(row.name(), reason)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{AppId, InstanceState};

    fn row(restarts: u32) -> Instance {
        Instance {
            id: "a-web-1".parse().unwrap(),
            app: AppId(1),
            generation: 1,
            release: 1,
            process_type: "web".parse().unwrap(),
            ordinal: 1,
            node: "local".into(),
            endpoint: None,
            container: None,
            state: InstanceState::Starting,
            restarts,
            not_before: 0,
            port: 8080,
            ready: true,
            created_at: 0,
            oom_kills: 0,
            last_failure: None,
        }
    }

    #[test]
    fn the_delay_doubles_up_to_the_maximum() {
        let delays: Vec<_> = [1, 2, 3, 7, 8, 9, 100].map(|errors| retry_delay(errors).as_millis()).into();
        assert_eq!(delays, [250, 500, 1000, 16_000, 30_000, 30_000, 30_000]);
    }

    #[test]
    fn a_failure_is_reported_from_the_second_restart_on() {
        let mut memory = Memory::default();
        assert_eq!(memory.repeated_failure(&row(1)), None);
        assert_eq!(memory.repeated_failure(&row(2)).unwrap().diagnosis.reason, "it failed 2 times in a row");
        let failure = InstanceFailure::new("web.1".into(), "it exited with status 1");
        memory.remember_failure("a-web-0".parse().unwrap(), failure.clone());
        assert_eq!(memory.repeated_failure(&row(1)), None);
        assert_eq!(memory.repeated_failure(&row(2)), Some(failure));
        memory.remember_healthy(&row(2));
        assert_eq!(memory.repeated_failure(&row(2)).unwrap().diagnosis.reason, "it failed 2 times in a row");
    }

    #[test]
    fn errors_delay_the_next_attempt_and_are_reported_after_four() {
        let mut memory = Memory::default();
        let id = row(0).id;
        assert!(!memory.remember_error(id.clone()));
        assert!(memory.delayed_until(&id).is_some());
        assert!(!memory.remember_error(id.clone()) && !memory.remember_error(id.clone()));
        assert_eq!(memory.repeated_failure(&row(0)), None);
        assert!(memory.remember_error(id.clone()));
        let reason = memory.repeated_failure(&row(0)).unwrap().diagnosis.reason;
        assert!(reason.starts_with("Docker cannot start or stop it"), "{reason}");
        memory.forget_errors(&id);
        assert_eq!(memory.delayed_until(&id), None);
        assert_eq!(memory.repeated_failure(&row(0)), None);
    }
}
