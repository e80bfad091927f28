//! Stacks: creating and updating them, and which revision apps are on.

use std::sync::Arc;

use super::error::DeployError;
use crate::{
    build::{BuildBudget, Builder},
    config::Config,
    images::{ImageStore, Stack, StackDefinition},
    model::{Digest, Distribution, ImageReference, PackageChange},
    progress::Progress,
    store::{App, ImageReferences, StackImages, StackRevision, StackSource, Store, now},
};

/// Creates, updates and finds stacks.
pub struct Stacks {
    config: Arc<Config>,
    store: Store,
    images: ImageStore,
    builder: Builder,
}

/// The stack of an app, and the revision that its image is on.
#[derive(Debug, Clone)]
pub struct StackStatus {
    /// The app.
    pub app: App,
    /// Name of the app's stack: the chosen one, or the default.
    pub stack: String,
    /// Stack and revision that the app's image is on, if it is on a known one.
    pub on: Option<(String, u64)>,
    /// Newest revision of the app's stack.
    pub newest: Option<u64>,
    /// Whether a rebase would change the app's image.
    pub is_behind: bool,
}

impl Stacks {
    pub(super) fn new(config: Arc<Config>, store: Store, images: ImageStore, builder: Builder) -> Self {
        Self { config, store, images, builder }
    }

    /// Name of the stack of apps that have not chosen one.
    pub fn default_name(&self) -> &str {
        &self.config.stack.default
    }

    /// Name of the stack that an app is built on.
    pub fn name_for<'a>(&'a self, app: &'a App) -> &'a str {
        app.stack.as_deref().unwrap_or_else(|| self.default_name())
    }

    /// Makes sure that the images of the embedded stack exist, and that the default stack does. A changed definition
    /// of the embedded stack makes a new revision.
    pub async fn prepare(&self, progress: &Progress) -> Result<(), DeployError> {
        let embedded = StackDefinition::embedded()?;
        let source = StackSource::Packages(embedded.text().to_owned());
        let known = self.store.stacks().await?;
        let is_current = known.iter().any(|(name, old)| *name == embedded.id && *old == source);
        let newest = self.newest_revision(&embedded.id).await?;
        let is_complete = match &newest {
            Some(newest) => self.images.complete(&newest.run)? && self.images.complete(&newest.build)?,
            None => false,
        };
        if !is_current || !is_complete {
            let stack = embedded.bootstrap(&self.config.stack, "", &self.images, progress).await?;
            let made = self.with_distribution(stack).await?;
            self.store.put_stack(embedded.id.clone(), source, true, made).await?;
        }
        match self.newest(self.default_name()).await {
            Err(DeployError::NoStack(name)) => Err(DeployError::NoDefaultStack { name, embedded: embedded.id }),
            other => other.map(drop),
        }
    }

    /// The newest revision of a stack, if the stack exists.
    pub(super) async fn newest_revision(&self, name: &str) -> Result<Option<StackRevision>, DeployError> {
        Ok(self.store.stack_revisions(Some(name.to_owned())).await?.into_iter().next())
    }

    /// The images of a stack's newest revision.
    pub(super) async fn newest(&self, name: &str) -> Result<Stack, DeployError> {
        let newest = self.newest_revision(name).await?;
        let newest = newest.ok_or_else(|| DeployError::NoStack(name.to_owned()))?;
        Ok(self.images.stack(name, &newest.run, &newest.build, &newest.distribution)?)
    }

    /// Makes a stack.
    pub async fn create(
        &self,
        name: &str,
        source: StackSource,
        progress: &Progress,
    ) -> Result<StackRevision, DeployError> {
        if self.store.stacks().await?.iter().any(|(other, _)| other == name) {
            return Err(DeployError::StackExists(name.to_owned()));
        }
        let stack = self.fetch(name, &source, "", progress).await?;
        let made = self.with_distribution(stack).await?;
        Ok(self.store.put_stack(name.to_owned(), source, false, made).await?)
    }

    /// Gets the newest packages or images of a stack. Returns the revision before, and the newest.
    pub async fn update(&self, name: &str, progress: &Progress) -> Result<(StackRevision, StackRevision), DeployError> {
        let known = self.store.stacks().await?.into_iter().find(|(other, _)| other == name);
        let none = || DeployError::NoStack(name.to_owned());
        let (_, source) = known.ok_or_else(none)?;
        let before = self.newest_revision(name).await?.ok_or_else(none)?;
        let stack = self.fetch(name, &source, &now().to_string(), progress).await?;
        let made = self.with_distribution(stack).await?;
        Ok((before, self.store.add_stack_revision(name.to_owned(), made).await?))
    }

