//! Operations of buildpacks: those that an app has chosen, and those of the server.

mod installed;

pub use installed::*;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    context::{Context, Requirement},
    failure::Result,
    operation::Operation,
};
use crate::{
    deploy::BuildpackPosition,
    model::{AppName, BuildpackSource, Digest, Right},
    store::{App, ChosenBuildpack, Effect, StoreError},
};

/// Lists the buildpacks that an app has chosen; none, if detection is to choose.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListBuildpacks {
    /// App.
    pub app: AppName,
}

/// A buildpack that an app has chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AppBuildpack {
    /// Position, counted from 1.
    pub index: usize,
    /// Source, as it was chosen, without credentials of its address.
    pub buildpack: BuildpackSource,
    /// Digest of the package that every build uses; without one, the name is looked up at each build.
    #[schemars(with = "Option<String>")]
    pub package: Option<Digest>,
}

async fn chosen(context: &Context<'_>, app: &App) -> Result<Vec<AppBuildpack>> {
    let chosen = context.store.app_buildpacks(app.id).await?;
    let row = |(index, entry): (usize, ChosenBuildpack)| AppBuildpack {
        index: index + 1,
        buildpack: entry.source,
        package: entry.package,
    };
    Ok(chosen.into_iter().enumerate().map(row).collect())
}

impl Operation for ListBuildpacks {
    const NAME: &'static str = "buildpacks:list";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = Vec<AppBuildpack>;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Vec<AppBuildpack>> {
        chosen(context, &app).await
    }
}

/// The buildpacks that an app has chosen, after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ChangedBuildpacks {
    /// App.
    pub app: AppName,
    /// The chosen buildpacks; none, if detection is to choose.
    pub buildpacks: Vec<AppBuildpack>,
}

/// Adds a buildpack to those that an app has chosen; the app is then built with these only.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct AddBuildpack {
    /// App.
    pub app: AppName,
    /// An id with an optional @version, a git URL with an optional #ref:folder, docker://IMAGE, ./FOLDER of the app, or (admins) a path.
    pub buildpack: BuildpackSource,
    /// Its position, counted from 1; without it, the last.
    #[arg(long, short)]
    pub index: Option<usize>,
}

impl Operation for AddBuildpack {
    const NAME: &'static str = "buildpacks:add";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    const TAKES_DISK: bool = true;
    type Target = App;
    type Output = ChangedBuildpacks;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        described(&self.buildpack, self.index)
    }

    async fn requirement(&self, _: &Context<'_>, _: &App) -> Result<Option<Requirement>> {
        Ok(admin_for_path(&self.buildpack))
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ChangedBuildpacks> {
        let position = self.index.map_or(BuildpackPosition::Last, BuildpackPosition::Before);
        choose(context, app, self.buildpack, position).await
    }
}

/// Chooses one buildpack for an app, or replaces one of those chosen.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct SetBuildpack {
    /// App.
    pub app: AppName,
    /// As for buildpacks:add.
    pub buildpack: BuildpackSource,
    /// Position of the buildpack to replace, counted from 1.
    #[arg(long, short)]
    pub index: Option<usize>,
}

impl Operation for SetBuildpack {
    const NAME: &'static str = "buildpacks:set";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    const TAKES_DISK: bool = true;
    type Target = App;
    type Output = ChangedBuildpacks;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        described(&self.buildpack, self.index)
    }

    async fn requirement(&self, _: &Context<'_>, _: &App) -> Result<Option<Requirement>> {
        Ok(admin_for_path(&self.buildpack))
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ChangedBuildpacks> {
        let position = self.index.map_or(BuildpackPosition::Only, BuildpackPosition::InPlaceOf);
        choose(context, app, self.buildpack, position).await
    }
}

/// A chosen buildpack for the audit log.
fn described(source: &BuildpackSource, index: Option<usize>) -> String {
    index.map_or_else(|| source.to_string(), |index| format!("{source} index={index}"))
}

/// Files of the server may be named by admins only.
fn admin_for_path(source: &BuildpackSource) -> Option<Requirement> {
    let reason = "only an admin may name files of the server; give a git URL, docker://IMAGE, or a name of \
                  buildpacks:installed";
    match source {
        BuildpackSource::Path(_) => Some(Requirement { right: Right::Admin, reason: reason.to_owned() }),
        BuildpackSource::Name { .. }
        | BuildpackSource::Git { .. }
        | BuildpackSource::Image(_)
        | BuildpackSource::App(_) => None,
    }
}

async fn choose(
    context: &Context<'_>,
    app: App,
    source: BuildpackSource,
    position: BuildpackPosition,
) -> Result<ChangedBuildpacks> {
    let text = format!("{0} is built with {source} from the next push on; ps:rebuild {0} builds it now", app.name);
    context.deployer.choose_buildpack(&app, source, position, context.held >= Right::Admin, context.progress).await?;
    context.deployer.buildpacks().remove_unused().await?;
    context.progress.detail(text).await;
    Ok(ChangedBuildpacks { buildpacks: chosen(context, &app).await?, app: app.name })
}

/// Removes a buildpack from those that an app has chosen.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct RemoveBuildpack {
    /// App.
    pub app: AppName,
    /// As buildpacks:list shows it, or as it was chosen.
    pub buildpack: BuildpackSource,
}

impl Operation for RemoveBuildpack {
    const NAME: &'static str = "buildpacks:remove";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = ChangedBuildpacks;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        described(&self.buildpack, None)
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ChangedBuildpacks> {
        let name = app.name.clone();
        change(context, app, move |chosen| without(chosen, &self.buildpack, &name)).await
    }
}

