//! The tasks that this server runs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{model::TaskId, store::Task};

/// Reason for which a task is stopped whose caller went away.
pub(super) const DISCONNECTED: &str = "the caller disconnected";
/// Reason for which a task with a caller is stopped when the server stops, or found by the next one.
pub(super) const INTERRUPTED: &str = "interrupted: the server stopped";

/// The tasks that this server runs; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Arc<Mutex<HashMap<TaskId, Control>>>);

/// Controls a running task.
#[derive(Debug, Clone)]
pub(super) struct Control {
    stop: CancellationToken,
    reason: Arc<OnceLock<String>>,
    /// The task as its end was recorded: its row may be forgotten soon after.
    recorded: Arc<OnceLock<Task>>,
    /// Changes when output was written; closed when the task has ended and its end is recorded.
    written: watch::Receiver<()>,
}

/// A task's side of its control. While it exists, the task is among the running ones.
pub(super) struct RunningTask {
    id: TaskId,
    running: Running,
    control: Control,
    pub(super) written: Option<watch::Sender<()>>,
}

impl Running {
    /// Registers a task; `None` if it is registered already.
    pub(super) fn register(&self, id: &TaskId) -> Option<RunningTask> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.contains_key(id) {
            return None;
        }
        let (sender, written) = watch::channel(());
        let control =
            Control { stop: CancellationToken::new(), reason: Arc::default(), recorded: Arc::default(), written };
        all.insert(id.clone(), control.clone());
        Some(RunningTask { id: id.clone(), running: self.clone(), control, written: Some(sender) })
    }

    /// Whether a task of this identity is registered.
    pub(super) fn has(&self, id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().any(|known| known.as_str() == id)
    }

    pub(super) fn get(&self, id: &TaskId) -> Option<Control> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

impl Control {
    /// Has the task stopped, for this reason. The first reason counts.
    pub(super) fn stop(&self, reason: impl Into<String>) {
        let _ = self.reason.set(reason.into());
        self.stop.cancel();
    }

    /// Changes when output was written; closed when the task has ended.
    pub(super) fn written(&self) -> watch::Receiver<()> {
        self.written.clone()
    }

    /// Waits until the task has ended; returns it as its end was recorded. `None` if that was not possible: the server stops.
    pub(super) async fn ended(&self) -> Option<Task> {
        let mut written = self.written.clone();
        while written.changed().await.is_ok() {}
        self.recorded.get().cloned()
    }
}

impl RunningTask {
    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// Waits until somebody wants the task stopped; returns the reason.
    pub(super) async fn stopped(&self) -> String {
        self.control.stop.cancelled().await;
        self.reason()
    }

    /// Why the task is to be stopped, if somebody wants that.
    pub(super) fn stop_requested(&self) -> Option<String> {
        self.control.stop.is_cancelled().then(|| self.reason())
    }

    fn reason(&self) -> String {
        self.control.reason.get().cloned().unwrap_or_else(|| "stopped".to_owned())
    }

    /// The end of the task is recorded.
    pub(super) fn recorded(&self, task: Task) {
        let _ = self.control.recorded.set(task);
    }

    /// Notifies readers that output was written.
    pub(super) fn wrote(&self) {
        if let Some(written) = &self.written {
            written.send_replace(());
        }
    }
}

impl Drop for RunningTask {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        // Only now: who sees that it is closed finds the task no longer among the running ones.
        self.written = None;
    }
}
