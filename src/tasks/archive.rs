//! Packing and unpacking the files of a volume, connected to a caller. There is no row: it ends with its caller.

use std::time::Duration;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{attended::attended, error::TaskError, execution::RETRY_DELAY, streams::TaskStreams, tasks::Tasks};
use crate::{
    engine::{Archiving, ContainerId},
    model::SizeTarget,
    progress::Progress,
    store::{App, UserId},
    turns::Turn,
    workload::{MountedVolume, Runtime, WorkloadBudget},
};

/// Number of volumes of one owner that are packed or unpacked at a time.
const MAX_OF_OWNER: usize = 2;

impl Tasks {
    /// Writes the files of a volume to the caller as a tar, or unpacks the tar that the caller sends. Returns the exit status
    /// of `tar`; `hangup` ends it. Waits while an owner has several of them at a time.
    pub async fn archive(
        &self,
        app: &App,
        volume: &MountedVolume,
        archiving: Archiving,
        mut streams: TaskStreams,
        progress: &Progress,
        hangup: &CancellationToken,
    ) -> Result<i64, TaskError> {
        let runtime = self.runtime();
        let budget = WorkloadBudget::read(self.store(), app.id, &SizeTarget::Tasks).await?;
        let turn = tokio::select! {
            turn = self.archiving_turn(budget.owner, progress) => turn,
            () = hangup.cancelled() => return Err(TaskError::Disconnected),
            () = self.shutdown().cancelled() => return Err(TaskError::ShuttingDown),
        };
        let container = runtime.create_archiver(&app.name, volume, archiving, budget).await?;
        let guard = RemoveOnDrop {
            runtime: runtime.clone(),
            container,
            tracker: self.tracker().clone(),
            shutdown: self.shutdown().clone(),
            _turn: turn,
        };
        let attached = runtime.attach(&guard.container).await?;
        streams.begin();
        runtime.start_archiver(&guard.container).await?;
        let exit = runtime.wait(&guard.container);
        let seconds = self.limits().run_seconds;
        let ended = tokio::select! {
            ended = attended(attached, streams, |_| std::future::ready(Ok(())), exit) => ended.map_err(|_| TaskError::Disconnected),
            () = hangup.cancelled() => Err(TaskError::Disconnected),
            () = self.shutdown().cancelled() => Err(TaskError::ShuttingDown),
            () = tokio::time::sleep(Duration::from_secs(seconds)) => Err(TaskError::TimedOut(seconds)),
        };
        // When the caller is told, the volume is no longer in use.
        runtime.remove(&guard.container).await?;
        let status = ended??;
        status.ok_or(TaskError::Gone)
    }

    async fn archiving_turn(&self, owner: Option<UserId>, progress: &Progress) -> Turn<Option<UserId>> {
        let mut ticket = self.archiving().draw(owner, MAX_OF_OWNER);
        loop {
            match ticket.turn().await {
                Ok(turn) => return turn,
                Err(ahead) => {
                    let others = if ahead == 1 { "export or import" } else { "exports or imports" };
                    let text = format!("waiting for {ahead} other {others} of volumes to end");
                    // Not to standard output, which is the tar.
                    progress.trouble(text).await;
                }
            }
        }
    }
}

/// The container. When it is dropped, the container is removed in the background.
struct RemoveOnDrop {
    runtime: Runtime,
    container: ContainerId,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    _turn: Turn<Option<UserId>>,
}

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        let (runtime, container) = (self.runtime.clone(), self.container.clone());
        let shutdown = self.shutdown.clone();
        self.tracker.spawn(async move {
            while let Err(error) = runtime.remove(&container).await {
                tracing::warn!(%error, "cannot remove a container that packs a volume; retrying, or the next start removes it");
                if shutdown.run_until_cancelled(tokio::time::sleep(RETRY_DELAY)).await.is_none() {
                    return;
                }
            }
        });
    }
}
