//! The queue of builds: first come, first served; each waiting build reports how many are ahead of it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::progress::Progress;

/// The running builds and the waiting ones; cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue(Arc<QueueShared>);

#[derive(Debug)]
struct QueueShared {
    max_running: usize,
    builds: Mutex<QueuedBuilds>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct QueuedBuilds {
    running: usize,
    next_ticket: u64,
    /// Tickets of the waiting builds, in order of arrival.
    waiting: VecDeque<u64>,
}

/// The right to build, until it is dropped.
#[derive(Debug)]
pub struct Turn(Arc<QueueShared>);

/// The place of a waiting build in the queue, until it is dropped.
struct Ticket<'a> {
    queue: &'a QueueShared,
    number: u64,
}

impl Queue {
    /// A queue that lets at most `max_running` builds run at a time.
    pub fn new(max_running: usize) -> Self {
        Self(Arc::new(QueueShared { max_running, builds: Mutex::default(), changed: watch::Sender::new(()) }))
    }

    /// Waits for a turn; reports how many builds must end first, whenever that changes.
    pub async fn turn(&self, progress: &Progress) -> Turn {
        let mut changed = self.0.changed.subscribe();
        let ticket = Ticket::draw(&self.0);
        let mut reported = 0;
        loop {
            let ahead = {
                let mut builds = self.0.lock();
                let ahead = builds.waiting.iter().position(|number| *number == ticket.number).unwrap_or(0);
                if ahead == 0 && builds.running < self.0.max_running {
                    builds.running += 1;
                    break;
                }
                // Builds ahead of this one that can start at once need not be waited for.
                (builds.running + ahead + 1).saturating_sub(self.0.max_running)
            };
            if ahead != reported && ahead > 0 {
                let builds = if ahead == 1 { "build" } else { "builds" };
                progress.step(format!("Waiting for {ahead} {builds} to end before this one")).await;
                reported = ahead;
            }
            // The sender lives in `self`.
            let _ = changed.changed().await;
        }
        let turn = Turn(Arc::clone(&self.0));
        drop(ticket);
        turn
    }
}

impl QueueShared {
    fn lock(&self) -> MutexGuard<'_, QueuedBuilds> {
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Ticket<'a> {
    fn draw(queue: &'a QueueShared) -> Self {
        let mut builds = queue.lock();
        let number = builds.next_ticket;
        builds.next_ticket += 1;
        builds.waiting.push_back(number);
        Self { queue, number }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.queue.lock().waiting.retain(|number| *number != self.number);
        self.queue.changed.send_replace(());
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures_util::{FutureExt, poll};

    use super::*;

    #[tokio::test]
    async fn turns_are_in_order_and_builds_ahead_are_reported() {
        let queue = Queue::new(2);
        let (progress, mut lines) = Progress::channel();
        let first = queue.turn(&progress).await;
        let second = queue.turn(&progress).await;
        let mut third = Box::pin(queue.turn(&progress));
        let mut fourth = Box::pin(queue.turn(&progress));
        assert!(poll!(&mut third).is_pending() && poll!(&mut fourth).is_pending());
        let mut reported = || lines.recv().now_or_never().flatten().map(|line| line.to_string());
        assert_eq!(reported().unwrap(), "-----> Waiting for 1 build to end before this one");
        assert_eq!(reported().unwrap(), "-----> Waiting for 2 builds to end before this one");

        drop(first);
        // The fourth does not overtake the third, although it is polled first.
        assert!(poll!(&mut fourth).is_pending());
        let Poll::Ready(third) = poll!(&mut third) else { panic!("it is the third's turn") };
        assert!(poll!(&mut fourth).is_pending());
        assert_eq!(reported().unwrap(), "-----> Waiting for 1 build to end before this one");
        drop((second, third));
        assert!(poll!(&mut fourth).is_ready());
        assert_eq!(reported(), None);
    }

    #[tokio::test]
    async fn a_cancelled_wait_does_not_delay_the_others() {
        let queue = Queue::new(1);
        let (progress, _lines) = Progress::channel();
        let first = queue.turn(&progress).await;
        let mut second = Box::pin(queue.turn(&progress));
        let mut third = Box::pin(queue.turn(&progress));
        assert!(poll!(&mut second).is_pending() && poll!(&mut third).is_pending());
        drop(second);
        drop(first);
        assert!(poll!(&mut third).is_ready());
    }
}
