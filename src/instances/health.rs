//! Health checks of one instance: single attempts, and attempts until a check passes. These are made at short intervals at
//! first, so that an instance that starts quickly is healthy soon.

use std::{net::SocketAddr, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::{check_target::CheckedInstance, command_check, http_check, listening::Listening, unhealthy::Unhealthy};
use crate::model::{HealthCheck, Probe};

/// First interval between two attempts; it grows.
const FIRST_INTERVAL: Duration = Duration::from_millis(20);
/// First interval between two commands, each of which costs the engine some 0.1 s of CPU time.
const FIRST_COMMAND_INTERVAL: Duration = Duration::from_millis(500);
/// Longest interval of attempts other than commands, however long the check waits.
const MAX_INTERVAL: Duration = Duration::from_secs(1);
/// Number of responses with the same status after which no other is expected.
const SAME_STATUS: u32 = 5;
/// Attempts to read an instance's listeners that may fail one after the other before they count as unreadable.
const UNREADABLE: u32 = 5;
/// Time in which a server that does not wait for anything accepts a connection.
const ACCEPT_TIME: Duration = Duration::from_millis(2);
/// A check that did not pass in its time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotPassed {
    /// Why the last attempt failed.
    pub(super) unhealthy: Unhealthy,
    /// Time since the check was begun.
    pub(super) after: Duration,
    /// Whether it was given up early, because the instance always answers the same.
    pub(super) early: bool,
}

impl CheckedInstance {
    /// Makes one attempt, when the app has a free slot. Not for uptime.
    pub(super) async fn attempt(&self, check: &HealthCheck) -> Result<(), Unhealthy> {
        let slots = match &check.probe {
            Probe::Tcp | Probe::Http(_) => &self.target.slots.connections,
            Probe::Command(_) => &self.target.slots.commands,
            Probe::Uptime(_) => return Ok(()),
        };
        // The semaphore is never closed.
        let _slot = slots.acquire().await;
        let address = SocketAddr::new(self.address, check.port.unwrap_or(self.target.port));
        match &check.probe {
            Probe::Tcp => {
                let until = Instant::now() + check.timeout;
                connect(address, check.timeout).await?;
                timeout_at(until, self.accepted(address.port())).await.map_err(|_| Unhealthy::NotAccepted)
            }
            Probe::Http(http) => http_check::attempt(address, &self.target.host, http, check.timeout).await,
            Probe::Command(command) => {
                let ran = command_check::attempt(&self.target, command, check.timeout).await;
                ran.map_err(|fault| Unhealthy::Command { command: command.join(" "), fault })
            }
            Probe::Uptime(_) => Ok(()),
        }
    }

    /// Waits until the instance has accepted all connections to a port: servers with worker processes open it before the
    /// workers have loaded the app, and one that hangs keeps it open.
    async fn accepted(&self, port: u16) {
        let (mut wait, mut unreadable) = (Duration::from_millis(10), 0);
        // An idle server has accepted by then, so that the engine is asked once.
        sleep(ACCEPT_TIME).await;
        loop {
            match self.target.runtime.diagnose(&self.target.container).await {
                Ok(listeners) if Listening::accepts(&listeners, port) => return,
                Ok(_) => unreadable = 0,
                Err(_) => unreadable += 1,
            }
            // An instance whose listeners cannot be read is not held back; one that just ended has none either.
            if unreadable == UNREADABLE {
                return;
            }
            sleep(wait).await;
            wait = (wait * 2).min(Duration::from_millis(200));
        }
    }

    /// Waits until a check passes, of an instance that was started at this time.
    pub(super) async fn until_passed(&self, check: &HealthCheck, started: Instant) -> Result<(), NotPassed> {
        until_passed(check, started, || self.attempt(check)).await
    }

    /// When the instance was started, as far as these checks need to know.
    pub(super) async fn started(&self, checks: &[HealthCheck]) -> Instant {
        let now = Instant::now();
        if checks.iter().all(|check| check.initial_delay.is_zero()) {
            return now;
        }
        let observed = self.target.runtime.observe(&self.target.container.0).await;
        let started = observed.ok().flatten().and_then(|container| container.started_at);
        let age = started.and_then(|started| Duration::try_from(jiff::Timestamp::now().duration_since(started)).ok());
        // Without it, the checks are made later than declared, not earlier.
        age.and_then(|age| now.checked_sub(age)).unwrap_or(now)
    }
}

/// Waits until the address accepts a connection, within the time of this check.
pub async fn until_accepting(address: SocketAddr, check: &HealthCheck) -> Result<(), Unhealthy> {
    let passed = until_passed(check, Instant::now(), || connect(address, check.timeout)).await;
    passed.map_err(|not_passed| not_passed.unhealthy)
}

/// Whether nothing listens at an address. An instance that is slow to respond may be under load.
pub(super) async fn refuses(address: SocketAddr, limit: Duration) -> bool {
    matches!(connect(address, limit).await, Err(Unhealthy::Refused { .. }))
}

async fn connect(address: SocketAddr, limit: Duration) -> Result<(), Unhealthy> {
    let connected = timeout(limit, http_check::connect(address)).await;
    connected.unwrap_or(Err(Unhealthy::NoConnection(limit))).map(drop)
}

/// Responses in a row with the same status, which will not change.
#[derive(Debug, Default)]
struct Streak {
    status: Option<u16>,
    attempts: u32,
    since: Option<Instant>,
}

