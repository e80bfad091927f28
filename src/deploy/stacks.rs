//! Stacks: made, updated, chosen; and apps that are put on a newer one without a build.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use super::{DeployError, Deployer, RELEASING, collect::Choosing, releases::again};
use crate::{
    images::{Stack, StackDefinition},
    instances::RolloutError,
    model::{Digest, Distribution, PackageChange},
    progress::Progress,
    store::{App, ReleaseKind, StackImages, StackRevision, StackSource, now},
};

/// What a rebase did to an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebased {
    /// It stands on the newest revision already, or has no release.
    Nothing,
    /// Its new release is live.
    Released(u64),
}

/// Where an app stands.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The app.
    pub app: App,
    /// The stack that it has chosen.
    pub stack: String,
    /// The revision that its image stands on, if that is one of ours.
    pub on: Option<(String, u64)>,
    /// The newest revision of its stack.
    pub newest: Option<u64>,
    /// Whether a rebase would change its image.
    pub is_behind: bool,
}

impl Deployer {
    /// The name of the stack of apps that have chosen none.
    pub fn default_stack(&self) -> &str {
        &self.0.config.stack.default
    }

    /// Has the embedded stack ready, and the one that is the default. A changed definition makes a new revision.
    pub async fn prepare_stacks(&self, progress: &Progress) -> Result<(), DeployError> {
        let embedded = StackDefinition::embedded()?;
        let source = StackSource::Packages(embedded.text().to_owned());
        let known = self.0.store.stacks().await?;
        let same = known.iter().any(|(name, old)| *name == embedded.id && *old == source);
        let newest = self.newest(&embedded.id).await?;
        let whole = match &newest {
            Some(newest) => self.0.images.complete(&newest.run)? && self.0.images.complete(&newest.build)?,
            None => false,
        };
        if !same || !whole {
            let stack = embedded.bootstrap(&self.0.config.stack, "", &self.0.images, progress).await?;
            let made = self.look_into(stack).await?;
            self.0.store.put_stack(embedded.id.clone(), source, true, made).await?;
        }
        match self.stack(self.default_stack()).await {
            Err(DeployError::NoStack(name)) => Err(DeployError::NoDefaultStack { name, embedded: embedded.id }),
            other => other.map(drop),
        }
    }

    async fn newest(&self, stack: &str) -> Result<Option<StackRevision>, DeployError> {
        Ok(self.0.store.stack_revisions(Some(stack.to_owned())).await?.into_iter().next())
    }

    async fn look_into(&self, stack: Stack) -> Result<StackImages, DeployError> {
        let (images, run) = (self.0.images.clone(), stack.run.manifest.clone());
        let read = tokio::task::spawn_blocking(move || images.distribution(&run)).await;
        let mut distribution = read.map_err(|_| DeployError::Cancelled)??;
        if distribution.name.is_empty() {
            distribution.name.clone_from(&stack.target.distro_name);
            distribution.version.clone_from(&stack.target.distro_version);
        }
        Ok(StackImages { run: stack.run.manifest, build: stack.build.manifest, distribution })
    }

    /// The newest revision of a stack, as builds and images need it.
    pub(super) async fn stack(&self, name: &str) -> Result<Stack, DeployError> {
        let newest = self.newest(name).await?;
        let newest = newest.ok_or_else(|| DeployError::NoStack(name.to_owned()))?;
        Ok(self.0.images.stack(name, &newest.run, &newest.build, &newest.distribution)?)
    }

    /// The stack that an app is built in.
    pub fn stack_of<'a>(&'a self, app: &'a App) -> &'a str {
        app.stack.as_deref().unwrap_or_else(|| self.default_stack())
    }

    /// Makes a stack.
    pub async fn create_stack(
        &self,
        name: &str,
        source: StackSource,
        progress: &Progress,
    ) -> Result<StackRevision, DeployError> {
        let _chosen = self.0.choosing.read().await;
        if self.0.store.stacks().await?.iter().any(|(other, _)| other == name) {
            return Err(DeployError::StackExists(name.to_owned()));
        }
        let stack = self.fetch_stack(name, &source, "", progress).await?;
        let made = self.look_into(stack).await?;
        Ok(self.0.store.put_stack(name.to_owned(), source, false, made).await?)
    }

