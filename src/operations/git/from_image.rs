//! Deploys of an image of a registry.

use schemars::JsonSchema;
use serde::Deserialize;

use super::deploys::NewDeploy;
use crate::{
    model::{AppName, DeployedImage, Right},
    operations::{
        context::Context,
        failure::{Failure, Result},
        operation::Operation,
        ps::Released,
    },
    store::{App, Effect},
};

/// Deploys an image of a registry: a Dockerfile that consists of it becomes a commit of the deploy branch, which is deployed as a push
/// is.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct DeployImage {
    /// App.
    pub app: AppName,
    /// Image, such as ghcr.io/company/app:1.2 or one with a digest, NAME@sha256:….
    pub image: DeployedImage,
}

impl Operation for DeployImage {
    const NAME: &'static str = "git:from-image";
    const RIGHT: Right = Right::Deploy;
    const EFFECT: Effect = Effect::Change;
    const TAKES_DISK: bool = true;
    type Target = App;
    type Output = Released;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.image.to_string()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Released> {
        if !context.store.app_buildpacks(app.id).await?.is_empty() {
            let text = format!(
                "{0} is built by the buildpacks that it has chosen, not from an image; buildpacks:clear {0} lets it be",
                app.name
            );
            return Err(Failure::conflict(text));
        }
        let path = match (&app.source_folder, &app.dockerfile) {
            (None, None) => "Dockerfile".to_owned(),
            (Some(folder), None) => format!("{folder}/Dockerfile"),
            (None, Some(dockerfile)) => dockerfile.to_string(),
            (Some(folder), Some(dockerfile)) => format!("{folder}/{dockerfile}"),
        };
        let stage = app.build_target.as_ref().map(|stage| format!(" AS {stage}")).unwrap_or_default();
        let deploy = NewDeploy::begin(context, app).await?;
        let commit = deploy.next_commit(format!("Image {}\n", self.image));
        // A tag may lead to another image by now, and a Dockerfile that was built before is not built again.
        let comment =
            if self.image.has_digest() { String::new() } else { format!("# git:from-image at {}\n", commit.time) };
        let line = format!("{comment}FROM {}{stage}\n", self.image);
        let made = deploy.attended(deploy.import.file(commit, &path, line.as_bytes())).await?;
        context
            .progress
            .detail(format!("a Dockerfile with FROM {}, as commit {}", self.image, made.commit.short()))
            .await;
        deploy.deploy(made.commit).await
    }
}
