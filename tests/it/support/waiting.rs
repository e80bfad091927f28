//! Waiting for a condition, with one deadline for all tests.

use std::time::{Duration, Instant};

/// Time that anything may take before a test fails.
pub const DEADLINE: Duration = Duration::from_mins(3);

/// Interval between two looks at a condition.
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `ready` returns a value; fails the test after the deadline.
#[track_caller]
pub fn eventually<T>(what: &str, ready: impl FnMut() -> Option<T>) -> T {
    before_deadline(ready).unwrap_or_else(|| panic!("not within {DEADLINE:?}: {what}"))
}

/// Waits until `ready` returns a value; `None` after the deadline.
pub fn before_deadline<T>(mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + DEADLINE;
    loop {
        let value = ready();
        if value.is_some() || Instant::now() >= end {
            return value;
        }
        std::thread::sleep(INTERVAL);
    }
}

/// The same for an asynchronous condition.
pub async fn until<F: Future<Output = bool>>(what: &str, mut ready: impl FnMut() -> F) {
    let wait = async {
        while !ready().await {
            tokio::time::sleep(INTERVAL).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"));
}

/// Waits until a counter that has started has not moved for a second; returns its value.
#[track_caller]
pub fn at_rest(what: &str, mut read: impl FnMut() -> usize) -> usize {
    let mut last = (0, Instant::now());
    eventually(what, || {
        let now = read();
        if now != last.0 {
            last = (now, Instant::now());
        }
        (now > 0 && last.1.elapsed() > Duration::from_secs(1)).then_some(now)
    })
}
