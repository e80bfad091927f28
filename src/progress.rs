//! Where a stage says what it does: lines that go to whoever waits, and into the build's log.

use tokio::sync::mpsc;

use crate::model::Line;

/// The sending half of a stream of [`Line`]s. When nobody listens any more, lines are dropped.
#[derive(Debug, Clone)]
pub struct Progress(mpsc::Sender<Line>);

impl Progress {
    /// A bounded stream of lines.
    pub fn channel() -> (Self, mpsc::Receiver<Line>) {
        let (sender, receiver) = mpsc::channel(256);
        (Self(sender), receiver)
    }

    /// Says a line; waits while the reader is slow.
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
