//! The commands `buildpacks:…`: buildpacks of the server, and those that an app has chosen.

use std::str::FromStr;

use clap::Subcommand;

use super::{
    output::Text,
    session::Session,
    table::{facts, list, table},
};
use crate::{
    model::{BuildpackSource, Digest, InvalidName},
    operations::{
        AddBuildpack, AppBuildpack, BuildpackOrigin, BuildpackReport, ChangedBuildpacks, ClearBuildpacks,
        InstallBuildpacks, InstallSource, InstalledBuildpack, InstalledPackage, ListBuildpacks,
        ListInstalledBuildpacks, PackagedBuildpack, RemoveBuildpack, ReportBuildpacks, Result, SentFile, SetBuildpack,
        UninstallBuildpacks, UninstalledBuildpacks,
    },
};

/// The commands of buildpacks.
#[derive(Debug, Subcommand)]
pub(super) enum BuildpacksCommand {
    /// List the buildpacks that an app has chosen.
    #[command(name = "buildpacks:list", alias = "buildpacks", after_help = "Example: buildpacks:list my-app")]
    List(ListBuildpacks),
    /// Add a buildpack to those that an app has chosen; the app is then built with these only.
    #[command(
        name = "buildpacks:add",
        after_help = "Examples: buildpacks:add my-app paas/nodejs\n          buildpacks:add my-app https://host/go.git#v1:folder\n          buildpacks:add my-app docker://registry/image:tag --index 1"
    )]
    Add(AddBuildpack),
    /// Choose one buildpack for an app, or replace one of those chosen.
    #[command(name = "buildpacks:set", after_help = "Example: buildpacks:set my-app acme/wren --index 2")]
    Set(SetBuildpack),
    /// Remove a buildpack from those that an app has chosen.
    #[command(name = "buildpacks:remove", after_help = "Example: buildpacks:remove my-app acme/wren")]
    Remove(RemoveBuildpack),
    /// Remove all buildpacks that an app has chosen, so that detection chooses again.
    #[command(name = "buildpacks:clear", after_help = "Example: buildpacks:clear my-app")]
    Clear(ClearBuildpacks),
    /// Show the buildpacks that an app has chosen, and those that its last build ran.
    #[command(name = "buildpacks:report", after_help = "Example: buildpacks:report my-app")]
    Report(ReportBuildpacks),
    /// List the buildpacks of the server, which every app may choose.
    #[command(name = "buildpacks:installed", after_help = "Example: buildpacks:installed")]
    Installed(ListInstalledBuildpacks),
    /// Install buildpacks on the server (admins only).
    #[command(
        name = "buildpacks:install",
        after_help = "Examples: buildpacks:install /srv/buildpacks/elixir.cnb\n          buildpacks:install - < elixir.cnb"
    )]
    Install {
        /// A git URL with an optional #ref:folder, docker://IMAGE, a folder, .tgz or .cnb on the server, or - for a .tgz or .cnb on standard input.
        #[arg(value_name = "SOURCE")]
        source: PackageWord,
    },
    /// Uninstall buildpacks from the server (admins only).
    #[command(name = "buildpacks:uninstall", after_help = "Example: buildpacks:uninstall acme/elixir@1.2.0")]
    Uninstall(UninstallBuildpacks),
}

/// What buildpacks:install is to install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PackageWord {
    /// `-`
    StandardInput,
    Source(BuildpackSource),
}

impl FromStr for PackageWord {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text == "-" { Ok(Self::StandardInput) } else { text.parse().map(Self::Source) }
    }
}

pub(super) async fn run(session: &Session<'_>, command: BuildpacksCommand) -> Result {
    use BuildpacksCommand as C;
    match command {
        C::List(list) => session.answer(list).await,
        C::Add(add) => session.answer(add).await,
        C::Set(set) => session.answer(set).await,
        C::Remove(remove) => session.answer(remove).await,
        C::Clear(clear) => session.answer(clear).await,
        C::Report(report) => session.answer(report).await,
        C::Installed(list) => session.answer(list).await,
        C::Install { source } => {
            let source = match source {
                PackageWord::StandardInput => InstallSource::Sent(SentFile::new(session.take_input().await)),
                PackageWord::Source(source) => InstallSource::Named(source),
            };
            session.answer(InstallBuildpacks { source }).await
        }
        C::Uninstall(uninstall) => session.answer(uninstall).await,
    }
}

/// The first digits of a digest.
fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}

impl Text for Vec<AppBuildpack> {
    fn text(&self) -> String {
        if self.is_empty() {
            return "       none is chosen: detection chooses from those of the server (buildpacks:installed)\n"
                .to_owned();
        }
        let rows = self.iter().map(|chosen| {
            let package = chosen.package.as_ref().map_or_else(|| "-".to_owned(), short);
            [chosen.index.to_string(), chosen.buildpack.to_string(), package]
        });
        table(["POSITION", "BUILDPACK", "PACKAGE"], rows)
    }
}

impl Text for ChangedBuildpacks {}

impl Text for BuildpackReport {
    fn text(&self) -> String {
        facts([("chosen", list(&self.chosen)), ("last build", list(&self.last_build))])
    }
}

impl Text for Vec<InstalledBuildpack> {
    fn text(&self) -> String {
        let rows = self.iter().map(|buildpack| {
            let from = match (buildpack.origin, &buildpack.source) {
                (BuildpackOrigin::BuiltIn, _) => "built in",
                (BuildpackOrigin::Installed, Some(source)) => source,
                (BuildpackOrigin::Installed, None) => "installed",
            };
            let digest = short(&buildpack.digest);
            [buildpack.id.clone(), buildpack.version.clone(), buildpack.api.clone(), digest, from.to_owned()]
        });
        table(["ID", "VERSION", "API", "DIGEST", "FROM"], rows)
    }
}

impl Text for InstalledPackage {
    fn text(&self) -> String {
        let line = |buildpack: &PackagedBuildpack| {
            format!("       {}@{} ({})\n", buildpack.id, buildpack.version, buildpack.digest)
        };
        self.buildpacks.iter().map(line).collect()
    }
}

impl Text for UninstalledBuildpacks {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hyphen_means_standard_input() {
        assert_eq!("-".parse(), Ok(PackageWord::StandardInput));
        assert_eq!("acme/go".parse(), Ok(PackageWord::Source("acme/go".parse().unwrap())));
        assert!("--".parse::<PackageWord>().is_err());
    }

    #[test]
    fn where_an_installed_buildpack_is_from_is_shown_if_it_is_known() {
        let row = |origin, source: Option<&str>| InstalledBuildpack {
            id: "a/b".into(),
            version: "1".into(),
            api: "0.12".into(),
            name: "B".into(),
            digest: Digest::of(b"x"),
            origin,
            source: source.map(str::to_owned),
        };
        let text = |row| vec![row].text().lines().last().unwrap().to_owned();
        assert_eq!(text(row(BuildpackOrigin::BuiltIn, None)), "a/b  1        0.12  2d711642b726  built in");
        assert!(text(row(BuildpackOrigin::Installed, None)).ends_with("  installed"));
        assert!(text(row(BuildpackOrigin::Installed, Some("/srv/b"))).ends_with("  /srv/b"));
    }
}
