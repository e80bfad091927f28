//! How long the phases of a build take.

use std::time::Instant;

use super::protocol::Phase;

/// Durations of the phases.
pub(super) struct Clock {
    since: Instant,
    pub(super) laps: Vec<(Phase, u64)>,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), laps: Vec::new() }
    }

    /// Ends a phase.
    pub(super) fn lap(&mut self, phase: Phase) {
        let milliseconds = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.laps.push((phase, milliseconds));
        self.since = Instant::now();
    }
}
