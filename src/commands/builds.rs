//! The commands `builds:…`.

use clap::Subcommand;

use super::{
    output::Text,
    session::Session,
    table::{facts, list, or_hyphen, table},
};
use crate::operations::{
    BuildBuildpack, BuildInfo, BuildLogText, BuildRow, BuildSettingsInfo, CancelBuild, CancelledBuild, ClearBuildCache,
    ClearedBuildCache, ListBuilds, Result, SetBuilds, ShowBuild, ShowBuildLog,
};

/// The commands of builds.
#[derive(Debug, Subcommand)]
pub(super) enum BuildsCommand {
    /// List builds, newest first.
    #[command(name = "builds:list", alias = "builds", after_help = "Example: builds:list my-app")]
    List(ListBuilds),
    /// Print the log of a build; without a number, of the last one.
    #[command(name = "builds:log", alias = "builds:output", after_help = "Example: builds:log my-app 3")]
    Log(ShowBuildLog),
    /// Show a build: its buildpacks with their digests, its stack, its image.
    #[command(name = "builds:info", after_help = "Example: builds:info my-app 12")]
    Info(ShowBuild),
    /// Set a property of an app's builds: the folder that is built, the path of its Dockerfile, or the stage that is built.
    #[command(
        name = "builds:set",
        aliases = ["builder:set", "builder-dockerfile:set"],
        after_help = "Examples: builds:set my-app dir services/api\n          builds:set my-app dockerfile docker/Dockerfile.prod\n          builds:set my-app target production\nWithout a value, the default applies again: the whole repository, the file Dockerfile, its last stage."
    )]
    Set(SetBuilds),
    /// Cancel the build of an app that is running, or waits for its turn; the current release stays.
    #[command(name = "builds:cancel", after_help = "Example: builds:cancel my-app")]
    Cancel(CancelBuild),
    /// Delete an app's build cache.
    #[command(name = "builds:clear-cache", after_help = "Example: builds:clear-cache my-app")]
    ClearCache(ClearBuildCache),
}

pub(super) async fn run(session: &Session<'_>, command: BuildsCommand) -> Result {
    use BuildsCommand as C;
    match command {
        C::List(list) => session.answer(list).await,
        C::Log(show) => session.answer(show).await,
        C::Info(show) => session.answer(show).await,
        C::Set(set) => session.answer(set).await,
        C::Cancel(cancel) => session.answer(cancel).await,
        C::ClearCache(clear) => session.answer(clear).await,
    }
}

impl Text for Vec<BuildRow> {
    fn text(&self) -> String {
        let rows = self.iter().map(|build| {
            [
                build.number.to_string(),
                build.state.as_str().to_owned(),
                build.commit.short().to_owned(),
                build.created_by.clone(),
                build.started_at.to_string(),
                or_hyphen(build.seconds.map(|seconds| format!("{seconds:.1}"))),
                or_hyphen(build.message.as_ref()),
            ]
        });
        table(["BUILD", "STATE", "COMMIT", "BY", "STARTED", "SECONDS", "MESSAGE"], rows)
    }
}

impl Text for BuildLogText {
    fn text(&self) -> String {
        self.log.clone()
    }
}

impl Text for BuildInfo {
    fn text(&self) -> String {
        let Self { app, build, stack, buildpacks } = self;
        facts([
            ("app", Some(app.to_string())),
            ("build", Some(build.number.to_string())),
            ("state", Some(build.state.as_str().to_owned())),
            ("commit", Some(build.commit.to_string())),
            ("by", Some(build.created_by.clone())),
            ("stack", stack.clone()),
            ("buildpacks", list(buildpacks.iter().map(buildpack))),
            ("image", build.image.as_ref().map(ToString::to_string)),
            ("message", build.message.clone()),
            ("started at", Some(build.started_at.to_string())),
            ("ended at", build.ended_at.map(|time| time.to_string())),
            ("seconds", build.seconds.map(|seconds| format!("{seconds:.1}"))),
        ])
    }
}

fn buildpack(BuildBuildpack { id, version, digest }: &BuildBuildpack) -> String {
    let digest = digest.as_ref().map_or_else(|| "part of the app".to_owned(), ToString::to_string);
    format!("{id}@{version} ({digest})")
}

impl Text for CancelledBuild {
    fn text(&self) -> String {
        format!("-----> The build of {} is cancelled\n", self.app)
    }
}

impl Text for BuildSettingsInfo {}

impl Text for ClearedBuildCache {}
