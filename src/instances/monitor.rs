//! Readiness and liveness checks of the running instances of an app: one task for each instance that has some, which ends
//! with it. What they find goes to the app's worker, which alone changes rows.

use std::{collections::HashMap, time::Duration};

use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};

use super::check_target::CheckedInstance;
use crate::model::{CheckType, HealthCheck, InstanceId};

/// Number of findings that may be pending; a monitor whose finding has no place waits.
const MAX_PENDING: usize = 64;
/// Shortest time between two attempts of a check of a running instance.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// What the checks of a running instance found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// It passes all its readiness checks again.
    Ready,
    /// It fails a readiness check, for this reason.
    NotReady(String),
    /// It fails a liveness check, for this reason.
    NotAlive(String),
    /// It fails a check whose failure is only reported, for this reason.
    Warning(String),
    /// It passes such a check again, which is named.
    PassesAgain(String),
}

/// The monitors of an app's instances. Dropping it ends them.
pub(super) struct Monitors {
    running: HashMap<InstanceId, Monitor>,
    tasks: JoinSet<()>,
    sender: mpsc::Sender<(InstanceId, Finding)>,
    findings: mpsc::Receiver<(InstanceId, Finding)>,
}

struct Monitor {
    checks: Vec<HealthCheck>,
    host: String,
    port: u16,
    task: AbortHandle,
}

/// An instance that is to be monitored.
pub(super) struct Monitored {
    pub(super) instance: CheckedInstance,
    /// Its readiness and liveness checks.
    pub(super) checks: Vec<HealthCheck>,
    /// Whether it counts as ready.
    pub(super) ready: bool,
}

impl Default for Monitors {
    fn default() -> Self {
        let (sender, findings) = mpsc::channel(MAX_PENDING);
        Self { running: HashMap::new(), tasks: JoinSet::new(), sender, findings }
    }
}

impl Monitors {
    /// Has exactly these instances monitored. One whose checks have changed is monitored anew.
    pub(super) fn keep(&mut self, mut wanted: HashMap<InstanceId, Monitored>) {
        while self.tasks.try_join_next().is_some() {}
        self.running.retain(|id, running| {
            let same = wanted.get(id).is_some_and(|wanted| {
                wanted.checks == running.checks
                    && wanted.instance.target.host == running.host
                    && wanted.instance.target.port == running.port
            });
            if !same {
                running.task.abort();
            }
            same
        });
        wanted.retain(|id, _| !self.running.contains_key(id));
        for (id, Monitored { instance, checks, ready }) in wanted {
            let (host, port) = (instance.target.host.clone(), instance.target.port);
            let reporter = Reporter { id: id.clone(), findings: self.sender.clone() };
            let task = self.tasks.spawn(monitor(instance, checks.clone(), ready, reporter));
            self.running.insert(id, Monitor { checks, host, port, task });
        }
    }

    /// Ends the monitor of an instance, so that the next one begins anew.
    pub(super) fn forget(&mut self, id: &InstanceId) {
        if let Some(monitor) = self.running.remove(id) {
            monitor.task.abort();
        }
    }

    /// Waits for the next finding. Safe to be dropped.
    pub(super) async fn next(&mut self) -> Option<(InstanceId, Finding)> {
        self.findings.recv().await
    }
}

struct Reporter {
    id: InstanceId,
    findings: mpsc::Sender<(InstanceId, Finding)>,
}

impl Reporter {
    async fn send(&self, finding: Finding) {
        // The worker ends only together with its monitors.
        let _ = self.findings.send((self.id.clone(), finding)).await;
    }
}

/// Attempts in a row with the same outcome.
#[derive(Debug, Default)]
struct Outcome {
    failures: u32,
    /// `None` until it is known.
    passes: Option<bool>,
}

impl Outcome {
    /// Counts an attempt. Returns whether that changes what is known: a check passes at once, and fails after so many
    /// attempts in a row.
    fn count(&mut self, passed: bool, attempts: u32) -> bool {
        self.failures = if passed { 0 } else { self.failures.saturating_add(1) };
        let known = match passed {
            true => Some(true),
            false if self.failures >= attempts => Some(false),
            false => self.passes,
        };
        let changed = known != self.passes;
        self.passes = known;
        changed
    }
}

