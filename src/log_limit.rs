//! A limit on lines in a log: whoever causes them from outside must not fill the log with them.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How many periods a kind is kept, with the number of its lines that were suppressed.
const KEPT_PERIODS: u32 = 10;

/// Lets a number of lines of each kind through in a period, and counts those that it suppresses. Kinds may come from outside, such as
/// keys: each takes memory for ten periods only.
#[derive(Debug)]
pub struct LogLimit<K> {
    max: u64,
    period: Duration,
    kinds: Mutex<HashMap<K, Period>>,
}

#[derive(Debug)]
struct Period {
    begun: Instant,
    count: u64,
}

impl<K: Eq + Hash> LogLimit<K> {
    /// At most `max` lines of each kind in each `period`.
    pub fn new(max: u64, period: Duration) -> Self {
        Self { max, period, kinds: Mutex::default() }
    }

    /// Counts a line. If it is to be logged: how many of its kind before it were suppressed.
    pub fn admit(&self, kind: K) -> Option<u64> {
        self.admit_at(kind, Instant::now())
    }

    fn admit_at(&self, kind: K, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        match kinds.get_mut(&kind) {
            Some(period) if now - period.begun < self.period => {
                period.count += 1;
                (period.count <= self.max).then_some(0)
            }
            Some(period) => {
                let before = std::mem::replace(period, Period { begun: now, count: 1 });
                Some(before.count.saturating_sub(self.max))
            }
            None => {
                kinds.retain(|_, period| now - period.begun < self.period * KEPT_PERIODS);
                kinds.insert(kind, Period { begun: now, count: 1 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_suppressed_and_counted() {
        const PERIOD: Duration = Duration::from_secs(1);
        let limit = LogLimit::new(10, PERIOD);
        let begin = Instant::now();
        let logged: Vec<_> = (0..25).filter_map(|_| limit.admit_at("a", begin)).collect();
        assert_eq!(logged, [0; 10]);
        assert_eq!(limit.admit_at("b", begin), Some(0), "each kind has its own limit");
        assert_eq!(limit.admit_at("a", begin + PERIOD), Some(15));
        assert_eq!(limit.admit_at("a", begin + PERIOD), Some(0));
    }

    #[test]
    fn old_kinds_take_no_memory() {
        const PERIOD: Duration = Duration::from_secs(1);
        let limit = LogLimit::new(1, PERIOD);
        let begin = Instant::now();
        for kind in 0..1000 {
            assert_eq!(limit.admit_at(kind, begin + PERIOD * kind), Some(0));
        }
        assert_eq!(limit.kinds.lock().unwrap().len(), 10);
    }
}
