//! Reports the requests that no instance answered to the server, which writes them to the app's log.

use std::time::Duration;

use tokio::sync::mpsc;

use super::protocol::Unanswered;
use crate::{log_limit::LogLimit, model::ServiceKey};

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
    limit: LogLimit<ServiceKey>,
    reports: mpsc::Sender<Unanswered>,
}

impl FailureReporter {
    /// A reporter, and the reports that it lets through.
    pub(super) fn new() -> (Self, mpsc::Receiver<Unanswered>) {
        let (reports, receiver) = mpsc::channel(MAX_QUEUED_REPORTS);
        (Self { limit: LogLimit::new(MAX_PER_PERIOD, PERIOD), reports }, receiver)
    }

    /// Reports a request; a long method or path is cut.
    pub(super) fn report(&self, unanswered: Unanswered) {
        if let Some(suppressed) = self.limit.admit(unanswered.service.clone()) {
            let method = unanswered.method.chars().take(MAX_METHOD).collect();
            let path = unanswered.path.chars().take(MAX_PATH).collect();
            // A server that is not connected, or reads too slowly, misses the report.
            let _ = self.reports.try_send(Unanswered { method, path, suppressed, ..unanswered });
        }
    }
}