    async fn fetch(
        &self,
        name: &str,
        source: &StackSource,
        seed: &str,
        progress: &Progress,
    ) -> Result<Stack, DeployError> {
        match source {
            StackSource::Packages(text) => {
                let definition = StackDefinition::parse(text)?;
                Ok(definition.bootstrap(&self.config.stack, seed, &self.images, progress).await?)
            }
            StackSource::Images(ImageReferences { run, build }) => {
                let run = self.import(run, progress).await?;
                let build = self.import(build, progress).await?;
                let distribution = self.distribution(&run).await?;
                Ok(self.images.stack(name, &run, &build, &distribution)?)
            }
        }
    }

    /// Copies an image from a registry into the blob store, or from the engine if no registry has it.
    async fn import(&self, reference: &str, progress: &Progress) -> Result<Digest, DeployError> {
        let reference = ImageReference::new(reference);
        progress.step(format!("Getting the image {reference}")).await;
        let (spool, archive) = self.builder.image_for_admin(&reference, BuildBudget::default(), progress).await?;
        let images = self.images.clone();
        let imported = tokio::task::spawn_blocking(move || {
            let imported = images.import(&archive);
            drop(spool);
            imported
        });
        Ok(imported.await.map_err(|_| DeployError::Cancelled)??.manifest)
    }

    async fn with_distribution(&self, stack: Stack) -> Result<StackImages, DeployError> {
        let mut distribution = self.distribution(&stack.run.manifest).await?;
        if distribution.name.is_empty() {
            distribution.name.clone_from(&stack.target.distro_name);
            distribution.version.clone_from(&stack.target.distro_version);
        }
        Ok(StackImages { run: stack.run.manifest, build: stack.build.manifest, distribution })
    }

    async fn distribution(&self, run_image: &Digest) -> Result<Distribution, DeployError> {
        let (images, run_image) = (self.images.clone(), run_image.clone());
        let read = tokio::task::spawn_blocking(move || images.distribution(&run_image)).await;
        Ok(read.map_err(|_| DeployError::Cancelled)??)
    }

    /// Package changes between the last two revisions of a stack.
    pub async fn changes(&self, name: &str) -> Result<Vec<PackageChange>, DeployError> {
        let revisions = self.store.stack_revisions(Some(name.to_owned())).await?;
        let [newest, before, ..] = &revisions[..] else { return Ok(Vec::new()) };
        Ok(before.distribution.changes(&newest.distribution))
    }

    /// The stack and revision of each of these apps.
    pub async fn statuses(&self, apps: Vec<App>) -> Result<Vec<StackStatus>, DeployError> {
        let revisions = self.store.stack_revisions(None).await?;
        let mut statuses = Vec::new();
        for app in apps {
            let stack = self.name_for(&app).to_owned();
            let newest = revisions.iter().find(|revision| revision.stack == stack);
            let base = match app.current {
                Some(current) => match self.store.release(app.id, current.release).await? {
                    Some(release) => self.images.run_image(&release.image)?,
                    None => None,
                },
                None => None,
            };
            // The image of a Dockerfile has no base, so it is never behind.
            let is_behind = base.as_ref().is_some_and(|base| newest.is_some_and(|newest| newest.run != *base));
            // Revisions of several stacks may share a run image: those of the app's own stack come first.
            let revision_with_base = |own_stack: bool| {
                let mut candidates = revisions.iter().filter(|revision| (revision.stack == stack) == own_stack);
                candidates.find(|revision| Some(&revision.run) == base.as_ref())
            };
            let on = revision_with_base(true).or_else(|| revision_with_base(false));
            let on = on.map(|on| (on.stack.clone(), on.number));
            let newest = newest.map(|newest| newest.number);
            statuses.push(StackStatus { app, stack, on, newest, is_behind });
        }
        Ok(statuses)
    }

    /// Images that garbage collection must keep: the newest of each stack, and the run images below the images in
    /// `kept`.
    pub(super) async fn images_to_keep(&self, kept: &[Digest]) -> Result<Vec<Digest>, DeployError> {
        let revisions = self.store.stack_revisions(None).await?;
        let mut needed = Vec::new();
        for (name, _) in self.store.stacks().await? {
            let newest = revisions.iter().find(|revision| revision.stack == name);
            needed.extend(newest.into_iter().flat_map(|newest| [newest.run.clone(), newest.build.clone()]));
        }
        let (images, kept) = (self.images.clone(), kept.to_vec());
        let below = tokio::task::spawn_blocking(move || {
            let mut below = Vec::new();
            for image in kept {
                below.extend(images.run_image(&image)?.filter(|run| images.blobs().has(run)));
            }
            Ok::<_, DeployError>(below)
        });
        needed.extend(below.await.map_err(|_| DeployError::Cancelled)??);
        Ok(needed)
    }
}
