//! Rollouts: a release is declared the candidate, and its caller waits for the outcome.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    error::{InstancesError, RolloutError},
    reconciler::Instances,
    waiting::{RolloutOutcome, RolloutWaiter, WorkerHandle},
};
use crate::{
    model::{ProcessType, ReleaseNumber},
    progress::Progress,
    store::{AppId, Deployment},
};

/// Number of lines for the caller that may be pending.
const MAX_PENDING_LINES: usize = 64;

impl Instances {
    /// Rolls out a release: starts its instances beside those of the current release. Returns after the commit point,
    /// when the routes lead to the new instances; the old ones are drained and removed in the background. If the rollout
    /// fails, returns the reason after the new instances are removed. `cancel` cancels it before the commit point.
    pub async fn rollout(
        &self,
        app: AppId,
        release: ReleaseNumber,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), RolloutError> {
        self.shared.store.release(app, release).await?.ok_or(RolloutError::Gone)?;
        self.roll_out(app, release, None, progress, cancel).await
    }

    /// Replaces the instances of the current release by new ones, by a rollout of the same release. With `process_type`,
    /// which the release must have, the instances of other process types keep running.
    pub async fn restart(
        &self,
        app: AppId,
        process_type: Option<ProcessType>,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), RolloutError> {
        let found = self.shared.store.app(app).await?.ok_or(RolloutError::Gone)?;
        let current = found.current.ok_or_else(|| RolloutError::NotDeployed(found.name.to_string()))?;
        if found.stopped {
            return Err(RolloutError::Stopped(found.name.to_string()));
        }
        self.roll_out(app, current.release, process_type, progress, cancel).await
    }

    async fn roll_out(
        &self,
        app: AppId,
        release: ReleaseNumber,
        process_type: Option<ProcessType>,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(), RolloutError> {
        let shared = &self.shared;
        if cancel.is_cancelled() {
            return Err(RolloutError::Cancelled);
        }
        let worker = self.worker(app);
        let (outcome, mut ended) = oneshot::channel();
        let (lines, mut pending_lines) = mpsc::channel(MAX_PENDING_LINES);
        let deployment =
            self.begin(app, release, process_type, &worker, RolloutWaiter { outcome, progress: lines }).await?;
        let request = worker.wake();
        let (mut cancel_requested, mut warned) = (false, false);
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut ended => break outcome,
                reason = worker.stalled_since(request), if !warned => {
                    warned = true;
                    let stalled = InstancesError::Stalled(reason);
                    let text = format!("the release cannot be rolled out at the moment: {stalled}");
                    let _ = cancel.run_until_cancelled(progress.trouble(text)).await;
                }
                () = shared.shutdown.cancelled() => return Err(InstancesError::ShuttingDown.into()),
                () = cancel.cancelled(), if !cancel_requested => {
                    cancel_requested = true;
                    if shared.store.abandon_deployment(app, deployment).await? {
                        worker.wake();
                        self.wait_until_removed(app, &worker, deployment).await;
                        return Err(RolloutError::Cancelled);
                    }
                    // Too late: the rollout is committed or has failed, and the outcome is about to arrive.
                }
                Some(line) = pending_lines.recv() => {
                    let _ = cancel.run_until_cancelled(progress.line(line)).await;
                }
            }
        };
        while let Ok(line) = pending_lines.try_recv() {
            let _ = cancel.run_until_cancelled(progress.line(line)).await;
        }
        match outcome {
            Ok(RolloutOutcome::Committed { route_version }) => {
                self.wait_for_router(route_version, progress).await;
                Ok(())
            }
            Ok(RolloutOutcome::Failed(failure)) => {
                self.wait_until_removed(app, &worker, deployment).await;
                Err(failure.into())
            }
            Ok(RolloutOutcome::Superseded) if cancel_requested => Err(RolloutError::Cancelled),
            Ok(RolloutOutcome::Superseded) => Err(RolloutError::Superseded),
            Err(_) => Err(RolloutError::Gone),
        }
    }

    /// Makes the release the candidate, in place of an earlier one, and registers its caller.
    async fn begin(
        &self,
        app: AppId,
        release: ReleaseNumber,
        process_type: Option<ProcessType>,
        worker: &WorkerHandle,
        waiter: RolloutWaiter,
    ) -> Result<Deployment, RolloutError> {
        let store = &self.shared.store;
        let mut rollouts = worker.rollouts.lock().await;
        let found = store.app(app).await?.filter(|app| !app.destroying).ok_or(RolloutError::Gone)?;
        if let Some(earlier) = found.candidate {
            store.abandon_deployment(app, earlier).await?;
        }
        let deployment = store.begin_deployment(app, release, process_type).await?.ok_or(RolloutError::Gone)?;
        rollouts.insert(deployment.generation, waiter);
        Ok(deployment)
    }

    /// Waits for a limited time until a failed deployment has no instances. What is left is removed in the background.
    async fn wait_until_removed(&self, app: AppId, worker: &WorkerHandle, deployment: Deployment) {
        let app = self.shared.store.app(app).await.ok().flatten();
        let grace = self.shared.config.instances.stop_grace();
        let limit = app.map_or(grace, |app| app.longest_stop_grace(grace)) + Duration::from_secs(10);
        tokio::select! {
            _ = tokio::time::timeout(limit, worker.generation_removed(deployment.generation)) => {}
            () = self.shared.shutdown.cancelled() => {}
        }
    }
}
