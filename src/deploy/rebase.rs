//! Rebase: apps get the newest revision of their stack without a build.

use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use super::{deployer::Deployer, error::DeployError, gc::CollectAtEnd, rollout::same_image};
use crate::{
    instances::RolloutError,
    model::Distribution,
    progress::{self, Progress},
    store::{App, ReleaseKind},
};

/// Result of a rebase of one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebased {
    /// The app is on the newest revision already, or has no release.
    Nothing,
    /// The new release of this number is live.
    Released(u64),
}

impl Deployer {
    /// Puts an app on the newest revision of its stack, by a new release with the same layers above another run image.
    pub async fn rebase(
        &self,
        app: &App,
        by: &str,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Rebased, DeployError> {
        let this = &self.0;
        let _lock = this.releases.lock(app.id, progress, cancel).await?;
        let _collect_at_end = CollectAtEnd::begin(self).await;
        let Some(current) = self.current_release(app).await? else { return Ok(Rebased::Nothing) };
        let name = this.stacks.name_for(app).to_owned();
        let newest = this.stacks.newest_revision(&name).await?.ok_or_else(|| DeployError::NoStack(name.clone()))?;
        let refused = |reason: &str| DeployError::CannotRebase { app: app.name.clone(), reason: reason.to_owned() };
        let base = this.images.run_image(&current.image)?;
        let base = base.ok_or_else(|| {
            refused("its image was built from a Dockerfile, which uses no stack; ps:rebuild builds it again")
        })?;
        if base == newest.run {
            return Ok(Rebased::Nothing);
        }
        let revisions = this.store.stack_revisions(None).await?;
        let old = revisions.into_iter().find(|revision| revision.run == base).ok_or_else(|| {
            refused("the stack revision of its run image is no longer known; ps:rebuild builds it on the newest one")
        })?;
        if !old.distribution.is_like(&newest.distribution) {
            let distribution = |d: &Distribution| format!("{} {}", d.name, d.version);
            let (from, to) = (distribution(&old.distribution), distribution(&newest.distribution));
            let reason = format!("it was built for {from}, and {name} is now {to}; ps:rebuild builds it for that");
            return Err(refused(&reason));
        }
        let (images, image, to) = (this.images.clone(), current.image.clone(), newest.run.clone());
        let rebased = tokio::task::spawn_blocking(move || {
            // Whatever is released or updated meanwhile, garbage collection keeps the layers of both.
            images.complete(&to)?;
            images.complete(&image)?;
            images.rebase(&image, &base, &to)
        });
        let rebased = rebased.await;
        let image = rebased.map_err(|_| DeployError::Cancelled)??.manifest;
        let description = format!("Rebase onto revision {} of {name}", newest.number);
        let mut new = same_image(current, ReleaseKind::Rebase, description, by);
        new.image = image;
        self.bring_up(app, new, progress, cancel).await.map(Rebased::Released)
    }

    /// Rebases these apps, as many at once as configured. Starts no more once one does not become healthy on the new
    /// run image. An app whose rebase fails keeps running as before. Returns the result of each app; `None` if its
    /// rebase was not started.
    pub async fn rebase_all(
        &self,
        apps: Vec<App>,
        by: &str,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Vec<(App, Option<Result<Rebased, DeployError>>)> {
        let stop = cancel.child_token();
        let rebases = apps.into_iter().map(|app| {
            let stop = stop.clone();
            async move {
                if stop.is_cancelled() {
                    return (app, None);
                }
                let rebased = self.rebase_quietly(&app, by, cancel).await;
                match &rebased {
                    Ok(Rebased::Nothing) => progress.detail(format!("{} is on it already", app.name)).await,
                    Ok(Rebased::Released(number)) => progress.detail(format!("{}: v{number} is live", app.name)).await,
                    Err(error) => {
                        // Any other failure is the app's own and does not speak against the new run image.
                        if matches!(error, DeployError::Rollout(RolloutError::Unhealthy { .. })) {
                            stop.cancel();
                        }
                        progress.trouble(format!("{}: {error}", app.name)).await;
                    }
                }
                (app, Some(rebased))
            }
        });
        stream::iter(rebases).buffer_unordered(self.0.config.stack.rebase_concurrency.max(1)).collect().await
    }

    /// Rebases one app of many, of which only the result is reported.
    async fn rebase_quietly(&self, app: &App, by: &str, cancel: &CancellationToken) -> Result<Rebased, DeployError> {
        let rebase = |progress| async move { self.rebase(app, by, &progress, cancel).await };
        progress::relay(rebase, |_| std::future::ready(())).await
    }
}
