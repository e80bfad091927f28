//! Operations of builds.

mod settings;

pub use settings::*;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    context::Context,
    failure::{Failure, FailureKind, Result},
    operation::Operation,
    time::Time,
};
use crate::{
    model::{AppName, CommitId, Digest, Right},
    store::{App, Build, BuildState, Effect, Millis, UsedBuildpack},
};

const DEFAULT_BUILDS: u32 = 20;

fn default_builds() -> u32 {
    DEFAULT_BUILDS
}

/// Lists an app's builds, newest first.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListBuilds {
    /// App.
    pub app: AppName,
    /// Number of builds.
    #[arg(short, long, default_value_t = DEFAULT_BUILDS)]
    #[serde(default = "default_builds")]
    pub num: u32,
    /// Only builds before that of this number.
    #[arg(long, value_name = "BUILD")]
    pub before: Option<u64>,
}

/// A build of a list.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct BuildRow {
    /// Counted from 1 within the app.
    pub number: u64,
    /// State.
    pub state: BuildState,
    /// Commit that was built.
    #[schemars(with = "String")]
    pub commit: CommitId,
    /// Name of the user who pushed, or asked for the build.
    pub created_by: String,
    /// Time of the start.
    pub started_at: Time,
    /// Time of the end.
    pub ended_at: Option<Time>,
    /// Duration in seconds.
    pub seconds: Option<f64>,
    /// Digest of the image's manifest.
    #[schemars(with = "Option<String>")]
    pub image: Option<Digest>,
    /// Why it failed.
    pub message: Option<String>,
}

impl From<Build> for BuildRow {
    fn from(build: Build) -> Self {
        Self {
            number: build.number,
            state: build.state,
            seconds: seconds(&build),
            commit: build.commit,
            created_by: build.pusher,
            started_at: Time(build.started_at),
            ended_at: build.ended_at.map(Time),
            image: build.image,
            message: build.message,
        }
    }
}

fn seconds(build: &Build) -> Option<f64> {
    let duration = |ended_at: Millis| Duration::from_millis(ended_at.abs_diff(build.started_at));
    build.ended_at.map(|ended_at| duration(ended_at).as_secs_f64())
}

impl Operation for ListBuilds {
    const NAME: &'static str = "builds:list";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = Vec<BuildRow>;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Vec<BuildRow>> {
        let builds = context.store.builds_before(app.id, self.before, self.num).await?;
        Ok(builds.into_iter().map(BuildRow::from).collect())
    }
}

/// Shows the log of a build.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ShowBuildLog {
    /// App.
    pub app: AppName,
    /// Number of the build; without it, the last one.
    pub number: Option<u64>,
}

/// The log of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BuildLogText {
    /// App.
    pub app: AppName,
    /// Number of the build.
    pub number: u64,
    /// All lines, each with a line end.
    pub log: String,
}

impl Operation for ShowBuildLog {
    const NAME: &'static str = "builds:log";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = BuildLogText;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.number.map(|number| number.to_string()).unwrap_or_default()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<BuildLogText> {
        let number = find(context, &app, self.number).await?.number;
        let path = context.deployer.build_log(app.id, number);
        match tokio::fs::read_to_string(&path).await {
            Ok(log) => Ok(BuildLogText { app: app.name, number, log }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Failure::not_found(format!("the log of build {number} is no longer kept")))
            }
            Err(error) => {
                let text = format!("cannot read the log of build {number} ({}): {error}", path.display());
                Err(Failure::new(FailureKind::Internal, text))
            }
        }
    }
}

/// The build with this number, or the last one.
async fn find(context: &Context<'_>, app: &App, number: Option<u64>) -> Result<Build> {
    let builds = context.store.builds(app.id, if number.is_some() { u32::MAX } else { 1 }).await?;
    let found = builds.into_iter().find(|build| number.is_none_or(|number| build.number == number));
    let not_found = || Failure::not_found(format!("{0} has no such build; builds:list {0} shows all", app.name));
    found.ok_or_else(not_found)
}

