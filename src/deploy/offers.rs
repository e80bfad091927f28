//! Images that the operator offers as bases of Dockerfiles, so that builds need no registry for them.

use std::sync::Arc;

use tokio::{io::AsyncRead, sync::Mutex};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::error::DeployError;
use crate::{
    build::{BuildError, Builder},
    images::{ImageArchive, ImageStore},
    model::{Digest, ImageName},
    progress::Progress,
    store::{OfferedImage, Store},
};

/// Offers and withdraws images; cheap to clone.
#[derive(Clone)]
pub struct Offers(Arc<OffersShared>);

struct OffersShared {
    store: Store,
    images: ImageStore,
    builder: Builder,
    /// Held while an image is offered or withdrawn, so that rows and builder have the same images.
    changes: Mutex<()>,
    /// Whether the builder has had the images of all rows since the server started.
    complete: Mutex<bool>,
    tracker: TaskTracker,
}

impl Offers {
    pub(super) fn new(store: Store, images: ImageStore, builder: Builder, tracker: TaskTracker) -> Self {
        let (changes, complete) = (Mutex::default(), Mutex::default());
        Self(Arc::new(OffersShared { store, images, builder, changes, complete, tracker }))
    }

    /// Offers the image of this name that the engine has.
    pub async fn offer(&self, name: &ImageName, by: &str, progress: &Progress) -> Result<OfferedImage, DeployError> {
        progress.step(format!("Getting the image {name} from the engine")).await;
        let (spool, archive) = self.0.builder.image_of_engine(name).await?;
        self.add(name, archive, spool, by, progress).await
    }

    /// Offers an image under this name, whose archive is read to the end of `input`; `None` if `hangup` comes before that.
    pub async fn offer_sent(
        &self,
        name: &ImageName,
        input: impl AsyncRead + Send + Unpin + 'static,
        by: &str,
        progress: &Progress,
        hangup: &CancellationToken,
    ) -> Result<Option<OfferedImage>, DeployError> {
        progress.step(format!("Reading the image {name} from standard input")).await;
        let received = hangup.run_until_cancelled(Box::pin(self.0.builder.receive_image(input))).await;
        let Some(received) = received else { return Ok(None) };
        let (spool, archive) = received?;
        self.add(name, archive, spool, by, progress).await.map(Some)
    }

    async fn add(
        &self,
        name: &ImageName,
        archive: ImageArchive,
        spool: tempfile::TempDir,
        by: &str,
        progress: &Progress,
    ) -> Result<OfferedImage, DeployError> {
        let (name, by, progress) = (name.clone(), by.to_owned(), progress.clone());
        self.to_the_end(|this| async move {
            this.complete(&progress).await?;
            let _changing = this.changes.lock().await;
            let manifest = this.builder.offer_image(&name, archive, spool, &progress).await?;
            let size = this.images.describe(&manifest)?.iter().map(|layer| layer.size).sum();
            Ok(this.store.put_offered_image(name, manifest, size, by).await?)
        })
        .await
    }

    /// Withdraws an image; images that were built on it stay. Returns whether it was offered.
    pub async fn withdraw(&self, name: &ImageName, progress: &Progress) -> Result<bool, DeployError> {
        let (name, progress) = (name.clone(), progress.clone());
        self.to_the_end(|this| async move {
            let _changing = this.changes.lock().await;
            let was_offered = this.store.remove_offered_image(name.clone()).await?;
            this.builder.withdraw_image(&name, &progress).await?;
            Ok(was_offered)
        })
        .await
    }

    /// Makes sure that builds have what is offered: if the disk of the images was lost or damaged, adds them again.
    pub(super) async fn ready(&self, progress: &Progress, cancel: &CancellationToken) -> Result<(), DeployError> {
        let progress = progress.clone();
        let completed = self.to_the_end(|this| async move { this.complete(&progress).await });
        cancel.run_until_cancelled(completed).await.unwrap_or(Err(BuildError::Cancelled.into()))
    }

    /// Runs work that also goes on if the caller does not: half of a change would leave rows and builder with different
    /// images.
    async fn to_the_end<T: Send + 'static, W>(
        &self,
        work: impl FnOnce(Arc<OffersShared>) -> W,
    ) -> Result<T, DeployError>
    where
        W: Future<Output = Result<T, DeployError>> + Send + 'static,
    {
        let working = self.0.tracker.spawn(work(Arc::clone(&self.0)));
        working.await.unwrap_or_else(|_| Err(BuildError::ShuttingDown.into()))
    }

    /// Images that garbage collection must keep.
    pub(super) async fn images_to_keep(&self) -> Result<Vec<Digest>, DeployError> {
        Ok(self.0.store.offered_images().await?.into_iter().map(|offered| offered.manifest).collect())
    }
}

impl OffersShared {
    /// Adds the images of rows that the builder lacks; looks for them once. What cannot be added is said, and tried again by
    /// the next caller.
    async fn complete(&self, progress: &Progress) -> Result<(), DeployError> {
        let mut complete = self.complete.lock().await;
        if *complete {
            return Ok(());
        }
        let _changing = self.changes.lock().await;
        let rows = self.store.offered_images().await?;
        let images: Vec<_> = rows.into_iter().map(|offered| (offered.name, offered.manifest)).collect();
        let missing = if images.is_empty() { images } else { self.builder.not_offered(images, progress).await? };
        let mut all_added = true;
        for (name, image) in missing {
            progress.step(format!("Adding the offered image {name} again, which its disk lacks")).await;
            if let Err(error) = self.builder.offer_again(&name, image, progress).await {
                all_added = false;
                progress.trouble(format!("{error}; an admin can offer it again: images:offer {name}")).await;
            }
        }
        *complete = all_added;
        Ok(())
    }
}
