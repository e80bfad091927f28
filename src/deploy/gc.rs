//! Garbage collection: images that no release needs any more are removed from the engine and from the blob store.

use std::{collections::HashSet, time::Duration};

use tokio::sync::OwnedRwLockReadGuard;

use super::{deployer::Deployer, error::DeployError};
use crate::store::App;

/// Number of released images of an app that are kept for a rollback.
const KEPT_IMAGES: u32 = 10;

/// A blob younger than this may belong to an image that is being made.
const MIN_BLOB_AGE: Duration = Duration::from_hours(6);

/// Holds garbage collection off while an app has an image, or a build a package, that no row names yet. When it is
/// dropped, garbage is collected in the background.
pub(super) struct GcHold {
    guard: Option<OwnedRwLockReadGuard<()>>,
    deployer: Deployer,
    app: App,
}

impl GcHold {
    pub(super) async fn begin(deployer: &Deployer, app: &App) -> Self {
        let guard = Some(deployer.0.gc_lock.hold_off().await);
        Self { guard, deployer: deployer.clone(), app: app.clone() }
    }
}

impl Drop for GcHold {
    fn drop(&mut self) {
        drop(self.guard.take());
        let (deployer, app) = (self.deployer.clone(), self.app.clone());
        let shutdown = deployer.0.shutdown.clone();
        deployer.0.tracker.clone().spawn(async move {
            let collected = shutdown.run_until_cancelled(collect(&deployer, &app)).await;
            if let Some(Err(error)) = collected {
                tracing::warn!(app = %app.name, %error, "cannot remove old images");
            }
        });
    }
}

async fn collect(deployer: &Deployer, app: &App) -> Result<(), DeployError> {
    let this = &deployer.0;
    // Another operation holds garbage collection off: its end collects.
    let Some(_collecting) = this.gc_lock.try_collect() else { return Ok(()) };
    let in_use = this.store.releases_in_use(KEPT_IMAGES).await?;
    let tag = |number| this.engine_images.release_tag(&app.name, number);
    let kept: HashSet<_> = in_use.iter().filter(|(id, ..)| *id == app.id).map(|(_, number, _)| tag(*number)).collect();
    let prefix = tag(0).trim_end_matches('0').to_owned();
    let tags = this.engine_images.tagged_images().await?.into_iter().flat_map(|image| image.tags);
    for tag in tags.filter(|tag| tag.starts_with(&prefix) && !kept.contains(tag)) {
        if let Err(error) = this.engine_images.remove_image_tag(&tag).await {
            // An instance of it is still draining: the next garbage collection removes it.
            tracing::debug!(%tag, %error, "an image is still in use");
        }
    }
    this.buildpacks.collect_unused().await?;
    let keep: Vec<_> = in_use.into_iter().map(|(.., image)| image).collect();
    let keep = [this.stacks.images_to_keep(&keep).await?, this.offers.images_to_keep().await?, keep].concat();
    let images = this.images.clone();
    let swept = tokio::task::spawn_blocking(move || images.sweep(&keep, MIN_BLOB_AGE)).await;
    tracing::debug!(app = %app.name, blobs = swept.unwrap_or(Ok(0))?, "old blobs removed");
    Ok(())
}