/// Shows a build: its buildpacks with their digests, its stack, its image.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ShowBuild {
    /// App.
    pub app: AppName,
    /// Number of the build; without it, the last one.
    pub number: Option<u64>,
}

/// A build.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct BuildInfo {
    /// App.
    pub app: AppName,
    /// The build.
    #[serde(flatten)]
    pub build: BuildRow,
    /// Stack whose build image was used.
    pub stack: Option<String>,
    /// Buildpacks that built the image, in order.
    pub buildpacks: Vec<BuildBuildpack>,
}

/// A buildpack that took part in a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BuildBuildpack {
    /// Id.
    pub id: String,
    /// Version.
    pub version: String,
    /// Digest of all files of the buildpack; none if it was part of the app.
    #[schemars(with = "Option<String>")]
    pub digest: Option<Digest>,
}

impl From<UsedBuildpack> for BuildBuildpack {
    fn from(UsedBuildpack { id, version, digest }: UsedBuildpack) -> Self {
        Self { id, version, digest }
    }
}

impl Operation for ShowBuild {
    const NAME: &'static str = "builds:info";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = BuildInfo;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.number.map(|number| number.to_string()).unwrap_or_default()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<BuildInfo> {
        let mut build = find(context, &app, self.number).await?;
        let (stack, buildpacks) = (build.stack.take(), std::mem::take(&mut build.buildpacks));
        Ok(BuildInfo {
            app: app.name,
            build: build.into(),
            stack,
            buildpacks: buildpacks.into_iter().map(BuildBuildpack::from).collect(),
        })
    }
}

/// Cancels the build of an app that is running, or waits for its turn. Nothing changes but that: the current release
/// stays, and the push is rejected.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct CancelBuild {
    /// App.
    pub app: AppName,
}

/// A build that was cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CancelledBuild {
    /// App.
    pub app: AppName,
}

impl Operation for CancelBuild {
    const NAME: &'static str = "builds:cancel";
    const RIGHT: Right = Right::Deploy;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = CancelledBuild;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<CancelledBuild> {
        let cancel = context.deployer.cancel_build(&app, context.caller.name());
        match context.hangup.run_until_cancelled(cancel).await {
            Some(cancelled) => cancelled?,
            None => {
                return Err(Failure::new(FailureKind::Failed, "the client disconnected before the build had ended"));
            }
        }
        Ok(CancelledBuild { app: app.name })
    }
}

/// Deletes an app's build cache.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ClearBuildCache {
    /// App.
    pub app: AppName,
}

/// A build cache that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ClearedBuildCache {
    /// App.
    pub app: AppName,
}

impl Operation for ClearBuildCache {
    const NAME: &'static str = "builds:clear-cache";
    const RIGHT: Right = Right::Deploy;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = ClearedBuildCache;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ClearedBuildCache> {
        context.deployer.clear_cache(&app, context.progress, context.hangup).await?;
        context.progress.detail(format!("the next build of {} starts without a cache", app.name)).await;
        Ok(ClearedBuildCache { app: app.name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_runs_has_no_duration() {
        let build = |ended_at| Build {
            id: crate::store::BuildId(1),
            number: 3,
            commit: "a".repeat(40).parse().unwrap(),
            pusher: "ann".into(),
            state: BuildState::Running,
            image: None,
            message: None,
            buildpacks: Vec::new(),
            stack: None,
            started_at: 1000,
            ended_at,
        };
        assert_eq!(BuildRow::from(build(None)).seconds, None);
        assert_eq!(BuildRow::from(build(Some(2500))).seconds, Some(1.5));
        let json = serde_json::to_value(BuildRow::from(build(Some(2500)))).unwrap();
        assert_eq!((&json["state"], &json["created_by"]), (&"running".into(), &"ann".into()));
    }
}
