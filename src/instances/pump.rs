//! Copies the output of running instances from the engine to the logs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    error::InstancesError,
    logs::{Logs, PrintedLine},
};
use crate::{
    engine::{ContainerId, LogOptions},
    model::InstanceId,
    store::Instance,
    workload::Runtime,
};

/// Number of lines that are written at a time.
const MAX_BATCH: usize = 64;
/// Delay before a retry after an error of the engine or the disk.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Delay before a container whose output has ended is inspected again.
const EXIT_DELAY: Duration = Duration::from_millis(50);
/// Longest wait for the last lines of an ended instance.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(5);

/// The pumps of all running instances, one for each; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Pumps(Arc<RunningPumps>);

#[derive(Debug)]
struct RunningPumps {
    runtime: Runtime,
    logs: Logs,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    running: StdMutex<HashMap<InstanceId, Pump>>,
}

#[derive(Debug, Clone)]
struct Pump {
    /// Closed when the pump ends.
    end: watch::Receiver<()>,
    stop: CancellationToken,
}

impl Pumps {
    pub(super) fn new(runtime: Runtime, logs: Logs, tracker: TaskTracker, shutdown: CancellationToken) -> Self {
        Self(Arc::new(RunningPumps { runtime, logs, tracker, shutdown, running: StdMutex::default() }))
    }

    /// Starts the pump of an instance unless it runs. It continues after the last line that is stored.
    pub(super) fn ensure(&self, row: &Instance) {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.get(&row.id).is_some_and(|pump| pump.end.has_changed().is_ok()) {
            return;
        }
        let (alive, end) = watch::channel(());
        let stop = self.0.shutdown.child_token();
        running.insert(row.id.clone(), Pump { end, stop: stop.clone() });
        let pumps = Arc::clone(&self.0);
        let row = row.clone();
        self.0.tracker.spawn(async move {
            let _alive = alive;
            let _ = stop.run_until_cancelled(pumps.pump(&row)).await;
        });
    }

    /// Waits for a limited time until the last lines of an ended instance are stored.
    pub(super) async fn finish(&self, row: &Instance) {
        self.ensure(row);
        let pump = self.0.running.lock().unwrap_or_else(PoisonError::into_inner).get(&row.id).cloned();
        if let Some(mut pump) = pump {
            if tokio::time::timeout(LAST_LINES_TIMEOUT, pump.end.changed()).await.is_err() {
                tracing::warn!(instance = %row.id, "the instance's last log lines are lost: reading them took too long");
            }
            pump.stop.cancel();
        }
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&row.id);
        self.0.logs.forget(row.app, &row.id).await;
    }
}

impl RunningPumps {
    /// Returns when the container has ended and all its output is stored, or when the container is removed.
    async fn pump(&self, row: &Instance) {
        let container = ContainerId::from(&row.id);
        loop {
            let failed = self.pump_until_end(row, &container, true).await.err();
            if let Some(error) = &failed {
                tracing::debug!(%error, instance = %row.id, "cannot copy the instance's output; retrying");
            }
            match self.runtime.observe(row.id.as_str()).await {
                Ok(Some(c)) if !c.state.is_alive() && failed.is_none() => {
                    // The engine may end a stream that follows before it has written what was printed without a line ending.
                    match self.pump_until_end(row, &container, false).await {
                        Ok(()) => return,
                        Err(error) => {
                            tracing::debug!(%error, instance = %row.id, "cannot copy the instance's last lines; retrying");
                            tokio::time::sleep(RETRY_DELAY).await;
                        }
                    }
                }
                Ok(None) => return,
                // The engine closes the output shortly before it reports that the container has ended.
                Ok(Some(_)) if failed.is_none() => tokio::time::sleep(EXIT_DELAY).await,
                Ok(Some(_)) | Err(_) => tokio::time::sleep(RETRY_DELAY).await,
            }
        }
    }

    async fn pump_until_end(
        &self,
        row: &Instance,
        container: &ContainerId,
        follow: bool,
    ) -> Result<(), InstancesError> {
        let after = self.logs.written_until(row.app, &row.id).await?;
        let options = LogOptions { after, follow, tail: None };
        let mut batches = self.runtime.logs(container, options).ready_chunks(MAX_BATCH);
        while let Some(batch) = batches.next().await {
            let mut lines = Vec::with_capacity(batch.len());
            let mut failed = None;
            for line in batch {
                match line {
                    Ok(line) => lines.push(PrintedLine {
                        nanos: i64::try_from(line.time.as_nanosecond()).unwrap_or(i64::MAX),
                        stderr: line.stderr,
                        text: line.text,
                        partial: line.partial,
                    }),
                    Err(e) => failed = Some(e),
                }
            }
            if !lines.is_empty() {
                self.logs.append(row.app, &row.id, &row.name(), lines).await?;
            }
            if let Some(e) = failed {
                return Err(e.into());
            }
        }
        Ok(())
    }
}
