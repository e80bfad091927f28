//! Carries what running instances print from the engine into the logs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    InstancesError,
    logs::{Logs, Printed},
};
use crate::{
    engine::{ContainerId, Engine, LogOptions},
    model::InstanceId,
    store::Instance,
};

/// Lines that are written at a time.
const BATCH: usize = 256;
/// The wait before the engine, or the disk, is tried again.
const RETRY: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_millis(50);
/// How long the last lines of an ended instance are waited for.
const LAST_LINES: Duration = Duration::from_secs(5);

/// One pump a running instance; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Pumps(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    logs: Logs,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    /// Which instances are pumped; the receiver ends with its pump.
    running: StdMutex<HashMap<InstanceId, (watch::Receiver<()>, CancellationToken)>>,
}

impl Pumps {
    pub(super) fn new(engine: Engine, logs: Logs, tracker: TaskTracker, shutdown: CancellationToken) -> Self {
        Self(Arc::new(Inner { engine, logs, tracker, shutdown, running: StdMutex::default() }))
    }

    /// Sees to it that the instance's lines are kept, from the last one that was.
    pub(super) fn ensure(&self, row: &Instance) {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.get(&row.id).is_some_and(|(done, _)| done.has_changed().is_ok()) {
            return;
        }
        let (alive, done) = watch::channel(());
        let stop = self.0.shutdown.child_token();
        running.insert(row.id.clone(), (done, stop.clone()));
        let inner = Arc::clone(&self.0);
        let row = row.clone();
        self.0.tracker.spawn(async move {
            let _alive = alive;
            let _ = stop.run_until_cancelled(inner.pump(&row)).await;
        });
    }

    /// Waits until the last lines of an ended instance are kept, but not for ever.
    pub(super) async fn finish(&self, row: &Instance) {
        self.ensure(row);
        let entry = self.0.running.lock().unwrap_or_else(PoisonError::into_inner).get(&row.id).cloned();
        if let Some((mut done, stop)) = entry {
            if tokio::time::timeout(LAST_LINES, done.changed()).await.is_err() {
                tracing::warn!(instance = %row.id, "its last log lines came too slowly and are lost");
            }
            stop.cancel();
        }
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&row.id);
        self.0.logs.forget(row.app, &row.id).await;
    }
}

impl Inner {
    /// Returns when the container has ended, or is gone, and all that it printed is kept.
    async fn pump(&self, row: &Instance) {
        let container = ContainerId::from(&row.id);
        loop {
            let failed = self.pump_until_end(row, &container).await.err();
            if let Some(error) = &failed {
                tracing::debug!(%error, instance = %row.id, "its log is interrupted");
            }
            match self.engine.inspect(row.id.as_str()).await {
                Ok(Some(c)) if !c.state.is_alive() && failed.is_none() => return,
                Ok(None) => return,
                // The engine ends the log a moment before it says that the container has ended.
                Ok(Some(_)) if failed.is_none() => tokio::time::sleep(SOON).await,
                Ok(Some(_)) | Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    async fn pump_until_end(&self, row: &Instance, container: &ContainerId) -> Result<(), InstancesError> {
        let source = format!("{}.{}", row.process_type, row.ordinal);
        let since = self.logs.last_kept(row.app, &row.id).await?;
        let since = since.and_then(|nanos| jiff::Timestamp::from_nanosecond(i128::from(nanos)).ok());
        let options = LogOptions { since, follow: true, tail: None };
        let mut batches = self.engine.logs(container, options).ready_chunks(BATCH);
        while let Some(batch) = batches.next().await {
            let mut lines = Vec::with_capacity(batch.len());
            let mut failed = None;
            for line in batch {
                match line {
                    Ok(line) => lines.push(Printed {
                        nanos: i64::try_from(line.time.as_nanosecond()).unwrap_or(i64::MAX),
                        stderr: line.stderr,
                        text: line.text,
                    }),
                    Err(e) => failed = Some(e),
                }
            }
            if !lines.is_empty() {
                self.logs.append(row.app, &row.id, &source, lines).await?;
            }
            if let Some(e) = failed {
                return Err(e.into());
            }
        }
        Ok(())
    }
}