impl Streak {
    /// Whether no other response is expected: this one came several times in a row, also at attempts as far apart as the
    /// check declares.
    fn is_final(&mut self, unhealthy: &Unhealthy, wait: Duration, now: Instant) -> bool {
        let status = unhealthy.final_status();
        if status.is_none() || status != self.status {
            *self = Self { status, attempts: u32::from(status.is_some()), since: Some(now) };
            return false;
        }
        self.attempts += 1;
        let apart = wait.max(MAX_INTERVAL) * (SAME_STATUS - 1);
        self.attempts >= SAME_STATUS && self.since.is_some_and(|since| now.duration_since(since) >= apart)
    }
}

async fn until_passed<F>(check: &HealthCheck, started: Instant, attempt: impl Fn() -> F) -> Result<(), NotPassed>
where
    F: Future<Output = Result<(), Unhealthy>>,
{
    let begun = Instant::now();
    let longest = check.wait.max(Duration::from_millis(10));
    let (first, longest) = match check.probe {
        Probe::Uptime(uptime) => {
            sleep_until((begun + uptime).max(started + check.initial_delay)).await;
            return Ok(());
        }
        Probe::Tcp | Probe::Http(_) => (FIRST_INTERVAL, longest.min(MAX_INTERVAL)),
        Probe::Command(_) => (FIRST_COMMAND_INTERVAL, longest),
    };
    sleep_until(started + check.initial_delay).await;
    let deadline = Instant::now() + check.limit();
    let mut wait = first.min(longest);
    let mut streak = Streak::default();
    loop {
        let asked = Instant::now();
        let Err(unhealthy) = attempt().await else { return Ok(()) };
        let next = asked + wait;
        let early = streak.is_final(&unhealthy, check.wait, asked);
        if early || next.max(Instant::now()) >= deadline {
            return Err(NotPassed { unhealthy, after: begun.elapsed(), early });
        }
        sleep_until(next).await;
        wait = (wait + wait / 2).min(longest);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        instances::unhealthy::{HttpFault, SentRequest},
        model::Exposure,
    };

    fn check(probe: Probe, attempts: u32, wait_ms: u64) -> HealthCheck {
        let (wait, timeout) = (Duration::from_millis(wait_ms), Duration::from_millis(300));
        HealthCheck { probe, attempts, wait, timeout, ..HealthCheck::default_for(Exposure::PortMappings) }
    }

    fn status(status: u16) -> Unhealthy {
        let request = SentRequest { path: "/".into(), host: "h".into(), port: 1, declared_host: false };
        Unhealthy::Http { request, fault: HttpFault::Status { status, body: String::new() } }
    }

    #[tokio::test]
    async fn a_listener_is_found_soon_after_it_opens() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let port = address.port();
        assert_eq!(until_accepting(address, &check(Probe::Tcp, 1, 60)).await, Err(Unhealthy::Refused { port }));
        let begun = Instant::now();
        let opens = async {
            sleep(Duration::from_millis(100)).await;
            let listener = TcpListener::bind(address).await.unwrap();
            sleep(Duration::from_secs(1)).await;
            drop(listener);
        };
        let check = check(Probe::Tcp, 60, 1000);
        tokio::select! {
            () = opens => panic!("the listener was not found"),
            healthy = until_accepting(address, &check) => healthy.unwrap(),
        }
        assert!(begun.elapsed() < Duration::from_millis(600), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_status_that_will_not_change_ends_the_wait() {
        // The seconds after the start at which these statuses come, and the time from which on no other is expected.
        let given_up = |wait: u64, attempts: &[(u64, u16)]| {
            let (mut streak, start) = (Streak::default(), Instant::now());
            let mut of_attempt = attempts.iter().map(|(at, code)| {
                let now = start + Duration::from_millis(*at);
                (*at, streak.is_final(&status(*code), Duration::from_secs(wait), now))
            });
            of_attempt.find(|(_, last)| *last).map(|(at, _)| at)
        };
        let quick = [(0, 404), (20, 404), (50, 404), (95, 404), (160, 404), (1000, 404), (4000, 404), (20_000, 404)];
        assert_eq!(given_up(1, &quick), Some(4000), "not before five attempts, a second apart");
        assert_eq!(given_up(5, &quick), Some(20_000), "the declared wait counts");
        let slow: Vec<_> = (0..10).map(|n| (n * 9000, 400)).collect();
        assert_eq!(given_up(1, &slow), Some(36_000), "five attempts");
        let changing = [(0, 404), (1000, 400), (2000, 404), (3000, 404), (4000, 404), (5000, 404)];
        assert_eq!(given_up(1, &changing), None);
        assert_eq!(given_up(1, &[(0, 503), (1000, 503), (2000, 503), (3000, 503), (4000, 503), (9000, 503)]), None);
    }

    #[tokio::test]
    async fn the_initial_delay_comes_before_the_time_for_the_attempts() {
        let begun = Instant::now();
        let mut delayed = check(Probe::Tcp, 3, 10);
        delayed.initial_delay = Duration::from_millis(200);
        let first = std::sync::Mutex::new(None);
        let attempt = || async {
            first.lock().unwrap().get_or_insert(begun.elapsed());
            Err(status(503))
        };
        let outcome = until_passed(&delayed, begun, attempt).await.unwrap_err();
        let first = first.into_inner().unwrap().unwrap();
        assert!(first >= delayed.initial_delay && outcome.after >= first, "{first:?} {outcome:?}");
        assert!(!outcome.early);
        let again = Instant::now();
        until_passed(&delayed, begun, || async { Ok(()) }).await.unwrap();
        assert!(again.elapsed() < delayed.initial_delay, "it counts from the start of the instance");
    }
}
