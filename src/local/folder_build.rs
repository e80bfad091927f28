//! The build of a folder, from its files to the image.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use tokio_util::sync::CancellationToken;

use super::{
    error::{LocalError, Result},
    source,
    workspace::Workspace,
};
use crate::{
    build::{
        BuildBudget, BuildError, BuildInput, BuildSettings, ChosenDockerfile, DockerfileInput, RequestedBuildpack,
    },
    lifecycle::protocol::Place,
    model::{
        AppName, BuildpackSource, Digest, DockerfilePath, InvalidName, Procfile, ProjectBuildpack, ProjectToml, Secret,
        decode_text,
    },
    progress::Progress,
};

/// A folder to build, and how.
#[derive(Debug, Clone, Default)]
pub struct FolderBuild {
    /// Folder of the app.
    pub folder: PathBuf,
    /// The buildpacks, in order; empty if the app's files decide.
    pub buildpacks: Vec<BuildpackSource>,
    /// Variables of the build, besides those of `project.toml`.
    pub env: BTreeMap<String, String>,
}

impl FolderBuild {
    /// Builds the folder. Returns the manifest of the image. `previous` is the image before, `disk` names the cache.
    pub(super) async fn run(
        &self,
        workspace: &Workspace,
        disk: &str,
        previous: Option<Digest>,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<Digest> {
        let builder = &workspace.builder;
        let project = self.read("project.toml")?.map(|text| ProjectToml::parse(&text)).transpose()?.unwrap_or_default();
        let settings = self.settings(workspace, &project, progress).await?;
        let source = Box::new(source::tar(&self.folder, &project.files)?);
        if settings.names_no_buildpack() && self.read("Dockerfile")?.is_some() {
            let input = DockerfileInput {
                app: app_name(&self.folder)?,
                disk: disk.to_owned(),
                budget: BuildBudget::default(),
                source,
                dockerfile: ChosenDockerfile { path: DockerfilePath::default(), target: None },
                procfile: self.read("Procfile")?.map(|text| Procfile::parse(&text)).transpose()?,
                env: settings.env,
                logins: Vec::new(),
                known_images: previous.into_iter().collect(),
                no_cache: false,
                mounted: Vec::new(),
            };
            return Ok(builder.build_dockerfile(input, progress, cancel.clone()).await?.image);
        }
        let recipe = builder.recipe(settings, workspace.stack.clone()).map_err(not_installed)?;
        for notice in recipe.notices(self.read("Procfile")?.is_some()) {
            progress.detail(notice).await;
        }
        let input = BuildInput {
            app: app_name(&self.folder)?,
            disk: disk.to_owned(),
            budget: BuildBudget::default(),
            source,
            previous,
            project: serde_json::json!({}),
        };
        Ok(builder.build(recipe, input, progress, cancel.clone()).await?.image)
    }

    /// The content of a text file of the app, if the file exists.
    fn read(&self, name: &str) -> Result<Option<String>> {
        let path = self.folder.join(name);
        match fs::read(&path).and_then(|bytes| Ok(decode_text(bytes)?)) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(LocalError::file("read", &path)(e)),
        }
    }

    async fn settings(
        &self,
        workspace: &Workspace,
        project: &ProjectToml,
        progress: &Progress,
    ) -> Result<BuildSettings> {
        for warning in &project.notices {
            progress.trouble(warning).await;
        }
        let env = project.env.iter().chain(&self.env);
        let env = env.map(|(name, value)| (name.clone(), Secret::new(value.clone()))).collect();
        let mut settings = BuildSettings { env, ..BuildSettings::default() };
        for source in &self.buildpacks {
            settings.group.push(self.requested_buildpack(workspace, source, progress).await?);
        }
        let group = if self.buildpacks.is_empty() { &project.group[..] } else { &[] };
        for (entries, into) in
            [(group, &mut settings.group), (&project.pre, &mut settings.pre), (&project.post, &mut settings.post)]
        {
            for entry in entries {
                into.push(match entry {
                    ProjectBuildpack::At(source) => self.requested_buildpack(workspace, source, progress).await?,
                    ProjectBuildpack::Inline { id, api, shell, script } => {
                        let (api, shell, script) = (api.clone(), shell.clone(), script.clone());
                        RequestedBuildpack::Inline { id: id.clone(), place: Place::Inline { api, shell, script } }
                    }
                });
            }
        }
        Ok(settings)
    }

    async fn requested_buildpack(
        &self,
        workspace: &Workspace,
        source: &BuildpackSource,
        progress: &Progress,
    ) -> Result<RequestedBuildpack> {
        Ok(match source {
            BuildpackSource::Name { id, version } => {
                RequestedBuildpack::Named { id: id.clone(), version: version.clone() }
            }
            BuildpackSource::App(folder) => {
                let of_app = BuildpackSource::Path(self.folder.join(folder));
                RequestedBuildpack::Package(workspace.fetch(&of_app, progress).await?)
            }
            other => RequestedBuildpack::Package(workspace.fetch(other, progress).await?),
        })
    }
}

/// Explains a missing buildpack without the commands of a server, which could install one.
fn not_installed(error: BuildError) -> LocalError {
    let BuildError::NoBuildpack(name) = error else { return error.into() };
    LocalError::Wrong(format!(
        "there is no buildpack {name} here: give its folder, .cnb file, git URL or image with --buildpack; \
         those that a composite one names are found by the package.toml in its folder ([[dependencies]] uri = \"../FOLDER\"), or \
         packaged with it (paas buildpack package --with FOLDER)"
    ))
}

/// The name of a folder, as the name of an app: each character that is not allowed becomes a hyphen.
pub(super) fn app_name(folder: &Path) -> Result<AppName> {
    let folder = fs::canonicalize(folder).map_err(LocalError::file("find", folder))?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name: String =
        name.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
    let name: String = name.trim_matches('-').chars().take(30).collect();
    name.trim_matches('-').parse().or_else(|_| "app".parse()).map_err(|e: InvalidName| LocalError::Wrong(e.to_string()))
}
