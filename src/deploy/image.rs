//! Images of commits: manifests, build plan, and build, which is skipped if the same source and recipe were built before.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::{
    build_log::BuildLog, checkout::Checkout, deployer::Deployer, error::DeployError, failure, locks::Work,
    manifests::Manifests,
};
use crate::{
    build::{BuildBudget, BuildInput, BuildSettings, ChosenDockerfile, DockerfileInput, FinishedBuild, Recipe},
    git::Source,
    lifecycle::BINDING_ROOT,
    model::{AppJson, Digest, Procfile, Resource, Secret, SizeTarget},
    progress::Progress,
    store::{App, BuildId, SizeKind, UsedBuildpack},
    turns,
};

/// The image of a commit, and what its release needs besides.
pub(super) struct CommitImage {
    pub(super) manifest_digest: Digest,
    pub(super) build: BuildId,
    pub(super) app_json: AppJson,
    /// First line of the commit's message.
    pub(super) summary: String,
    /// Whether the app has no web process, whatever its language would start.
    pub(super) without_web: bool,
    /// Log of the build, to which the release writes, too.
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
    Dockerfile { dockerfile: ChosenDockerfile, procfile: Option<Procfile>, env: BTreeMap<String, Secret> },
}

/// What is built, and how.
struct Plan {
    app_json: AppJson,
    summary: String,
    without_web: bool,
    method: Method,
    source: Source,
    /// Digest of everything that decides the image.
    key: Digest,
    /// Variables and bindings of the build by name, whose values no failure tells.
    secrets: BTreeMap<String, Secret>,
}

impl Deployer {
    /// Makes the image of a commit; reports a failure.
    pub(super) async fn make_image(
        &self,
        app: &App,
        checkout: &Checkout<'_>,
        by: &str,
        reuse: Reuse,
        progress: &Progress,
        work: &Work,
    ) -> Result<CommitImage, DeployError> {
        let this = &self.0;
        let live = failure::Live::of(app);
        let plan = work.cancel().run_until_cancelled(Box::pin(self.plan(app, checkout, progress))).await;
        let Plan { app_json, summary, without_web, method, source, key, secrets } =
            match plan.unwrap_or(Err(DeployError::Cancelled)) {
                Ok(plan) => plan,
                Err(error) => return Err(failure::report(work.explain(error), live, progress).await),
            };
        for warning in &source.warnings {
            progress.trouble(warning.as_str()).await;
        }
        let stack = match &method {
            Method::Buildpacks(recipe) => Some(recipe.stack().to_owned()),
            Method::Dockerfile { .. } => None,
        };
        let build = this.store.begin_build(app.id, checkout.commit.clone(), key.clone(), by.to_owned(), stack).await?;
        let log = match BuildLog::open(self.build_log(app.id, build.number), progress).await {
            Ok(log) => log,
            Err(error) => return Err(failure::report(error, live, progress).await),
        };
        let image = match self.built_before(app, &key, reuse, log.progress()).await {
            Ok(Some(image)) => Ok(image),
            Ok(None) => self.build_within_quota(app, method, source, reuse, log.progress(), work.cancel()).await,
            Err(error) => Err(error),
        };
        let image = image.map_err(|error| work.explain(error.without_values(&secrets).with_app(&app.name)));
        let outcome = image.as_ref().map(Clone::clone).map_err(ToString::to_string);
        this.store.end_build(build.id, outcome).await?;
        match image {
            Ok((manifest_digest, _)) => {
                Ok(CommitImage { manifest_digest, build: build.id, app_json, summary, without_web, log })
            }
            Err(error) => {
                let reported = failure::report(error, live, log.progress()).await;
                log.close().await;
                Err(reported)
            }
        }
    }

    /// Decides what is built and how. A Dockerfile is built unless the app or its `project.toml` names a buildpack.
    async fn plan(&self, app: &App, checkout: &Checkout<'_>, progress: &Progress) -> Result<Plan, DeployError> {
        let this = &self.0;
        let summary = checkout.summary().await?;
        let max_job_seconds = this.config.tasks.cron_seconds;
        let manifests = Manifests::read(&app.name, checkout, max_job_seconds).await?;
        let Manifests { app: app_json, project, procfile, notices } = manifests;
        for notice in notices {
            progress.line(notice).await;
        }
        // A Procfile that names processes, but not web, says that there is none.
        let without_web = procfile.as_ref().is_some_and(Procfile::has_only_workers);
        let settings = self.build_settings(app, checkout, &project, progress).await?;
        let secrets = secrets(&settings);
        let source = checkout.source(&project.files).await?;
        if let Some(dockerfile) = dockerfile(app, checkout, &settings).await? {
            if !settings.bindings.is_empty() {
                let text = "Service bindings are for the running app: the steps of a Dockerfile do not see them";
                progress.detail(text).await;
            }
            let key = this.builder.dockerfile_key(&source.tree, &dockerfile, &settings.env);
            let method = Method::Dockerfile { dockerfile, procfile, env: settings.env };
            return Ok(Plan { app_json, summary, without_web, method, source, key, secrets });
        }
        let recipe = this.builder.recipe(settings, this.stacks.newest(this.stacks.name_for(app)).await?)?;
        for notice in recipe.notices(procfile.is_some()) {
            progress.detail(notice).await;
        }
        let key = recipe.key(&source.tree);
        let method = Method::Buildpacks(Box::new(recipe));
        Ok(Plan { app_json, summary, without_web, method, source, key, secrets })
    }

