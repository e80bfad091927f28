//! What is done from time to time: each has a name, a period, and an activation without input that may be repeated at any
//! time. One driver runs them all, on time or when woken, and knows when each ran last and with what result.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Something that is done from time to time.
pub trait Periodic: Send + Sync + 'static {
    /// Unique name, for the API: lower-case words with hyphens.
    fn name(&self) -> &'static str;

    /// The longest time between two activations.
    fn period(&self) -> Duration;

    /// Whether it is activated at once when the driver starts, and not only after the first period.
    fn at_start(&self) -> bool {
        false
    }

    /// Does what is due. It must be safe to repeat, and to be dropped at any await.
    ///
    /// # Errors
    ///
    /// One line that says what failed; the driver logs it.
    fn activate(&self) -> impl Future<Output = Result<Activated, String>> + Send;
}

/// What an activation did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activated {
    /// What was done, in one line; empty if nothing was due.
    pub summary: String,
    /// When the next activation is due, if that is earlier than a period from now.
    pub next: Option<Duration>,
}

impl Activated {
    /// Did this.
    pub fn did(summary: impl Into<String>) -> Self {
        Self { summary: summary.into(), next: None }
    }
}

/// When something periodic ran last, and with what result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRun {
    /// Time of the start.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What was done, or what failed.
    pub result: Result<String, String>,
}

/// Something periodic, and its last run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeriodicStatus {
    /// Name.
    pub name: &'static str,
    /// The longest time between two activations.
    pub period: Duration,
    /// Number of activations.
    pub runs: u64,
    /// Number of those that failed.
    pub failures: u64,
    /// The last one that has ended.
    pub last: Option<LastRun>,
}

/// Runs everything periodic, until `shutdown`; cheap to clone.
#[derive(Debug, Clone)]
pub struct Driver {
    tracker: TaskTracker,
    shutdown: CancellationToken,
    statuses: Arc<Mutex<Vec<PeriodicStatus>>>,
}

/// Wakes something periodic before it is due; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Waker(Arc<Notify>);

impl Waker {
    /// Has it activated soon.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

impl Driver {
    /// A driver whose tasks are on `tracker`.
    pub fn new(tracker: TaskTracker, shutdown: CancellationToken) -> Self {
        Self { tracker, shutdown, statuses: Arc::default() }
    }

    /// Runs something periodic from now on, which nobody wakes.
    pub fn start(&self, periodic: impl Periodic) {
        self.start_woken_by(&Waker::default(), periodic);
    }

    /// Runs something periodic from now on.
    pub fn start_woken_by(&self, waker: &Waker, periodic: impl Periodic) {
        let index = {
            let mut statuses = self.lock();
            let (name, period) = (periodic.name(), periodic.period());
            statuses.push(PeriodicStatus { name, period, runs: 0, failures: 0, last: None });
            statuses.len() - 1
        };
        if periodic.at_start() {
            waker.wake();
        }
        let (driver, woken) = (self.clone(), Arc::clone(&waker.0));
        self.tracker.spawn(async move {
            let shutdown = driver.shutdown.clone();
            let _ = shutdown.run_until_cancelled(driver.drive(index, periodic, &woken)).await;
        });
    }

    async fn drive(&self, index: usize, periodic: impl Periodic, woken: &Notify) {
        let mut wait = periodic.period();
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = woken.notified() => {}
            }
            let (at, begun) = (Timestamp::now(), tokio::time::Instant::now());
            // It may be dropped at any await, so the next can cope with what one that panics leaves.
            let activated = AssertUnwindSafe(Box::pin(periodic.activate())).catch_unwind().await;
            let activated = activated.unwrap_or_else(|_| Err("it panicked".to_owned()));
            let next = activated.as_ref().ok().and_then(|activated| activated.next);
            wait = next.unwrap_or(periodic.period()).min(periodic.period());
            let result = activated.map(|activated| activated.summary);
            match &result {
                Ok(summary) if summary.is_empty() => {}
                Ok(summary) => tracing::info!(name = periodic.name(), "{summary}"),
                Err(error) => {
                    tracing::error!(name = periodic.name(), error, "a periodic activation failed; it is repeated");
                }
            }
            let status = &mut self.lock()[index];
            status.runs += 1;
            status.failures += u64::from(result.is_err());
            status.last = Some(LastRun { at, took: begun.elapsed(), result });
        }
    }

    /// Everything periodic, in the order in which it was started.
    pub fn statuses(&self) -> Vec<PeriodicStatus> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<PeriodicStatus>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    struct Counting {
        count: Arc<AtomicU64>,
        at_start: bool,
    }

    impl Periodic for Counting {
        fn name(&self) -> &'static str {
            "count"
        }

        fn period(&self) -> Duration {
            Duration::from_mins(1)
        }

        fn at_start(&self) -> bool {
            self.at_start
        }

        async fn activate(&self) -> Result<Activated, String> {
            match self.count.fetch_add(1, Ordering::Relaxed) + 1 {
                2 => Err("two is too many".into()),
                5 => panic!("five is far too many"),
                3 => Ok(Activated { next: Some(Duration::from_millis(1)), ..Activated::did("three") }),
                count => Ok(Activated::did(count.to_string())),
            }
        }
    }

    #[tokio::test]
    async fn an_activation_is_due_by_time_or_when_woken_and_its_result_is_known() {
        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let driver = Driver::new(tracker.clone(), shutdown.clone());
        let count = Arc::new(AtomicU64::new(0));
        let waker = Waker::default();
        driver.start_woken_by(&waker, Counting { count: Arc::clone(&count), at_start: true });
        let runs = async |wanted: u64| {
            loop {
                let status = driver.statuses().remove(0);
                if status.runs >= wanted {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        };
        assert_eq!(runs(1).await.last.unwrap().result, Ok("1".into()));
        waker.wake();
        let status = runs(2).await;
        assert_eq!((status.runs, status.failures), (2, 1));
        assert_eq!(status.last.unwrap().result, Err("two is too many".into()));
        waker.wake();
        // The third activation says when the fourth is due.
        assert_eq!(runs(4).await.last.unwrap().result, Ok("4".into()));
        waker.wake();
        let status = runs(5).await;
        assert_eq!((status.failures, status.last.unwrap().result), (2, Err("it panicked".into())));
        waker.wake();
        assert_eq!(runs(6).await.last.unwrap().result, Ok("6".into()), "it is activated again");
        shutdown.cancel();
        tracker.close();
        tracker.wait().await;
        waker.wake();
        tokio::task::yield_now().await;
        assert_eq!(count.load(Ordering::Relaxed), 6);
    }

    #[tokio::test]
    async fn the_first_activation_is_due_after_a_period_unless_it_is_wanted_at_once() {
        let driver = Driver::new(TaskTracker::new(), CancellationToken::new());
        driver.start(Counting { count: Arc::default(), at_start: false });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let expected =
            PeriodicStatus { name: "count", period: Duration::from_mins(1), runs: 0, failures: 0, last: None };
        assert_eq!(driver.statuses(), [expected]);
    }
}
