//! The standard streams of a task to which a caller is connected.

use std::time::Duration;

use tokio::{
    io::AsyncRead,
    sync::{mpsc, watch},
    time::timeout,
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

impl Terminal {
    pub(super) fn size(&self) -> TerminalSize {
        *self.size.borrow()
    }
}

/// Delay between two attempts to set the size of a terminal, and their number: the engine reports a start before the program
/// has its terminal.
const RESIZE_DELAY: Duration = Duration::from_millis(20);
const MAX_RESIZES: u32 = 50;

/// When a size is set again. Docker before 23 gives a terminal no size at the start, and a shell that begins (readline) reads
/// the size and sets what it has read: it may undo ours.
const REPEAT_DELAYS: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(100), Duration::from_millis(300), Duration::from_secs(1)];

/// Keeps the size of a task's terminal the same as the caller's. Ends when the size cannot change any more.
pub(super) async fn follow_size<R>(terminal: Option<Terminal>, resize: impl Fn(TerminalSize) -> R)
where
    R: Future<Output = Result<(), EngineError>>,
{
    let Some(Terminal { mut size, .. }) = terminal else { return };
    loop {
        let now = *size.borrow_and_update();
        set_size(now, &resize).await;
        let changed = async {
            for delay in REPEAT_DELAYS {
                if let Ok(changed) = timeout(delay, size.changed()).await {
                    return changed;
                }
                set_size(now, &resize).await;
            }
            size.changed().await
        };
        if changed.await.is_err() {
            return;
        }
    }
}

async fn set_size<R>(size: TerminalSize, resize: &impl Fn(TerminalSize) -> R)
where
    R: Future<Output = Result<(), EngineError>>,
{
    for _ in 0..MAX_RESIZES {
        match resize(size).await {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "cannot resize a terminal yet"),
        }
        tokio::time::sleep(RESIZE_DELAY).await;
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
