//! Settings of an app's builds.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    model::{AppName, CommitId, DockerfilePath, InvalidName, Line, Right, SourceFolder, StageName},
    operations::{context::Context, failure::Result, operation::Operation},
    store::{App, Effect},
};

/// A property of an app's builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BuildProperty {
    /// Folder of the repository that is built.
    #[serde(alias = "build-dir")]
    Dir,
    /// Path of the Dockerfile in the folder that is built.
    #[serde(alias = "dockerfile-path")]
    Dockerfile,
    /// Stage of the Dockerfile that is built.
    Target,
}

impl std::str::FromStr for BuildProperty {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "dir" | "build-dir" => Ok(Self::Dir),
            "dockerfile" | "dockerfile-path" => Ok(Self::Dockerfile),
            "target" => Ok(Self::Target),
            other => {
                Err(format!("there is no property {}; those are dir, dockerfile and target", Line::excerpt(other)))
            }
        }
    }
}

/// The folder of a repository that is built; without one, the whole repository. Read from a path that may begin with `./`
/// and end with `/`; an empty one, or `.`, is the whole repository.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BuildDir(pub Option<SourceFolder>);

impl std::str::FromStr for BuildDir {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.trim_start_matches("./").trim_end_matches('/') {
            "" | "." => Ok(Self(None)),
            folder => Ok(Self(Some(folder.parse()?))),
        }
    }
}

impl fmt::Display for BuildDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref().map_or(".", SourceFolder::as_str))
    }
}

/// A property with its value; without one, the default.
#[derive(Debug, Clone, PartialEq, Eq)]
enum BuildSetting {
    Dir(BuildDir),
    Dockerfile(Option<DockerfilePath>),
    Target(Option<StageName>),
}

impl fmt::Display for BuildSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(dir) => write!(f, "dir {dir}"),
            Self::Dockerfile(Some(path)) => write!(f, "dockerfile {path}"),
            Self::Dockerfile(None) => f.write_str("dockerfile"),
            Self::Target(Some(stage)) => write!(f, "target {stage}"),
            Self::Target(None) => f.write_str("target"),
        }
    }
}

/// Sets a property of an app's builds: dir, the folder of the repository that is built; dockerfile, the path of the
/// Dockerfile in it; target, the stage of the Dockerfile that is built.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct SetBuilds {
    /// App.
    pub app: AppName,
    /// dir, dockerfile or target
    pub property: BuildProperty,
    /// Value of the property: a folder, a path, or the name or number of a stage; without it, the default.
    pub value: Option<String>,
}

impl SetBuilds {
    fn setting(&self) -> Result<BuildSetting, InvalidName> {
        let value = self.value.as_deref().filter(|value| !value.is_empty());
        Ok(match self.property {
            BuildProperty::Dir => BuildSetting::Dir(value.unwrap_or_default().parse()?),
            BuildProperty::Dockerfile => BuildSetting::Dockerfile(value.map(str::parse).transpose()?),
            BuildProperty::Target => BuildSetting::Target(value.map(str::parse).transpose()?),
        })
    }
}

/// Settings of an app's builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BuildSettingsInfo {
    /// App.
    pub app: AppName,
    /// Folder of the repository that is built; without one, the whole repository.
    pub build_dir: Option<SourceFolder>,
    /// Path of the Dockerfile in the folder that is built; without one, `Dockerfile`, if there is such a file.
    pub dockerfile: Option<DockerfilePath>,
    /// Stage of the Dockerfile that is built; without one, the last.
    pub build_target: Option<StageName>,
}

impl Operation for SetBuilds {
    const NAME: &'static str = "builds:set";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = BuildSettingsInfo;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.setting().map_or_else(|error| error.what.to_owned(), |setting| setting.to_string())
    }

    async fn run(self, context: &Context<'_>, mut app: App) -> Result<BuildSettingsInfo> {
        match self.setting()? {
            BuildSetting::Dir(BuildDir(folder)) => {
                context.store.set_source_folder(app.id, folder.clone()).await?;
                app.source_folder = folder;
                report_dir(context, &app).await;
            }
            BuildSetting::Dockerfile(path) => {
                context.store.set_dockerfile(app.id, path.clone()).await?;
                app.dockerfile = path;
                report_dockerfile(context, &app).await;
            }
            BuildSetting::Target(stage) => {
                context.store.set_build_target(app.id, stage.clone()).await?;
                app.build_target = stage;
                report_target(context, &app).await;
            }
        }
        Ok(BuildSettingsInfo {
            app: app.name,
            build_dir: app.source_folder,
            dockerfile: app.dockerfile,
            build_target: app.build_target,
        })
    }
}