    /// Gets what a stack's packages or images are by now; the revision before, and the newest.
    pub async fn update_stack(
        &self,
        name: &str,
        progress: &Progress,
    ) -> Result<(StackRevision, StackRevision), DeployError> {
        let _chosen = self.0.choosing.read().await;
        let known = self.0.store.stacks().await?.into_iter().find(|(other, _)| other == name);
        let none = || DeployError::NoStack(name.to_owned());
        let (_, source) = known.ok_or_else(none)?;
        let before = self.newest(name).await?.ok_or_else(none)?;
        let stack = self.fetch_stack(name, &source, &now().to_string(), progress).await?;
        let made = self.look_into(stack).await?;
        Ok((before, self.0.store.add_stack_revision(name.to_owned(), made).await?))
    }

    async fn fetch_stack(
        &self,
        name: &str,
        source: &StackSource,
        seed: &str,
        progress: &Progress,
    ) -> Result<Stack, DeployError> {
        let this = &self.0;
        match source {
            StackSource::Packages(text) => {
                let definition = StackDefinition::parse(text)?;
                Ok(definition.bootstrap(&this.config.stack, seed, &this.images, progress).await?)
            }
            StackSource::Images { run, build } => {
                let run = self.import(run, progress).await?;
                let build = self.import(build, progress).await?;
                let (images, manifest) = (this.images.clone(), run.clone());
                let read = tokio::task::spawn_blocking(move || images.distribution(&manifest)).await;
                let distribution: Distribution = read.map_err(|_| DeployError::Cancelled)??;
                Ok(this.images.stack(name, &run, &build, &distribution)?)
            }
        }
    }

    /// Takes an image over from a registry, or from the engine if no registry has it.
    async fn import(&self, reference: &str, progress: &Progress) -> Result<Digest, DeployError> {
        let this = &self.0;
        progress.step(format!("Getting the image {reference}")).await;
        let (spool, archive) = this.builder.public_image(reference, true).await?;
        let images = this.images.clone();
        let imported = tokio::task::spawn_blocking(move || {
            let imported = images.import(&archive);
            drop(spool);
            imported
        });
        Ok(imported.await.map_err(|_| DeployError::Cancelled)??.manifest)
    }

    /// What changed between the last two revisions of a stack.
    pub async fn stack_changes(&self, name: &str) -> Result<Vec<PackageChange>, DeployError> {
        let revisions = self.0.store.stack_revisions(Some(name.to_owned())).await?;
        let [newest, before, ..] = &revisions[..] else { return Ok(Vec::new()) };
        Ok(before.distribution.changes(&newest.distribution))
    }

    /// Where these apps stand.
    pub async fn standings(&self, apps: Vec<App>) -> Result<Vec<Standing>, DeployError> {
        let revisions = self.0.store.stack_revisions(None).await?;
        let mut standings = Vec::new();
        for app in apps {
            let stack = self.stack_of(&app).to_owned();
            let newest = revisions.iter().find(|revision| revision.stack == stack);
            let base = match app.current {
                Some(current) => match self.0.store.release(app.id, current.release).await? {
                    Some(release) => self.0.images.run_image(&release.image)?,
                    None => None,
                },
                None => None,
            };
            // Its own stack's newest first: revisions may share a run image. A Dockerfile's image stands on none.
            let is_behind = base.as_ref().is_some_and(|base| newest.is_some_and(|newest| newest.run != *base));
            let of = |own: bool| {
                let mut these = revisions.iter().filter(|revision| (revision.stack == stack) == own);
                these.find(|revision| Some(&revision.run) == base.as_ref())
            };
            let on = of(true).or_else(|| of(false)).map(|on| (on.stack.clone(), on.number));
            let newest = newest.map(|newest| newest.number);
            standings.push(Standing { app, stack, on, newest, is_behind });
        }
        Ok(standings)
    }

