//! The standard streams of a task to which a caller is connected.

use tokio::{
    io::AsyncRead,
    sync::{mpsc, watch},
};

use crate::engine::{Printed, TerminalSize};

/// The terminal of a caller.
#[derive(Debug, Clone)]
pub struct Terminal {
    /// Value of `TERM`.
    pub name: String,
    /// Its size, and changes of it.
    pub size: watch::Receiver<TerminalSize>,
}

/// The standard streams of a task to which a caller is connected.
pub struct TaskStreams {
    /// Standard input.
    pub stdin: Box<dyn AsyncRead + Send + Unpin>,
    /// Receives what the task prints. A receiver that is dropped ends the task.
    pub output: mpsc::Sender<Printed>,
    /// The terminal, if the caller has one.
    pub terminal: Option<Terminal>,
}