async fn report_dir(context: &Context<'_>, app: &App) {
    let what = app.source_folder.as_ref().map_or_else(|| "the whole repository".to_owned(), |dir| format!("{dir}/"));
    context.progress.step(format!("{} is built from {what} from the next push on", app.name)).await;
    // Only a warning: the next push may add the folder. If git fails, there is nothing to warn about.
    if let Some(folder) = &app.source_folder
        && let Ok(Some(commit)) = context.deployer.commit_without_folder(app, folder).await
    {
        warn_of_missing(context, &commit, format!("folder {folder}"), "set dir to an existing folder").await;
    }
}

async fn report_dockerfile(context: &Context<'_>, app: &App) {
    let Some(path) = &app.dockerfile else {
        let text = format!("{} is built from the file Dockerfile, if there is one, from the next push on", app.name);
        context.progress.step(text).await;
        return;
    };
    context.progress.step(format!("{} is built from the Dockerfile {path} from the next push on", app.name)).await;
    if let Ok(Some(commit)) = context.deployer.commit_without_file(app, path.as_str()).await {
        let file = app.source_folder.as_ref().map_or_else(|| path.to_string(), |folder| format!("{folder}/{path}"));
        warn_of_missing(context, &commit, format!("file {file}"), "set dockerfile to an existing file").await;
    }
    warn_of_buildpacks(context, app).await;
}

async fn report_target(context: &Context<'_>, app: &App) {
    let stage = app.build_target.as_ref().map_or_else(|| "the last stage".to_owned(), |stage| format!("stage {stage}"));
    context.progress.step(format!("{} is built up to {stage} of its Dockerfile from the next push on", app.name)).await;
    if app.build_target.is_some() {
        warn_of_buildpacks(context, app).await;
    }
}

async fn warn_of_missing(context: &Context<'_>, commit: &CommitId, what: String, remedy: &str) {
    let text = format!("the pushed commit {} has no {what}; push a commit that has it, or {remedy}", commit.short());
    context.progress.trouble(text).await;
}

/// Warns if the app is built without its Dockerfile.
async fn warn_of_buildpacks(context: &Context<'_>, app: &App) {
    if context.store.app_buildpacks(app.id).await.is_ok_and(|chosen| !chosen.is_empty()) {
        let name = &app.name;
        let text =
            format!("{name} has chosen buildpacks, so no Dockerfile is built; buildpacks:clear {name} changes that");
        context.progress.trouble(text).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_from_the_paths_that_people_write() {
        let folder = |text: &str| text.parse::<BuildDir>().map(|dir| dir.0.map(|folder| folder.to_string()));
        for (text, expected) in [
            ("services/api", Some("services/api")),
            ("./services/api/", Some("services/api")),
            (".", None),
            ("./", None),
            ("", None),
        ] {
            assert_eq!(folder(text).unwrap().as_deref(), expected, "{text:?}");
        }
        assert!(folder("../api").unwrap_err().to_string().contains("is not a valid folder of a repository"));
    }

    #[test]
    fn a_value_is_read_as_its_property_says() {
        let set = |property: &str, value: Option<&str>| {
            let input = serde_json::json!({ "app": "a", "property": property, "value": value });
            serde_json::from_value::<SetBuilds>(input).unwrap()
        };
        for (property, value, expected) in [
            ("dir", Some("./web/"), "dir web"),
            ("build-dir", None, "dir ."),
            ("dockerfile", Some("./docker/Dockerfile"), "dockerfile docker/Dockerfile"),
            ("dockerfile-path", Some(""), "dockerfile"),
            ("target", Some("final"), "target final"),
            ("target", Some("0"), "target 0"),
            ("target", None, "target"),
        ] {
            assert_eq!(set(property, value).audit(), expected);
        }
        for (property, value, what) in [
            ("dir", "../s3cret", "folder of a repository"),
            ("dockerfile", "../s3cret", "path of a Dockerfile"),
            ("dockerfile", "s3cret/", "path of a Dockerfile"),
            ("target", "s3cret x", "stage of a Dockerfile"),
        ] {
            let invalid = set(property, Some(value));
            assert_eq!(invalid.audit(), what, "an invalid value is not recorded");
            assert!(invalid.setting().unwrap_err().to_string().contains(&format!("is not a valid {what}: ")));
        }
        assert!("selected".parse::<BuildProperty>().unwrap_err().contains("dir, dockerfile and target"));
    }
}
