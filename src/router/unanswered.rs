//! Reports the requests that no instance answered to the server, which writes them to the app's log.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::protocol::Unanswered;
use crate::model::ServiceKey;

/// Maximum number of characters of a path that are reported.
const MAX_PATH: usize = 200;

/// Maximum number of characters of a method that are reported.
const MAX_METHOD: usize = 20;

/// Maximum number of requests of one service that are reported in each period; further ones are counted.
const MAX_PER_PERIOD: u64 = 10;
const PERIOD: Duration = Duration::from_secs(1);
/// Maximum number of reports that wait for the server; further ones are lost.
const MAX_QUEUED_REPORTS: usize = 256;

pub(super) struct FailureReporter {
    periods: Mutex<HashMap<ServiceKey, Period>>,
    reports: mpsc::Sender<Unanswered>,
}

struct Period {
    begun: Instant,
    count: u64,
}

impl FailureReporter {
    /// A reporter, and the reports that it lets through.
    pub(super) fn new() -> (Self, mpsc::Receiver<Unanswered>) {
        let (reports, receiver) = mpsc::channel(MAX_QUEUED_REPORTS);
        (Self { periods: Mutex::default(), reports }, receiver)
    }

    /// Reports a request; a long method or path is cut.
    pub(super) fn report(&self, unanswered: Unanswered) {
        if let Some(suppressed) = self.admit(&unanswered.service, Instant::now()) {
            let method = unanswered.method.chars().take(MAX_METHOD).collect();
            let path = unanswered.path.chars().take(MAX_PATH).collect();
            // A server that is not connected, or reads too slowly, misses the report.
            let _ = self.reports.try_send(Unanswered { method, path, suppressed, ..unanswered });
        }
    }

    /// Counts a request of the service. If it is to be reported: how many before it were not.
    fn admit(&self, service: &ServiceKey, now: Instant) -> Option<u64> {
        let mut periods = self.periods.lock().unwrap_or_else(PoisonError::into_inner);
        match periods.get_mut(service) {
            Some(period) if now - period.begun < PERIOD => {
                period.count += 1;
                (period.count <= MAX_PER_PERIOD).then_some(0)
            }
            before => {
                let suppressed = before.map_or(0, |period| period.count.saturating_sub(MAX_PER_PERIOD));
                periods.insert(service.clone(), Period { begun: now, count: 1 });
                Some(suppressed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_beyond_the_limit_are_suppressed_and_counted() {
        let (reporter, _reports) = FailureReporter::new();
        let begin = Instant::now();
        let (a, b): (ServiceKey, ServiceKey) = ("a/web/8080".parse().unwrap(), "b/web/8080".parse().unwrap());
        let reported: Vec<_> = (0..25).filter_map(|_| reporter.admit(&a, begin)).collect();
        assert_eq!(reported, [0; 10]);
        assert_eq!(reporter.admit(&b, begin), Some(0), "each service has its own limit");
        assert_eq!(reporter.admit(&a, begin + PERIOD), Some(15));
        assert_eq!(reporter.admit(&a, begin + PERIOD), Some(0));
    }
}