    /// Builds the image, and refuses it if the images of the app's owner are then too large.
    async fn build_within_quota(
        &self,
        app: &App,
        method: Method,
        source: Source,
        reuse: Reuse,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<(Digest, Vec<UsedBuildpack>), DeployError> {
        self.make_room_for_cache(app, progress).await;
        let built = self.build(app, method, source, reuse, progress, cancel).await;
        // Builds that waited with this one have seen no more than there was before them.
        self.make_room_for_cache(app, progress).await;
        let built = built?;
        if let Err(refused) = self.check_images(app.id, &built.image).await {
            self.0.builder.discard(built).await;
            return Err(refused);
        }
        Ok((built.image, built.buildpacks))
    }

    /// Whose turns the builds of an app take, and what they may use.
    pub(super) async fn build_budget(&self, app: &App) -> Result<BuildBudget, DeployError> {
        let store = &self.0.store;
        let (owner, max_builds) = store.owner_and_limit(app.id, Resource::Builds).await?;
        Ok(BuildBudget {
            owner,
            max_builds: turns::as_max(max_builds),
            size: store.sizes(app.id, SizeKind::Limit).await?.set(&SizeTarget::Builds),
        })
    }

    /// The complete image that an earlier build with this key made, if it may be used again.
    async fn built_before(
        &self,
        app: &App,
        key: &Digest,
        reuse: Reuse,
        progress: &Progress,
    ) -> Result<Option<(Digest, Vec<UsedBuildpack>)>, DeployError> {
        let this = &self.0;
        if reuse == Reuse::Yes
            && let Some((image, buildpacks)) = this.store.image_of_key(app.id, key.clone()).await?
            && self.has_image(&image).await?
        {
            progress.step("Source and buildpacks are unchanged: using the image built before").await;
            return Ok(Some((image, buildpacks)));
        }
        Ok(None)
    }

    /// Whether an image is complete; if so, garbage collection keeps it for now.
    pub(super) async fn has_image(&self, image: &Digest) -> Result<bool, DeployError> {
        let (images, image) = (self.0.images.clone(), image.clone());
        let complete = tokio::task::spawn_blocking(move || images.complete(&image)).await;
        Ok(complete.map_err(|_| DeployError::Cancelled)??)
    }

    async fn build(
        &self,
        app: &App,
        method: Method,
        source: Source,
        reuse: Reuse,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<FinishedBuild, DeployError> {
        let this = &self.0;
        let previous = match app.current {
            Some(current) => this.store.release(app.id, current.release).await?.map(|release| release.image),
            None => None,
        };
        let disk = app.id.0.to_string();
        let budget = self.build_budget(app).await?;
        let recipe = match method {
            Method::Buildpacks(recipe) => recipe,
            Method::Dockerfile { dockerfile, procfile, env } => {
                this.offers.ready(progress, cancel).await?;
                let logins = this.store.registry_logins(app.id).await?;
                let offered = this.store.offered_images().await?.into_iter().map(|image| image.manifest);
                let input = DockerfileInput {
                    app: app.name.clone(),
                    disk,
                    budget,
                    source: source.reader,
                    dockerfile,
                    procfile,
                    env,
                    logins,
                    known_images: previous.into_iter().chain(offered).collect(),
                    no_cache: reuse == Reuse::No,
                    mounted: app.mounts.iter().map(|mount| mount.target.clone()).collect(),
                };
                return Ok(this.builder.build_dockerfile(input, progress, cancel.clone()).await?);
            }
        };
        let tree = source.tree.as_str();
        let project = serde_json::json!({ "source": { "type": "git", "version": { "tree": tree } } });
        let input = BuildInput { app: app.name.clone(), disk, budget, source: source.reader, previous, project };
        Ok(this.builder.build(*recipe, input, progress, cancel.clone()).await?)
    }
}

/// The values of a build's variables and bindings, by how a script names them.
fn secrets(settings: &BuildSettings) -> BTreeMap<String, Secret> {
    let mut secrets = settings.env.clone();
    for (name, binding) in &settings.bindings {
        for (key, value) in &binding.values {
            // What is no text appears in no message.
            let text = str::from_utf8(value.expose()).map(str::trim);
            secrets.extend(text.map(|text| (format!("{BINDING_ROOT}/{name}/{key}"), Secret::new(text))));
        }
    }
    secrets
}

/// The Dockerfile that is built: the one that the app names, or `Dockerfile`; none if a buildpack is named.
async fn dockerfile(
    app: &App,
    checkout: &Checkout<'_>,
    settings: &BuildSettings,
) -> Result<Option<ChosenDockerfile>, DeployError> {
    if !settings.names_no_buildpack() {
        return Ok(None);
    }
    let path = app.dockerfile.clone().unwrap_or_default();
    let Err(why) = checkout.read_or_why_not(path.as_str()).await? else {
        return Ok(Some(ChosenDockerfile { path, target: app.build_target.clone() }));
    };
    match (why.instead(), &app.dockerfile) {
        (Some(instead), _) => Err(DeployError::DockerfileIsNoFile { app: app.name.clone(), path, instead }),
        (None, Some(_)) => Err(DeployError::NoDockerfile { app: app.name.clone(), path }),
        (None, None) => Ok(None),
    }
}
