//! Progress: the lines that a running operation sends to the caller, and into the build log.

use tokio::sync::mpsc;

use crate::model::Line;

/// Number of lines that a slow reader may fall behind before the sender waits.
const CAPACITY: usize = 256;

/// The sending half of a stream of [`Line`]s. Lines are dropped once the receiver is dropped.
#[derive(Debug, Clone)]
pub struct Progress(mpsc::Sender<Line>);

impl Progress {
    /// A bounded stream of lines. To only pass lines on, use [`relay`].
    pub fn channel() -> (Self, mpsc::Receiver<Line>) {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        (Self(sender), receiver)
    }

    /// Sends a line; waits while the reader is slow.
    pub async fn line(&self, line: Line) {
        let _ = self.0.send(line).await;
    }

    /// `-----> text`
    pub async fn step(&self, text: impl Into<String>) {
        self.line(Line::Step(text.into())).await;
    }

    /// `=====> text`
    pub async fn header(&self, text: impl Into<String>) {
        self.line(Line::Header(text.into())).await;
    }

    /// Seven spaces and text.
    pub async fn detail(&self, text: impl Into<String>) {
        self.line(Line::Detail(text.into())).await;
    }

    /// ` !     text`
    pub async fn trouble(&self, text: impl Into<String>) {
        self.line(Line::Trouble(text.into())).await;
    }
}

/// Runs `work` with a [`Progress`] of its own and hands each of its lines to `sink`, in the order in which they are
/// sent. Returns the result of `work` when the last line has been handed on: that is, when no clone of the progress is
/// left.
pub async fn relay<W, S>(work: impl FnOnce(Progress) -> W, mut sink: impl FnMut(Line) -> S) -> W::Output
where
    W: Future,
    S: Future<Output = ()>,
{
    let (progress, mut lines) = Progress::channel();
    let forward = async {
        while let Some(line) = lines.recv().await {
            sink(line).await;
        }
    };
    tokio::join!(work(progress), forward).0
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn a_relay_hands_on_every_line_in_order_and_returns_the_result() {
        let mut received = Vec::new();
        let count = 2 * CAPACITY;
        let send = |progress: Progress| async move {
            for number in 0..count {
                progress.detail(number.to_string()).await;
            }
            "done"
        };
        let slow = |line| {
            received.push(line);
            tokio::task::yield_now()
        };
        assert_eq!(relay(send, slow).await, "done");
        let expected: Vec<_> = (0..count).map(|number| Line::Detail(number.to_string())).collect();
        assert_eq!(received, expected);
    }

    #[tokio::test]
    async fn a_relay_waits_for_the_lines_of_a_clone_that_outlives_the_work() {
        let mut received = Vec::new();
        let spawn = |progress: Progress| async move {
            tokio::spawn(async move {
                tokio::task::yield_now().await;
                progress.step("late").await;
            });
        };
        let collect = |line| {
            received.push(line);
            ready(())
        };
        relay(spawn, collect).await;
        assert_eq!(received, [Line::Step("late".to_owned())]);
    }
}
