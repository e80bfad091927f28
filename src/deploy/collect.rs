//! Disk does not fill up: images that no release needs any more go, from the engine and from the blob store.

use std::time::Duration;

use super::{DeployError, Deployer};
use crate::store::{App, ReleaseState};

/// How many released images of an app are kept for a rollback.
const KEPT: u32 = 10;

/// A blob younger than this may belong to an image that is just being made.
const YOUNG: Duration = Duration::from_hours(6);

/// Removes what this release made superfluous. A failure is no reason to fail the release.
pub(super) async fn after_release(deployer: &Deployer, app: &App) {
    if let Err(error) = collect(deployer, app).await {
        tracing::warn!(app = %app.name, %error, "cannot remove old images");
    }
}

async fn collect(deployer: &Deployer, app: &App) -> Result<(), DeployError> {
    let this = &deployer.0;
    let releases = this.store.releases(app.id, 3 * KEPT).await?;
    let good = releases.iter().filter(|release| release.state == ReleaseState::Released);
    let Some(oldest_kept) = good.map(|release| release.number).nth(KEPT as usize - 1) else { return Ok(()) };
    let mut in_use = this.store.images_in_use(KEPT).await?;
    for release in releases.iter().filter(|release| release.number < oldest_kept && !in_use.contains(&release.image)) {
        this.engine.remove_image_tag(&this.engine.release_tag(&app.name, release.number)).await?;
    }
    let stack = this.builder.stack();
    in_use.extend([stack.run.manifest.clone(), stack.build.manifest.clone()]);
    let images = this.images.clone();
    let swept = tokio::task::spawn_blocking(move || images.sweep(&in_use, YOUNG)).await;
    tracing::debug!(app = %app.name, blobs = swept.unwrap_or(Ok(0))?, "old blobs removed");
    Ok(())
}
