//! Settings of an app's builds.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    model::{AppName, InvalidName, Line, Right, SourceFolder},
    operations::{context::Context, failure::Result, operation::Operation},
    store::{App, Effect},
};

/// A property of an app's builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BuildProperty {
    /// Folder of the repository that is built.
    Dir,
}

impl std::str::FromStr for BuildProperty {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "dir" => Ok(Self::Dir),
            other => Err(format!("there is no property {}; the only one is dir", Line::sanitize(other))),
        }
    }
}

/// The folder of a repository that is built; without one, the whole repository. Read from a path that may begin with `./`
/// and end with `/`; an empty one, or `.`, is the whole repository.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
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

impl TryFrom<String> for BuildDir {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl fmt::Display for BuildDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref().map_or(".", SourceFolder::as_str))
    }
}

impl JsonSchema for BuildDir {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BuildDir".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "a folder of the repository, or . for all of it" })
    }
}

/// Sets a property of an app's builds: dir, the folder of the repository that is built.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct SetBuilds {
    /// App.
    pub app: AppName,
    /// dir
    pub property: BuildProperty,
    /// Value of the property; without it, the default.
    pub value: Option<BuildDir>,
}

/// Settings of an app's builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BuildSettingsInfo {
    /// App.
    pub app: AppName,
    /// Folder of the repository that is built; without one, the whole repository.
    pub build_dir: Option<SourceFolder>,
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
        match self.property {
            BuildProperty::Dir => format!("dir {}", self.value.clone().unwrap_or_default()),
        }
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<BuildSettingsInfo> {
        match self.property {
            BuildProperty::Dir => set_dir(context, app, self.value.unwrap_or_default().0).await,
        }
    }
}

async fn set_dir(context: &Context<'_>, app: App, folder: Option<SourceFolder>) -> Result<BuildSettingsInfo> {
    let what = folder.as_ref().map_or_else(|| "the whole repository".to_owned(), |folder| format!("{folder}/"));
    context.store.set_source_folder(app.id, folder.clone()).await?;
    context.progress.step(format!("{} is built from {what} from the next push on", app.name)).await;
    // Only a warning: the next push may add the folder. If git fails, there is nothing to warn about.
    if let Some(folder) = &folder
        && let Ok(Some(commit)) = context.deployer.commit_without(&app, folder).await
    {
        let text = format!("the pushed commit {} has no folder {folder}; push a commit that has it", commit.short());
        context.progress.trouble(format!("{text}, or set dir to an existing folder")).await;
    }
    Ok(BuildSettingsInfo { app: app.name, build_dir: folder })
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
        let input = serde_json::json!({ "app": "a", "property": "dir", "value": "./web/" });
        let set: SetBuilds = serde_json::from_value(input).unwrap();
        assert_eq!(set.audit(), "dir web");
    }
}
