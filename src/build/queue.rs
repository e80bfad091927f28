//! Who builds next: first come, first served, and each that waits is told its place.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::progress::Progress;

/// The builds that run and those that wait.
#[derive(Debug, Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    most: usize,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    next_ticket: u64,
    waiting: VecDeque<u64>,
}

/// The right to build, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    inner: Arc<Inner>,
}

/// A place in the queue; whoever goes away gives it up.
struct Place<'a> {
    inner: &'a Inner,
    ticket: u64,
}

impl Queue {
    /// At most so many builds at a time.
    pub fn new(most: usize) -> Self {
        Self { inner: Arc::new(Inner { most, state: Mutex::default(), changed: watch::Sender::new(()) }) }
    }

    /// Waits for a turn; says how many builds must end first, whenever that changes.
    pub async fn turn(&self, progress: &Progress) -> Turn {
        let mut changed = self.inner.changed.subscribe();
        let place = Place::take(&self.inner);
        let mut told = 0;
        loop {
            let ahead = {
                let mut state = self.inner.lock();
                let ahead = state.waiting.iter().position(|ticket| *ticket == place.ticket).unwrap_or(0);
                if ahead == 0 && state.running < self.inner.most {
                    state.running += 1;
                    break;
                }
                // With some free, those before this one start without anyone's end.
                (state.running + ahead + 1).saturating_sub(self.inner.most)
            };
            if ahead != told && ahead > 0 {
                let builds = if ahead == 1 { "build" } else { "builds" };
                progress.step(format!("Waiting for {ahead} {builds} to end before this one")).await;
                told = ahead;
            }
            // The sender lives in `self`.
            let _ = changed.changed().await;
        }
        let turn = Turn { inner: self.inner.clone() };
        drop(place);
        turn
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Place<'a> {
    fn take(inner: &'a Inner) -> Self {
        let mut state = inner.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(ticket);
        Self { inner, ticket }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.inner.lock().waiting.retain(|ticket| *ticket != self.ticket);
        self.inner.changed.send_replace(());
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.inner.lock().running -= 1;
        self.inner.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures_util::{FutureExt, poll};

    use super::*;

    #[tokio::test]
    async fn turns_come_in_order_and_places_are_told() {
        let queue = Queue::new(2);
        let (progress, mut lines) = Progress::channel();
        let first = queue.turn(&progress).await;
        let second = queue.turn(&progress).await;
        let mut third = Box::pin(queue.turn(&progress));
        let mut fourth = Box::pin(queue.turn(&progress));
        assert!(poll!(&mut third).is_pending() && poll!(&mut fourth).is_pending());
        let mut told = || lines.recv().now_or_never().flatten().map(|line| line.to_string());
        assert_eq!(told().unwrap(), "-----> Waiting for 1 build to end before this one");
        assert_eq!(told().unwrap(), "-----> Waiting for 2 builds to end before this one");

        drop(first);
        // The fourth does not overtake, though it looks first.
        assert!(poll!(&mut fourth).is_pending());
        let Poll::Ready(third) = poll!(&mut third) else { panic!("it is the third's turn") };
        assert!(poll!(&mut fourth).is_pending());
        assert_eq!(told().unwrap(), "-----> Waiting for 1 build to end before this one");
        drop((second, third));
        assert!(poll!(&mut fourth).is_ready());
        assert_eq!(told(), None);
    }

    #[tokio::test]
    async fn whoever_goes_away_holds_nobody_up() {
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
