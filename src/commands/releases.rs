//! The commands `releases:…`.

use clap::Subcommand;

use super::{output::Text, session::Session, table::table};
use crate::operations::{ListReleases, ReleaseRow, Released, Result, RollBack};

/// The commands of releases.
#[derive(Debug, Subcommand)]
pub(super) enum ReleasesCommand {
    /// List releases, newest first.
    #[command(name = "releases:list", alias = "releases", after_help = "Example: releases:list my-app")]
    List(ListReleases),
    /// Roll back to an older release, by a new release that is made from it.
    #[command(name = "releases:rollback", alias = "rollback", after_help = "Example: releases:rollback my-app 12")]
    Rollback(RollBack),
}

pub(super) async fn run(session: &Session<'_>, command: ReleasesCommand) -> Result {
    use ReleasesCommand as C;
    match command {
        C::List(list) => session.answer(list).await,
        C::Rollback(back) => session.answer(back).await,
    }
}

impl Text for Vec<ReleaseRow> {
    fn text(&self) -> String {
        let rows = self.iter().map(|release| {
            [
                format!("v{}", release.release),
                if release.current { "current" } else { release.state.as_str() }.to_owned(),
                release.kind.as_str().to_owned(),
                release.created_by.clone(),
                release.created_at.to_string(),
                release.description.clone(),
            ]
        });
        table(["RELEASE", "STATE", "KIND", "BY", "CREATED", "DESCRIPTION"], rows)
    }
}

impl Text for Released {}