/// Removes all buildpacks that an app has chosen, so that detection chooses again.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ClearBuildpacks {
    /// App.
    pub app: AppName,
}

impl Operation for ClearBuildpacks {
    const NAME: &'static str = "buildpacks:clear";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = ChangedBuildpacks;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ChangedBuildpacks> {
        change(context, app, |_| Ok(Vec::new())).await
    }
}

/// The chosen buildpacks without one of them, which is named with or without its credentials; an error message, if the app
/// has not chosen it.
fn without(
    chosen: Vec<ChosenBuildpack>,
    source: &BuildpackSource,
    app: &AppName,
) -> Result<Vec<ChosenBuildpack>, StoreError> {
    let is_exact = chosen.iter().any(|entry| entry.source == *source);
    let is_named =
        |entry: &ChosenBuildpack| if is_exact { entry.source == *source } else { entry.source.is_shown_as(source) };
    let (removed, kept): (Vec<_>, Vec<_>) = chosen.into_iter().partition(is_named);
    if removed.is_empty() {
        let text = format!("{app} has not chosen {source}; buildpacks:list {app} shows those that it has chosen");
        return Err(StoreError::NotFound(text));
    }
    Ok(kept)
}

async fn change(
    context: &Context<'_>,
    app: App,
    change: impl FnOnce(Vec<ChosenBuildpack>) -> Result<Vec<ChosenBuildpack>, StoreError> + Send + 'static,
) -> Result<ChangedBuildpacks> {
    context.store.change_app_buildpacks(app.id, change).await?;
    context.deployer.buildpacks().remove_unused().await?;
    context.progress.detail(format!("done: takes effect at the next push of {}", app.name)).await;
    Ok(ChangedBuildpacks { buildpacks: chosen(context, &app).await?, app: app.name })
}

/// Shows the buildpacks that an app has chosen, and those that its last build ran.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ReportBuildpacks {
    /// App.
    pub app: AppName,
}

/// A buildpack that ran in a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RanBuildpack {
    /// Id.
    pub id: String,
    /// Version.
    pub version: String,
}

impl std::fmt::Display for RanBuildpack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.id, self.version)
    }
}

/// The buildpacks of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BuildpackReport {
    /// App.
    pub app: AppName,
    /// Buildpacks that it has chosen, without credentials of their addresses.
    pub chosen: Vec<BuildpackSource>,
    /// Buildpacks that its last successful build ran.
    pub last_build: Vec<RanBuildpack>,
}

/// Number of builds among which the last successful one is looked for.
const BUILDS: u32 = 100;

impl Operation for ReportBuildpacks {
    const NAME: &'static str = "buildpacks:report";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = BuildpackReport;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<BuildpackReport> {
        let chosen = context.store.app_buildpacks(app.id).await?.into_iter().map(|entry| entry.source).collect();
        let last = context.store.builds(app.id, BUILDS).await?.into_iter().find(|build| build.image.is_some());
        let ran = last.map(|build| build.buildpacks).unwrap_or_default();
        let last_build = ran.into_iter().map(|ran| RanBuildpack { id: ran.id, version: ran.version }).collect();
        Ok(BuildpackReport { chosen, last_build, app: app.name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_path_of_the_server_needs_an_admin() {
        let right = |source: &str| admin_for_path(&source.parse().unwrap()).map(|needed| needed.right);
        assert_eq!(right("/srv/buildpacks/go.cnb"), Some(Right::Admin));
        for source in ["acme/go", "acme/go@1", "https://host/go.git#v1:folder", "docker://host/go:1", "./own"] {
            assert_eq!(right(source), None, "{source}");
        }
    }

    #[test]
    fn the_audit_entry_tells_buildpack_and_position_and_no_password() {
        let add = r#"{"app": "a", "buildpack": "https://user:s3cret@host/go.git#v1", "index": 2}"#;
        assert_eq!(serde_json::from_str::<AddBuildpack>(add).unwrap().audit(), "https://host/go.git#v1 index=2");
        let set = r#"{"app": "a", "buildpack": "acme/go"}"#;
        assert_eq!(serde_json::from_str::<SetBuildpack>(set).unwrap().audit(), "acme/go");
    }

    #[test]
    fn a_buildpack_that_is_not_chosen_cannot_be_removed() {
        let entry = |name: &str| ChosenBuildpack { source: name.parse().unwrap(), package: None };
        let (source, app) = ("a/b".parse().unwrap(), "app".parse().unwrap());
        let kept = without(vec![entry("a/a"), entry("a/b"), entry("a/c")], &source, &app).unwrap();
        assert_eq!(kept, [entry("a/a"), entry("a/c")]);
        let error = without(kept, &source, &app).unwrap_err();
        assert!(error.to_string().starts_with("app has not chosen a/b; buildpacks:list app"), "{error}");
    }

    #[test]
    fn a_buildpack_is_removed_by_the_address_that_is_shown() {
        let app = "app".parse().unwrap();
        let entry = |source: &str| ChosenBuildpack { source: source.parse().unwrap(), package: None };
        let chosen = || vec![entry("https://u:s3cret@host/x?token=t0ken"), entry("https://u:other@host/x?token=t0ken")];
        let removed = |source: &str| without(chosen(), &source.parse().unwrap(), &app);
        assert_eq!(removed("https://host/x?token=xxxxx").unwrap(), []);
        assert_eq!(removed("https://u:s3cret@host/x?token=t0ken").unwrap(), [chosen().remove(1)]);
        let error = removed("https://u:s3cret@host/y?token=t0ken").unwrap_err();
        assert!(error.to_string().starts_with("app has not chosen https://host/y?token=xxxxx; "), "{error}");
    }
}
