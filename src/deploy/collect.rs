//! Disk does not fill up: images that no release needs any more go, from the engine and from the blob store.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::sync::OwnedRwLockReadGuard;

use super::{DeployError, Deployer};
use crate::store::App;

/// How many released images of an app are kept for a rollback.
const KEPT: u32 = 10;

/// A blob younger than this may belong to an image that is just being made.
const YOUNG: Duration = Duration::from_hours(6);

/// Held while an app has an image, or a build a package, that nothing names yet: nothing is removed meanwhile. When it
/// goes, what is superfluous by then is removed in the background.
pub(super) struct Choosing {
    guard: Option<OwnedRwLockReadGuard<()>>,
    deployer: Deployer,
    app: App,
}

impl Choosing {
    pub(super) async fn begin(deployer: &Deployer, app: &App) -> Self {
        let guard = Some(Arc::clone(&deployer.0.choosing).read_owned().await);
        Self { guard, deployer: deployer.clone(), app: app.clone() }
    }
}

impl Drop for Choosing {
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
    // Somebody else has an image that no release names: the end of that does it.
    let Ok(_alone) = this.choosing.try_write() else { return Ok(()) };
    let in_use = this.store.releases_in_use(KEPT).await?;
    let tag = |number| this.engine.release_tag(&app.name, number);
    let kept: HashSet<_> = in_use.iter().filter(|(id, ..)| *id == app.id).map(|(_, number, _)| tag(*number)).collect();
    let prefix = tag(0).trim_end_matches('0').to_owned();
    let tags = this.engine.tagged_images().await?.into_iter().flat_map(|image| image.tags);
    for tag in tags.filter(|tag| tag.starts_with(&prefix) && !kept.contains(tag)) {
        if let Err(error) = this.engine.remove_image_tag(&tag).await {
            // An instance of it drains still: the next time it goes.
            tracing::debug!(%tag, %error, "an image is still in use");
        }
    }
    deployer.forget_packages().await?;
    let keep: Vec<_> = in_use.into_iter().map(|(.., image)| image).collect();
    let keep = [deployer.images_of_stacks(&keep).await?, keep].concat();
    let images = this.images.clone();
    let swept = tokio::task::spawn_blocking(move || images.sweep(&keep, YOUNG)).await;
    tracing::debug!(app = %app.name, blobs = swept.unwrap_or(Ok(0))?, "old blobs removed");
    Ok(())
}
