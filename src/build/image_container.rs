//! Work on images outside of builds, by the tools of the image in which Dockerfiles are built: in a container like a build's,
//! on a disk of its own.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::io::AsyncRead;

use super::{
    builder::{Builder, BuilderShared},
    environment::EXIT_TIMEOUT,
    error::BuildError,
    outbound,
};
use crate::{
    engine::disk::{Disk, MountedDisk},
    images::ImageArchive,
    lifecycle::protocol::{BuildResult, Request},
    model::{Digest, Line},
    progress::Progress,
};

/// Time that the work may take.
const TIMEOUT: Duration = Duration::from_mins(15);
/// Size of the disk for an image that is fetched, in MiB. It is sparse.
const FETCH_MIB: u64 = 16 << 10;

impl Builder {
    /// An image of a registry, fetched on the network of builds: it is not reached at an address that builds may not reach,
    /// whatever its name resolves to meanwhile. It is unpacked in a folder that is removed with its handle.
    pub(super) async fn fetched_image(
        &self,
        image: &str,
        progress: &Progress,
    ) -> Result<(tempfile::TempDir, ImageArchive), BuildError> {
        let shared = &self.0;
        let name = format!("fetch-{:08x}", rand::random::<u32>());
        let disk = Disk::open(&shared.disk_image(&name), FETCH_MIB, &shared.mounts().join(&name)).await?;
        let fetched = shared.fetch_onto(&disk, image, progress).await;
        disk.discard().await?;
        Disk::remove(&shared.disk_image(&name)).await?;
        let (tar, spool) = (fetched?, self.packages().staging()?);
        let unpack = shared.blocking(move |this| {
            let (file, size) = this.images.blobs().open_blob(&tar)?.ok_or(BuildError::ShuttingDown)?;
            let archive = ImageArchive::unpack(file, spool.path(), size)?;
            Ok((spool, archive))
        });
        unpack.await
    }
}

impl BuilderShared {
    async fn fetch_onto(
        self: &Arc<Self>,
        disk: &MountedDisk,
        image: &str,
        progress: &Progress,
    ) -> Result<Digest, BuildError> {
        let operator_env = outbound::environment(&self.config.outbound);
        let request = Request::Fetch { image: image.to_owned(), operator_env };
        match self.run_alone(disk, &request, Box::new(tokio::io::empty()), progress).await? {
            BuildResult::Fetched(tar) => Ok(tar),
            _ => Err(BuildError::Protocol("it did something else than to fetch the image".to_owned())),
        }
    }

    /// Has a container of its own do what the request asks for, on this disk.
    pub(super) async fn run_alone(
        self: &Arc<Self>,
        disk: &MountedDisk,
        request: &Request,
        source: Box<dyn AsyncRead + Send + Unpin>,
        progress: &Progress,
    ) -> Result<BuildResult, BuildError> {
        let spec = self.dockerfile_spec(None, progress).await?.on_disk(disk);
        let mut container = self.builds.run_build(&spec).await?;
        let known = HashSet::new();
        let session = self.session(&known, progress);
        let conversation = tokio::time::timeout(TIMEOUT, session.run(&mut container, request, source)).await;
        let code = match &conversation {
            // The container has its result: nothing else is worth waiting for.
            Ok(Ok(conversation)) if conversation.result.is_some() => 0,
            _ => match tokio::time::timeout(EXIT_TIMEOUT, container.wait()).await {
                Ok(Ok(exit)) => exit.code,
                _ => 0,
            },
        };
        container.kill_and_remove().await?;
        let conversation = conversation.map_err(|_| BuildError::TimedOut(TIMEOUT.as_secs()))??;
        match conversation.result {
            Some(BuildResult::Failed { .. }) if conversation.disk_full_reported || disk.is_full() => {
                Err(BuildError::DiskFull(self.config.build.disk_mib))
            }
            Some(BuildResult::Failed { phase, message }) => {
                Err(BuildError::Failed { phase, message: Line::sanitize(&message) })
            }
            Some(result) => Ok(result),
            None => Err(BuildError::Died { code, last: conversation.last_stderr }),
        }
    }
}
