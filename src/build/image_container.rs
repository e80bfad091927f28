//! Work on images outside of builds, by the tools of the image in which Dockerfiles are built: in a container like a build's.

use std::{collections::HashSet, fs, path::Path, sync::Arc, time::Duration};

use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use super::{
    budget::{BuildBudget, Turn},
    builder::{Builder, BuilderShared},
    disks::fetch_disk,
    environment::result_of,
    error::BuildError,
    outbound,
    session::{LifecycleSession, SentBlobs},
    standby::AssignedContainer,
};
use crate::{
    engine::{
        BuildNetwork, Mount,
        disk::{Disk, MountedDisk},
    },
    images::{BlobStore, ImageArchive, ImageError},
    lifecycle::protocol::{BuildResult, Request},
    model::RegistryHost,
    progress::Progress,
};

/// Time that the work may take.
const TIMEOUT: Duration = Duration::from_mins(15);
/// Maximum size of an image that is fetched, as a tar, in bytes.
const MAX_FETCHED_BYTES: u64 = 4 << 30;
/// Size of the disk for an image that is fetched, in MiB: for its tar, and for what is unpacked meanwhile. It is sparse.
const FETCH_MIB: u64 = 10 << 10;
/// Certificates that the engine trusts, a folder for each registry; skopeo reads them at the same place.
const ENGINE_AUTHORITIES: &str = "/etc/docker/certs.d";
/// Folder for the tar, which is not kept.
const RECEIVED: &str = "received";

impl Builder {
    /// An image of a registry, fetched on a network: on that of builds, the registry is not reached at an address that builds
    /// may not reach, whatever its name resolves to meanwhile; on the machine's, with what the engine trusts. It takes a turn of
    /// this budget's builds. The image is unpacked in a folder that is removed with its handle. Dropping the future cancels the
    /// fetch; a task removes container and disk.
    pub(super) async fn fetched_image(
        &self,
        image: &str,
        network: BuildNetwork,
        budget: BuildBudget,
        progress: &Progress,
    ) -> Result<(tempfile::TempDir, ImageArchive), BuildError> {
        let image = image.to_owned();
        let fetch = move |shared: Arc<BuilderShared>, turn, progress: Progress, cancel| async move {
            shared.fetch_image(image, network, turn, &progress, &cancel).await
        };
        self.in_turn(budget, progress, CancellationToken::new(), fetch).await
    }
}

impl BuilderShared {
    async fn fetch_image(
        self: &Arc<Self>,
        image: String,
        network: BuildNetwork,
        _turn: Turn,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(tempfile::TempDir, ImageArchive), BuildError> {
        let spool = self.packages.staging()?;
        let received = BlobStore::open(&spool.path().join(RECEIVED))?;
        let name = fetch_disk();
        let disk = Disk::open(&self.disk_image(&name), FETCH_MIB, &self.mounts().join(&name)).await?;
        let known = HashSet::new();
        let sent = SentBlobs::default();
        let session = LifecycleSession {
            blobs: &received,
            max_blob_bytes: MAX_FETCHED_BYTES,
            ..self.session(&known, &sent, progress)
        };
        let insecure = network == BuildNetwork::Machine
            && self.engine_images.is_insecure_registry(&RegistryHost::of_image(&image)).await?;
        let request = Request::Fetch { image, insecure, operator_env: outbound::environment(&self.config.outbound) };
        let source = Box::new(tokio::io::empty());
        let fetched = self.run_alone(&disk, network, &session, &request, source, cancel).await;
        if let Err(error) = disk.discard().await {
            tracing::error!(%error, "a disk is left until the server starts again");
        }
        // Its lock file, too.
        if let Err(error) = Disk::remove(&self.disk_image(&name)).await {
            tracing::warn!(%error, "cannot remove a disk");
        }
        let tar = match fetched {
            Ok(BuildResult::Fetched { tar }) => tar,
            Ok(_) => return Err(BuildError::Protocol("it did something else than to fetch the image".to_owned())),
            Err(BuildError::DiskFull(_)) => return Err(BuildError::FetchedTooLarge(MAX_FETCHED_BYTES >> 30)),
            Err(error) => return Err(error),
        };
        let unpack = self.blocking(move |_| {
            let (file, size) = received.open_blob(&tar)?.ok_or(ImageError::Missing(tar))?;
            let unpacked = tempfile::TempDir::new_in(spool.path()).map(tempfile::TempDir::keep);
            let archive = ImageArchive::unpack(file, &unpacked.map_err(BuildError::Source)?, size)?;
            let _ = fs::remove_dir_all(spool.path().join(RECEIVED));
            Ok((spool, archive))
        });
        unpack.await
    }

    /// Has a container of its own do what the request asks for, on this disk.
    pub(super) async fn run_alone(
        self: &Arc<Self>,
        disk: &MountedDisk,
        network: BuildNetwork,
        session: &LifecycleSession<'_>,
        request: &Request,
        source: Box<dyn AsyncRead + Send + Unpin>,
        cancel: &CancellationToken,
    ) -> Result<BuildResult, BuildError> {
        let mut spec = tokio::select! {
            spec = self.dockerfile_spec(None, session.progress) => spec?.on_disk(disk),
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        };
        spec.network = network;
        let authorities = Path::new(ENGINE_AUTHORITIES);
        if network == BuildNetwork::Machine && authorities.is_dir() {
            spec.mounts.push(Mount::read_only(authorities, ENGINE_AUTHORITIES));
        }
        let mut assigned = AssignedContainer::new(self.builds.run_build(&spec).await?);
        let container = &mut assigned.container;
        let conversation = tokio::select! {
            conversation = session.run(container, request, source) => conversation,
            () = tokio::time::sleep(TIMEOUT) => Err(BuildError::ImageTimedOut(TIMEOUT.as_secs() / 60)),
            () = cancel.cancelled() => Err(BuildError::Cancelled),
        };
        let result = match conversation {
            Ok(conversation) => {
                result_of(conversation, container, disk, self.config.build.memory_mib, None, &self.config).await
            }
            Err(error) => Err(error),
        };
        assigned.remove().await;
        result
    }
}
