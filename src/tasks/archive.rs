//! Packing and unpacking the files of a volume, connected to a caller. There is no row: it ends with its caller.

use std::time::Duration;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{attended::attended, error::TaskError, streams::TaskStreams, tasks::Tasks};
use crate::{
    engine::{Archiving, ContainerId},
    model::AppName,
    workload::{MountedVolume, Runtime},
};

impl Tasks {
    /// Writes the files of a volume to the caller as a tar, or unpacks the tar that the caller sends. Returns the exit status
    /// of `tar`; `hangup` ends it.
    pub async fn archive(
        &self,
        app: &AppName,
        volume: &MountedVolume,
        archiving: Archiving,
        mut streams: TaskStreams,
        hangup: &CancellationToken,
    ) -> Result<i64, TaskError> {
        let runtime = self.runtime();
        let container = runtime.create_archiver(app, volume, archiving).await?;
        let guard = RemoveOnDrop { runtime: runtime.clone(), container, tracker: self.tracker().clone() };
        let attached = runtime.attach(&guard.container).await?;
        streams.begin();
        runtime.start_archiver(&guard.container).await?;
        let exit = runtime.wait(&guard.container);
        let ends = attended(attached, streams, |_| std::future::ready(Ok(())), exit);
        let ended = tokio::select! {
            ended = ends => ended.ok(),
            () = hangup.cancelled() => None,
            () = self.shutdown().cancelled() => None,
            () = tokio::time::sleep(Duration::from_secs(self.limits().run_seconds)) => None,
        };
        // When the caller is told, the volume is no longer in use.
        runtime.remove(&guard.container).await?;
        let status = ended.ok_or(TaskError::Disconnected)??;
        status.ok_or(TaskError::Gone)
    }
}

/// The container. When it is dropped, the container is removed in the background.
struct RemoveOnDrop {
    runtime: Runtime,
    container: ContainerId,
    tracker: TaskTracker,
}

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        let (runtime, container) = (self.runtime.clone(), self.container.clone());
        self.tracker.spawn(async move {
            if let Err(error) = runtime.remove(&container).await {
                tracing::warn!(%error, "cannot remove a container that packs a volume; the next start removes it");
            }
        });
    }
}
