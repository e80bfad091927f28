//! The commands `git:…`.

use std::str::FromStr;

use clap::Subcommand;

use super::{output::Text, session::Session, table::facts};
use crate::{
    model::AppName,
    operations::{DeployArchive, DeployImage, GitInfo, GitSettings, Result, SentFile, SetGit, ShowGit, SyncRepository},
};

/// The commands of an app's repository.
#[derive(Debug, Subcommand)]
pub(super) enum GitCommand {
    /// Set a property of the repository: deploy-branch, the branch whose pushes are deployed.
    #[command(
        name = "git:set",
        after_help = "Example: git:set my-app deploy-branch live\n\nThe next push to the branch is deployed; ps:rebuild deploys what was pushed to it before."
    )]
    Set(SetGit),
    /// Show the repository: deploy branch, address, deployed commit.
    #[command(name = "git:report", after_help = "Example: git:report my-app")]
    Report(ShowGit),
    /// Deploy a tar, or tar.gz, of the app's folder that is sent on standard input.
    #[command(
        name = "git:from-archive",
        after_help = "Examples: git archive HEAD | ssh … git:from-archive my-app\n          tar cz -C my-app . | ssh … git:from-archive my-app -\n\nIf all files are in one folder, as in the archives of GitHub, that is the app's folder."
    )]
    FromArchive {
        /// App.
        app: AppName,
        /// - for standard input, which is also meant without it.
        #[arg(value_name = "-")]
        source: Option<ArchiveWord>,
    },
    /// Deploy an image of a registry.
    #[command(
        name = "git:from-image",
        after_help = "Examples: git:from-image my-app ghcr.io/company/app:1.2\n          git:from-image my-app company/app@sha256:…\n\nThe image is deployed as a Dockerfile that consists of it (FROM). registry:login sets the login at a private registry."
    )]
    FromImage(DeployImage),
    /// Fetch a branch, tag or commit of a remote repository and deploy it.
    #[command(
        name = "git:sync",
        after_help = "Examples: git:sync my-app https://github.com/company/app.git main\n          git:sync my-app https://github.com/company/app.git v1.2\n\nThe deploy branch follows the remote repository, also if its history was rewritten."
    )]
    Sync(SyncRepository),
}

/// Where git:from-archive finds the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ArchiveWord {
    /// `-`
    StandardInput,
}

impl FromStr for ArchiveWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" { Ok(Self::StandardInput) } else { Err("send the archive on standard input".to_owned()) }
    }
}

pub(super) async fn run(session: &Session<'_>, command: GitCommand) -> Result {
    use GitCommand as C;
    match command {
        C::Set(set) => session.answer(set).await,
        C::Report(show) => session.answer(show).await,
        C::FromArchive { app, source: None | Some(ArchiveWord::StandardInput) } => {
            let file = Some(SentFile::new(session.take_input().await));
            session.answer(DeployArchive { app, file }).await
        }
        C::Sync(sync) => session.answer(sync).await,
        C::FromImage(deploy) => session.answer(deploy).await,
    }
}

impl Text for GitSettings {
    fn text(&self) -> String {
        let branch = &self.deploy_branch;
        let app = &self.app;
        let next = match (&self.branch_commit, &self.deployed_commit, self.rolled_back_release) {
            (None, ..) if self.tag_exists => {
                format!(
                    "there is no branch {branch} yet, only a tag, and a tag is not deployed: push a branch to deploy it"
                )
            }
            (None, ..) => format!("there is no branch {branch} yet: push it to deploy it"),
            (Some(tip), Some(deployed), _) if tip == deployed => String::new(),
            (Some(tip), Some(deployed), Some(release)) => format!(
                "{branch} is stored at {}, and the app was rolled back to {}: releases:rollback {app} v{release} goes back",
                tip.short(),
                deployed.short()
            ),
            (Some(tip), Some(deployed), None) => format!(
                "{branch} is stored at {}, {} is deployed: ps:rebuild {app} deploys it",
                tip.short(),
                deployed.short()
            ),
            (Some(tip), None, _) => {
                format!("{branch} is stored at {}, nothing is deployed: ps:rebuild {app} deploys it", tip.short())
            }
        };
        let next = if next.is_empty() { next } else { format!("       {next}\n") };
        format!("-----> Pushes to {branch} are deployed from now on\n{next}")
    }
}

impl Text for GitInfo {
    fn text(&self) -> String {
        facts([
            ("app", Some(self.app.to_string())),
            ("deploy branch", self.deploy_branch.as_ref().map(ToString::to_string)),
            ("deployed commit", self.deployed_commit.as_ref().map(ToString::to_string)),
            ("address", Some(self.address.clone())),
        ])
    }
}
