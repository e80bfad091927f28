//! The standard streams of a task to which a caller is connected.

use std::time::Duration;

use tokio::{
    io::AsyncRead,
    sync::{mpsc, watch},
};

use crate::{
    engine::{EngineError, Printed},
    model::TerminalSize,
};

/// The terminal of a caller.
#[derive(Debug, Clone)]
pub struct Terminal {
    /// Value of `TERM`.
    pub name: String,
    /// Its size, and changes of it.
    pub size: watch::Receiver<TerminalSize>,
}

/// Delay between two attempts to set the size of a terminal, and their number: the engine reports a start before the program
/// has its terminal.
const RESIZE_DELAY: Duration = Duration::from_millis(20);
const MAX_RESIZES: u32 = 50;

/// Keeps the size of a task's terminal the same as the caller's. Ends when the size cannot change any more.
pub(super) async fn follow_size<R>(terminal: Option<Terminal>, resize: impl Fn(TerminalSize) -> R)
where
    R: Future<Output = Result<(), EngineError>>,
{
    let Some(Terminal { mut size, .. }) = terminal else { return };
    loop {
        let now = *size.borrow_and_update();
        for _ in 0..MAX_RESIZES {
            match resize(now).await {
                Ok(()) => break,
                Err(error) => tracing::debug!(%error, "cannot resize a terminal yet"),
            }
            tokio::time::sleep(RESIZE_DELAY).await;
        }
        if size.changed().await.is_err() {
            return;
        }
    }
}

/// The standard streams of a task to which a caller is connected.
pub struct TaskStreams {
    /// Standard input.
    pub stdin: Box<dyn AsyncRead + Send + Unpin>,
    /// Receives what the task prints. A receiver that is dropped ends the task.
    pub output: mpsc::Sender<Printed>,
    /// The terminal, if the caller has one.
    pub terminal: Option<Terminal>,
    /// Called when the process begins: until then the terminal is the caller's.
    pub on_begin: Option<Box<dyn FnOnce() + Send>>,
}

impl TaskStreams {
    pub(super) fn begin(&mut self) {
        if let Some(on_begin) = self.on_begin.take() {
            on_begin();
        }
    }
}
