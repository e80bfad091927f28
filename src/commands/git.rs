//! The commands `git:…`.

use clap::Subcommand;

use super::{output::Text, session::Session, table::facts};
use crate::operations::{GitInfo, GitSettings, Result, SetGit, ShowGit};

/// The commands of an app's repository.
#[derive(Debug, Subcommand)]
pub(super) enum GitCommand {
    /// Set a property of the repository: deploy-branch.
    #[command(name = "git:set", after_help = "Example: git:set my-app deploy-branch live")]
    Set(SetGit),
    /// Show the repository: deploy branch, address, deployed commit.
    #[command(name = "git:report", after_help = "Example: git:report my-app")]
    Report(ShowGit),
}

pub(super) async fn run(session: &Session<'_>, command: GitCommand) -> Result {
    use GitCommand as C;
    match command {
        C::Set(set) => session.answer(set).await,
        C::Report(show) => session.answer(show).await,
    }
}

impl Text for GitSettings {
    fn text(&self) -> String {
        let branch = &self.deploy_branch;
        let missing = if self.branch_exists {
            String::new()
        } else {
            format!("       there is no branch {branch} yet: push it to deploy it\n")
        };
        format!("-----> Pushes to {branch} are deployed from now on\n{missing}")
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