    /// Puts an app on the newest revision of its stack, by a new release with the same layers of its own.
    pub async fn rebase(
        &self,
        app: &App,
        by: &str,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Rebased, DeployError> {
        let this = &self.0;
        let _lock = this.releases.lock(app.id, progress, RELEASING, cancel).await?;
        let _chosen = Choosing::begin(self, app).await;
        let Some(current) = self.current_release(app).await? else { return Ok(Rebased::Nothing) };
        let name = self.stack_of(app).to_owned();
        let newest = self.newest(&name).await?.ok_or_else(|| DeployError::NoStack(name.clone()))?;
        let refused = |reason: &str| DeployError::CannotRebase { app: app.name.clone(), reason: reason.to_owned() };
        let unknown = || refused("its run image is not known any more; ps:rebuild builds it on the new one");
        let base = this.images.run_image(&current.image)?;
        let base = base.ok_or_else(|| refused("its Dockerfile stands on no stack; ps:rebuild builds it again"))?;
        if base == newest.run {
            return Ok(Rebased::Nothing);
        }
        let revisions = this.store.stack_revisions(None).await?;
        let old = revisions.into_iter().find(|revision| revision.run == base).ok_or_else(unknown)?;
        if !old.distribution.is_like(&newest.distribution) {
            let of = |d: &Distribution| format!("{} {}", d.name, d.version);
            let (from, to) = (of(&old.distribution), of(&newest.distribution));
            let reason = format!("it was built for {from}, and {name} is {to} by now; ps:rebuild builds it for that");
            return Err(refused(&reason));
        }
        let (images, image, to) = (this.images.clone(), current.image.clone(), newest.run.clone());
        let rebased = tokio::task::spawn_blocking(move || images.rebase(&image, &base, &to)).await;
        let image = rebased.map_err(|_| DeployError::Cancelled)??.manifest;
        let description = format!("Rebase onto revision {} of {name}", newest.number);
        let config = current.config.clone();
        let mut new = again(current, ReleaseKind::Rebase, config, description, by);
        new.image = image;
        self.bring_up(app, new, progress, cancel).await.map(Rebased::Released)
    }

    /// Rebases these apps, so many at once as the configuration says; begins no more when one does not become healthy on
    /// the new base. What failed serves as before. Returns each with what became of it.
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
                let (quiet, mut lines) = Progress::channel();
                let telling = async { while lines.recv().await.is_some() {} };
                let rebasing = async {
                    let rebased = self.rebase(&app, by, &quiet, cancel).await;
                    drop(quiet);
                    rebased
                };
                let (rebased, ()) = tokio::join!(rebasing, telling);
                match &rebased {
                    Ok(Rebased::Nothing) => progress.detail(format!("{} stands on it already", app.name)).await,
                    Ok(Rebased::Released(number)) => progress.detail(format!("{}: v{number} is live", app.name)).await,
                    Err(error) => {
                        // What the app itself stands in the way of says nothing of the new base.
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

    /// Updates all stacks every so often, as the configuration says, and rebases the apps on what changed.
    pub async fn update_stacks_by_schedule(self, stop: CancellationToken) {
        let hours = self.0.config.stack.update_hours;
        if hours == 0 {
            return;
        }
        let every = Duration::from_hours(hours);
        while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
            if let Err(error) = stop.run_until_cancelled(self.update_all_stacks(&stop)).await.unwrap_or(Ok(())) {
                tracing::error!(%error, "the stacks are not updated; the next time is in {hours} hours");
            }
        }
    }

    async fn update_all_stacks(&self, stop: &CancellationToken) -> Result<(), DeployError> {
        let (progress, mut lines) = Progress::channel();
        let telling = async {
            while let Some(line) = lines.recv().await {
                tracing::info!("{line}");
            }
        };
        let updating = async {
            for (name, _) in self.0.store.stacks().await? {
                // One that fails keeps its revision, and does not keep the others from theirs.
                if let Err(error) = self.update_stack(&name, &progress).await {
                    tracing::error!(%error, stack = name, "the stack is not updated; the next time is as scheduled");
                }
            }
            let apps = self.0.store.apps().await?.into_iter().filter(|app| !app.destroying).collect();
            let behind = self
                .standings(apps)
                .await?
                .into_iter()
                .filter(|standing| standing.is_behind)
                .map(|standing| standing.app)
                .collect();
            self.rebase_all(behind, "schedule", &progress, stop).await;
            drop(progress);
            Ok(())
        };
        tokio::join!(updating, telling).0
    }

    /// The images that stacks need: the newest of each, and what images that are kept stand on.
    pub(super) async fn images_of_stacks(&self, kept: &[Digest]) -> Result<Vec<Digest>, DeployError> {
        let revisions = self.0.store.stack_revisions(None).await?;
        let mut needed = Vec::new();
        for (name, _) in self.0.store.stacks().await? {
            let newest = revisions.iter().find(|revision| revision.stack == name);
            needed.extend(newest.into_iter().flat_map(|newest| [newest.run.clone(), newest.build.clone()]));
        }
        for image in kept {
            needed.extend(self.0.images.run_image(image)?.filter(|run| self.0.images.blobs().has(run)));
        }
        Ok(needed)
    }
}
