//! A time-out of a stream, which counts only while the stream waits. It has no timer until it waits for the first time, and
//! moving bytes do not touch the timer, since they move more often than it ends.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

pub(super) struct Stall {
    limit: Duration,
    /// Since when the stream waits.
    since: Option<Instant>,
    /// May still be set for an earlier wait.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, since: None, timer: None }
    }

    /// The stream waits no more.
    pub(super) fn end(&mut self) {
        self.since = None;
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// The stream waits; ready when it has done so for too long, else the task is woken by then. The next wait begins anew.
    pub(super) fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.since.get_or_insert_with(Instant::now) + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                self.since = None;
                self.timer = None;
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_wait_ends_after_the_limit_and_each_wait_begins_anew() {
        let limit = Duration::from_millis(200);
        let mut stall = Stall::new(limit);
        let a_part = tokio::time::timeout(limit / 2, poll_fn(|cx| stall.poll_wait(cx))).await;
        if a_part.is_err() {
            assert!(stall.is_waiting());
        }
        stall.end();
        let begun = Instant::now();
        poll_fn(|cx| stall.poll_wait(cx)).await;
        assert!(begun.elapsed() >= limit, "the timer of the wait before does not count");
        assert!(!stall.is_waiting());
    }
}