/// When a check is made next.
struct Schedule {
    check: HealthCheck,
    outcome: Outcome,
    at: Instant,
}

impl Schedule {
    /// Of a check of an instance that was started at this time.
    fn new(check: HealthCheck, started: Instant, now: Instant) -> Self {
        // The instances of an app start together: they are checked at different times.
        let at = (started + check.initial_delay).max(now) + part_of(interval(&check));
        Self { check, outcome: Outcome::default(), at }
    }
}

/// Makes the checks of one instance, one after the other, each in its own time.
async fn monitor(instance: CheckedInstance, checks: Vec<HealthCheck>, mut ready: bool, reporter: Reporter) {
    let started = instance.started(&checks).await;
    let now = Instant::now();
    let mut schedule: Vec<_> = checks.into_iter().map(|check| Schedule::new(check, started, now)).collect();
    loop {
        let Some(next) = schedule.iter_mut().min_by_key(|entry| entry.at) else { return };
        sleep_until(next.at).await;
        let begun = Instant::now();
        let attempt = instance.attempt(&next.check).await;
        // However slow a check is, the instance is not asked without a pause.
        next.at = (begun + interval(&next.check)).max(Instant::now() + MIN_WAIT / 10);
        let had_failed = next.outcome.passes == Some(false);
        let changed = next.outcome.count(attempt.is_ok(), next.check.attempts);
        let failure = attempt.err().map(|unhealthy| next.check.failure(&unhealthy));
        if next.check.warn {
            match failure {
                Some(failure) if changed => reporter.send(Finding::Warning(failure)).await,
                None if had_failed => {
                    let name = next.check.failure(&next.check.description());
                    reporter.send(Finding::PassesAgain(name)).await;
                }
                Some(_) | None => {}
            }
            continue;
        }
        match (next.check.check_type, failure) {
            (CheckType::Liveness, Some(failure)) if changed => {
                let times = match next.check.attempts {
                    0 | 1 => String::new(),
                    attempts => format!(", {attempts} times in a row"),
                };
                return reporter.send(Finding::NotAlive(format!("it failed its {failure}{times}"))).await;
            }
            (CheckType::Readiness, Some(failure)) if changed && ready => {
                ready = false;
                reporter.send(Finding::NotReady(failure)).await;
            }
            (CheckType::Readiness, None) if !ready => {
                let is_ready = |entry: &Schedule| {
                    entry.check.check_type != CheckType::Readiness
                        || entry.check.warn
                        || entry.outcome.passes == Some(true)
                };
                if schedule.iter().all(is_ready) {
                    ready = true;
                    reporter.send(Finding::Ready).await;
                }
            }
            (CheckType::Startup | CheckType::Readiness | CheckType::Liveness, _) => {}
        }
    }
}

fn interval(check: &HealthCheck) -> Duration {
    let wait = check.wait.max(MIN_WAIT);
    wait.mul_f64(0.95) + part_of(wait / 10)
}

/// A random part of a duration.
fn part_of(duration: Duration) -> Duration {
    duration.mul_f64(rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initial_delay_counts_from_the_start_of_the_instance() {
        let second = Duration::from_secs(1);
        let check = |delay: u32| HealthCheck {
            check_type: CheckType::Liveness,
            initial_delay: delay * second,
            ..HealthCheck::default_for(crate::model::Exposure::PortMappings)
        };
        let now = Instant::now() + 100 * second;
        let started = now - 10 * second;
        let first = |delay| Schedule::new(check(delay), started, now).at;
        assert!(first(60) >= started + 60 * second && first(60) < started + 62 * second);
        assert!(first(5) >= now && first(5) < now + 2 * second, "it is over");
    }

    #[test]
    fn a_check_fails_after_its_attempts_in_a_row_and_passes_at_once() {
        let mut outcome = Outcome::default();
        let mut count = |passed| (outcome.count(passed, 3), outcome.passes);
        assert_eq!(count(true), (true, Some(true)));
        assert_eq!(count(false), (false, Some(true)));
        assert_eq!(count(false), (false, Some(true)));
        assert_eq!(count(true), (false, Some(true)));
        assert_eq!((count(false).0, count(false).0, count(false)), (false, false, (true, Some(false))));
        assert_eq!(count(false), (false, Some(false)));
        assert_eq!(count(true), (true, Some(true)));
    }
}
