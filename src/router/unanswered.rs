//! Requests that no instance answered: told to the server, for the app's log, so many a second and not more.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::protocol::Unanswered;

/// So many of one service are told in each period; the others are counted.
const MOST: u64 = 10;
const PERIOD: Duration = Duration::from_secs(1);
/// What waits for the server at the most. Beyond it they are lost.
const QUEUE: usize = 256;

pub(super) struct Unheard {
    periods: Mutex<HashMap<String, Period>>,
    told: mpsc::Sender<Unanswered>,
}

struct Period {
    begun: Instant,
    count: u64,
}

impl Unheard {
    pub(super) fn new() -> (Self, mpsc::Receiver<Unanswered>) {
        let (told, tell) = mpsc::channel(QUEUE);
        (Self { periods: Mutex::default(), told }, tell)
    }

    pub(super) fn tell(&self, unanswered: Unanswered) {
        if let Some(untold) = self.count(&unanswered.service, Instant::now()) {
            // Who is not there, or reads too slowly, misses it.
            let _ = self.told.try_send(Unanswered { untold, ..unanswered });
        }
    }

    /// Whether one more of the service's is told; and how many before it were not.
    fn count(&self, service: &str, now: Instant) -> Option<u64> {
        let mut periods = self.periods.lock().unwrap_or_else(PoisonError::into_inner);
        match periods.get_mut(service) {
            Some(period) if now - period.begun < PERIOD => {
                period.count += 1;
                (period.count <= MOST).then_some(0)
            }
            before => {
                let untold = before.map_or(0, |period| period.count.saturating_sub(MOST));
                periods.insert(service.to_owned(), Period { begun: now, count: 1 });
                Some(untold)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted() {
        let (unheard, _tell) = Unheard::new();
        let begin = Instant::now();
        let told: Vec<_> = (0..25).filter_map(|_| unheard.count("a", begin)).collect();
        assert_eq!(told, [0; 10]);
        assert_eq!(unheard.count("b", begin), Some(0), "one service's flood hides no other");
        assert_eq!(unheard.count("a", begin + PERIOD), Some(15));
        assert_eq!(unheard.count("a", begin + PERIOD), Some(0));
    }
}
