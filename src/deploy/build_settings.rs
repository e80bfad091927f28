//! The settings of a build: buildpacks that the app has chosen with `buildpacks:*`, else those that its `project.toml`
//! names, and the build's variables.

use std::collections::BTreeMap;

use super::{checkout::Checkout, deployer::Deployer, error::DeployError};
use crate::{
    build::{BuildError, BuildSettings, RequestedBuildpack},
    lifecycle::{descriptor::Descriptor, protocol},
    model::{BuildpackSource, ProjectBuildpack, ProjectToml, Secret},
    progress::Progress,
    store::{App, ChosenBuildpack},
};

impl Deployer {
    /// Combines what the app has chosen with its `project.toml`; fetches the packages that the latter names.
    pub(super) async fn build_settings(
        &self,
        app: &App,
        checkout: &Checkout<'_>,
        project: &ProjectToml,
        progress: &Progress,
    ) -> Result<BuildSettings, DeployError> {
        let chosen = self.0.store.app_buildpacks(app.id).await?;
        let mut settings = BuildSettings {
            installed: self.0.buildpacks.installed().await?,
            env: self.build_env(app, project).await?,
            bindings: self.0.store.bindings(app.id).await?,
            ..BuildSettings::default()
        };
        for entry in &project.pre {
            settings.pre.push(self.project_buildpack(app, checkout, entry, progress).await?);
        }
        for entry in &project.post {
            settings.post.push(self.project_buildpack(app, checkout, entry, progress).await?);
        }
        if chosen.is_empty() {
            for entry in &project.group {
                settings.group.push(self.project_buildpack(app, checkout, entry, progress).await?);
            }
        }
        for ChosenBuildpack { source, package } in chosen {
            settings.group.push(match package {
                Some(digest) => RequestedBuildpack::Package(self.0.buildpacks.package(digest).await?),
                None => self.requested_buildpack(app, checkout, &source, progress).await?,
            });
        }
        Ok(settings)
    }

    /// Variables of the build: those of `project.toml`, and the config vars that builds may see.
    async fn build_env(&self, app: &App, project: &ProjectToml) -> Result<BTreeMap<String, Secret>, DeployError> {
        let (vars, visible) = (self.0.store.config_vars(app.id).await?, self.0.store.build_vars(app.id).await?);
        let of_project = project.env.iter().map(|(name, value)| (name.clone(), Secret::new(value.clone())));
        let vars = vars.into_iter().filter(|(name, _)| visible.contains(name));
        Ok(of_project.chain(vars.map(|(name, value)| (name.into(), value))).collect())
    }

    async fn project_buildpack(
        &self,
        app: &App,
        checkout: &Checkout<'_>,
        entry: &ProjectBuildpack,
        progress: &Progress,
    ) -> Result<RequestedBuildpack, DeployError> {
        match entry {
            ProjectBuildpack::At(source) => self.requested_buildpack(app, checkout, source, progress).await,
            ProjectBuildpack::Inline { id, api, shell, script } => Ok(RequestedBuildpack::Inline {
                id: id.clone(),
                place: protocol::Place::Inline { api: api.clone(), shell: shell.clone(), script: script.clone() },
            }),
        }
    }

    async fn requested_buildpack(
        &self,
        app: &App,
        checkout: &Checkout<'_>,
        source: &BuildpackSource,
        progress: &Progress,
    ) -> Result<RequestedBuildpack, DeployError> {
        match source {
            BuildpackSource::Name { id, version } => {
                Ok(RequestedBuildpack::Named { id: id.clone(), version: version.clone() })
            }
            BuildpackSource::App(folder) => {
                let file = format!("{folder}/buildpack.toml");
                let failed = |reason: String| BuildError::CannotFetch { from: source.to_string(), reason };
                let text = checkout.read(&file).await?.ok_or_else(|| failed(format!("the commit has no {file}")))?;
                let about = Descriptor::parse(&text).map_err(|e| failed(format!("{file}, {e}")))?;
                // A composite one names parts that may be anywhere in the app.
                let (below, folder) = if about.order.is_empty() { (Some(folder), "") } else { (None, folder.as_str()) };
                let (tar, shown) = (checkout.all_of(below.map(String::as_str)).await?, source.to_string());
                let budget = self.build_budget(app).await?;
                let library = &self.0.buildpacks;
                Ok(RequestedBuildpack::Package(library.fetch_from_app(tar, folder, shown, budget, progress).await?))
            }
            // A pusher may name what anybody can read, but nothing of this machine.
            other => {
                let budget = self.build_budget(app).await?;
                Ok(RequestedBuildpack::Package(self.0.buildpacks.fetch(other, false, budget, progress).await?))
            }
        }
    }
}
