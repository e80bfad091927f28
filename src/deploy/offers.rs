//! Images that the operator offers as bases of Dockerfiles, so that builds need no registry for them.

use tokio::{io::AsyncRead, sync::Mutex};

use super::{error::DeployError, gc_lock::GcLock};
use crate::{
    build::Builder,
    images::{ImageArchive, ImageStore},
    model::{Digest, ImageName},
    progress::Progress,
    store::{OfferedImage, Store},
};

/// Offers and withdraws images.
pub struct Offers {
    store: Store,
    images: ImageStore,
    builder: Builder,
    gc_lock: GcLock,
    /// Held while an image is offered or withdrawn, so that rows and builder have the same images.
    changes: Mutex<()>,
}

impl Offers {
    pub(super) fn new(store: Store, images: ImageStore, builder: Builder, gc_lock: GcLock) -> Self {
        Self { store, images, builder, gc_lock, changes: Mutex::default() }
    }

    /// Offers the image of this name that the engine has.
    pub async fn offer(&self, name: &ImageName, by: &str, progress: &Progress) -> Result<OfferedImage, DeployError> {
        progress.step(format!("Getting the image {name} from the engine")).await;
        let (spool, archive) = self.builder.image_of_engine(name).await?;
        self.add(name, archive, spool, by, progress).await
    }

    /// Offers an image under this name, whose archive is read to the end of `input`.
    pub async fn offer_sent(
        &self,
        name: &ImageName,
        input: impl AsyncRead + Send + Unpin + 'static,
        by: &str,
        progress: &Progress,
    ) -> Result<OfferedImage, DeployError> {
        progress.step(format!("Reading the image {name} from standard input")).await;
        let (spool, archive) = self.builder.receive_image(input).await?;
        self.add(name, archive, spool, by, progress).await
    }

    async fn add(
        &self,
        name: &ImageName,
        archive: ImageArchive,
        spool: tempfile::TempDir,
        by: &str,
        progress: &Progress,
    ) -> Result<OfferedImage, DeployError> {
        let _changing = self.changes.lock().await;
        let _gc_held_off = self.gc_lock.hold_off().await;
        let manifest = self.builder.offer_image(name, archive, spool, progress).await?;
        let size = self.images.describe(&manifest)?.iter().map(|layer| layer.size).sum();
        Ok(self.store.put_offered_image(name.clone(), manifest, size, by.to_owned()).await?)
    }

    /// Withdraws an image; images that were built on it stay. Returns whether it was offered.
    pub async fn withdraw(&self, name: &ImageName) -> Result<bool, DeployError> {
        let _changing = self.changes.lock().await;
        let was_offered = self.store.remove_offered_image(name.clone()).await?;
        self.builder.withdraw_image(name).await?;
        Ok(was_offered)
    }

    /// Images that garbage collection must keep.
    pub(super) async fn images_to_keep(&self) -> Result<Vec<Digest>, DeployError> {
        Ok(self.store.offered_images().await?.into_iter().map(|offered| offered.manifest).collect())
    }
}
