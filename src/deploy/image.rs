//! From a commit to an image: read what the app says, decide how it is built, build it unless that was done before.

use tokio_util::sync::CancellationToken;

use super::{DeployError, Deployer, build_log::BuildLog, checkout::Checkout, explain, manifests::Manifests};
use crate::{
    build::{BuildInput, Recipe},
    git::Source,
    model::{AppJson, CommitId, Digest},
    progress::Progress,
    store::{App, BuildId, Ran},
};

/// An image, and what belongs to its release.
pub(super) struct Made {
    pub(super) image: Digest,
    pub(super) build: BuildId,
    pub(super) manifest: AppJson,
    /// Where the rest of the release is told, too.
    pub(super) log: BuildLog,
}

/// Whether an image of the same source and recipe may be used again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reuse {
    Yes,
    No,
}

impl Deployer {
    /// Makes the image of a commit; tells why when it cannot.
    pub(super) async fn make_image(
        &self,
        app: &App,
        commit: &CommitId,
        by: &str,
        reuse: Reuse,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Made, DeployError> {
        let this = &self.0;
        let (manifest, recipe, source) = match self.prepare(app, commit, progress).await {
            Ok(prepared) => prepared,
            Err(error) => {
                explain(&error, progress).await;
                return Err(error);
            }
        };
        for warning in &source.warnings {
            progress.trouble(warning.as_str()).await;
        }
        let key = recipe.key(&source.tree);
        let stack = recipe.stack().to_owned();
        let build = this.store.begin_build(app.id, commit.clone(), key.clone(), by.to_owned(), stack).await?;
        let log = BuildLog::open(self.build_log(app.id, build.number), progress).await?;
        let image = self.image_of(app, recipe, &key, source, reuse, log.progress(), cancel).await;
        let outcome = image.as_ref().map(Clone::clone).map_err(ToString::to_string);
        this.store.end_build(build.id, outcome).await?;
        match image {
            Ok((image, _)) => Ok(Made { image, build: build.id, manifest, log }),
            Err(error) => {
                explain(&error, log.progress()).await;
                log.close().await;
                Err(error)
            }
        }
    }

    async fn prepare(
        &self,
        app: &App,
        commit: &CommitId,
        progress: &Progress,
    ) -> Result<(AppJson, Recipe, Source), DeployError> {
        let this = &self.0;
        let repository = this.repositories.get(&app.name);
        let checkout = Checkout { repository: &repository, commit, folder: app.source_folder.as_ref() };
        let Manifests { app: manifest, project } = Manifests::read(&checkout).await?;
        let wishes = self.wishes(app, &checkout, &project, progress).await?;
        let stack = self.stack(self.stack_of(app)).await?;
        let recipe = this.builder.recipe(wishes, stack)?;
        let source = checkout.source(&project.files).await?;
        Ok((manifest, recipe, source))
    }

    /// The image of this source: the one that the same source and recipe gave before, or a new one.
    #[expect(clippy::too_many_arguments, reason = "each is a different thing that decides the image")]
    async fn image_of(
        &self,
        app: &App,
        recipe: Recipe,
        key: &Digest,
        source: Source,
        reuse: Reuse,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(Digest, Vec<Ran>), DeployError> {
        let this = &self.0;
        if reuse == Reuse::Yes
            && let Some((image, ran)) = this.store.image_of_key(app.id, key.clone()).await?
            && this.images.complete(&image)?
        {
            progress.step("Source and buildpacks are unchanged: using the image built before").await;
            return Ok((image, ran));
        }
        let previous = match app.current {
            Some(current) => this.store.release(app.id, current.release).await?.map(|release| release.image),
            None => None,
        };
        let tree = source.tree.as_str();
        let project = serde_json::json!({ "source": { "type": "git", "version": { "tree": tree } } });
        let (app, disk) = (app.name.clone(), app.id.0.to_string());
        let input = BuildInput { app, disk, source: source.reader, previous, project };
        Ok(this.builder.build(recipe, input, progress, cancel.clone()).await?)
    }
}
