//! From a commit to an image: read what the app says, decide how it is built, build it unless that was done before.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::{DeployError, Deployer, build_log::BuildLog, checkout::Checkout, explain, manifests::Manifests};
use crate::{
    build::{BuildInput, DockerfileInput, Recipe},
    git::Source,
    model::{AppJson, CommitId, Digest, Procfile, Secret, dockerfile},
    progress::Progress,
    store::{App, BuildId, UsedBuildpack},
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

/// How a source becomes an image.
enum Method {
    Buildpacks(Box<Recipe>),
    Dockerfile { text: String, procfile: Option<Procfile>, env: BTreeMap<String, Secret> },
}

/// What is to be built, and how.
struct Plan {
    manifest: AppJson,
    method: Method,
    source: Source,
    /// Of all that decides the image.
    key: Digest,
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
        let plan = cancel.run_until_cancelled(Box::pin(self.plan(app, commit, progress))).await;
        let Plan { manifest, method, source, key } = match plan.unwrap_or(Err(DeployError::Cancelled)) {
            Ok(plan) => plan,
            Err(error) => return Err(explain(error, app.current.is_some(), progress).await),
        };
        for warning in &source.warnings {
            progress.trouble(warning.as_str()).await;
        }
        let stack = match &method {
            Method::Buildpacks(recipe) => Some(recipe.stack().to_owned()),
            Method::Dockerfile { .. } => None,
        };
        let build = this.store.begin_build(app.id, commit.clone(), key.clone(), by.to_owned(), stack).await?;
        let log = match BuildLog::open(self.build_log(app.id, build.number), progress).await {
            Ok(log) => log,
            Err(error) => return Err(explain(error, app.current.is_some(), progress).await),
        };
        let image = match self.built_before(app, &key, reuse, log.progress()).await {
            Ok(Some(image)) => Ok(image),
            Ok(None) => self.build(app, method, source, reuse, log.progress(), cancel).await,
            Err(error) => Err(error),
        };
        let outcome = image.as_ref().map(Clone::clone).map_err(ToString::to_string);
        this.store.end_build(build.id, outcome).await?;
        match image {
            Ok((image, _)) => Ok(Made { image, build: build.id, manifest, log }),
            Err(error) => {
                let told = explain(error, app.current.is_some(), log.progress()).await;
                log.close().await;
                Err(told)
            }
        }
    }

    /// A Dockerfile is built when nobody names a buildpack.
    async fn plan(&self, app: &App, commit: &CommitId, progress: &Progress) -> Result<Plan, DeployError> {
        let this = &self.0;
        let repository = this.repositories.get(&app.name);
        let checkout = Checkout { repository: &repository, commit, folder: app.source_folder.as_ref() };
        let Manifests { app: manifest, project, procfile } = Manifests::read(&checkout).await?;
        let wishes = self.wishes(app, &checkout, &project, progress).await?;
        if let (true, Some(text)) = (wishes.names_none(), checkout.read("Dockerfile").await?) {
            let files = dockerfile::files(&project.files, checkout.read(".dockerignore").await?.as_deref());
            let source = checkout.source(&files).await?;
            let key = this.builder.dockerfile_key(&source.tree, &wishes.env);
            return Ok(Plan { manifest, method: Method::Dockerfile { text, procfile, env: wishes.env }, source, key });
        }
        let recipe = this.builder.recipe(wishes, self.stack(self.stack_of(app)).await?)?;
        let source = checkout.source(&project.files).await?;
        let key = recipe.key(&source.tree);
        Ok(Plan { manifest, method: Method::Buildpacks(Box::new(recipe)), source, key })
    }

    /// The image that the same source gave before, when it may be used again.
    async fn built_before(
        &self,
        app: &App,
        key: &Digest,
        reuse: Reuse,
        progress: &Progress,
    ) -> Result<Option<(Digest, Vec<UsedBuildpack>)>, DeployError> {
        let this = &self.0;
        if reuse == Reuse::Yes
            && let Some((image, ran)) = this.store.image_of_key(app.id, key.clone()).await?
            && this.images.complete(&image)?
        {
            progress.step("Source and buildpacks are unchanged: using the image built before").await;
            return Ok(Some((image, ran)));
        }
        Ok(None)
    }

    async fn build(
        &self,
        app: &App,
        method: Method,
        source: Source,
        reuse: Reuse,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(Digest, Vec<UsedBuildpack>), DeployError> {
        let this = &self.0;
        let recipe = match method {
            Method::Buildpacks(recipe) => recipe,
            Method::Dockerfile { text, procfile, env } => {
                let (app, source, anew) = (app.name.clone(), source.reader, reuse == Reuse::No);
                let input = DockerfileInput { app, text, source, procfile, env, anew };
                let image = this.builder.build_dockerfile(input, progress, cancel.clone()).await?;
                return Ok((image, Vec::new()));
            }
        };
        let previous = match app.current {
            Some(current) => this.store.release(app.id, current.release).await?.map(|release| release.image),
            None => None,
        };
        let tree = source.tree.as_str();
        let project = serde_json::json!({ "source": { "type": "git", "version": { "tree": tree } } });
        let (app, disk) = (app.name.clone(), app.id.0.to_string());
        let input = BuildInput { app, disk, source: source.reader, previous, project };
        Ok(this.builder.build(*recipe, input, progress, cancel.clone()).await?)
    }
}
