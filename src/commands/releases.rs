//! The commands `releases:…`.

use clap::Subcommand;

use super::{
    context::Context,
    error::Result,
    output::{Format, Row, time},
    session::Session,
};
use crate::model::AppName;

/// The commands of releases.
#[derive(Debug, Subcommand)]
pub(super) enum ReleasesCommand {
    /// List releases, newest first.
    #[command(name = "releases:list", alias = "releases", after_help = "Example: releases:list my-app")]
    List {
        app: AppName,
        /// Number of releases.
        #[arg(short, long, default_value_t = 20)]
        num: u32,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Roll back to an older release, by a new release that is made from it.
    #[command(name = "releases:rollback", alias = "rollback", after_help = "Example: releases:rollback my-app 12")]
    Rollback {
        app: AppName,
        /// Number of the older release; without it, the one before the current release.
        #[arg(value_parser = parse_release)]
        release: Option<u64>,
    },
}

pub(super) async fn run(context: &Context, session: &mut Session<'_>, command: ReleasesCommand) -> Result {
    use ReleasesCommand as C;
    match command {
        C::List { app, num, format } => list(context, session, app, num, format).await,
        C::Rollback { app, release } => rollback(context, session, app, release).await,
    }
}

#[derive(serde::Serialize)]
struct ReleaseRow {
    number: u64,
    current: bool,
    kind: &'static str,
    state: &'static str,
    description: String,
    created_by: String,
    created_at: String,
    commit: Option<String>,
    image: String,
}

impl Row for ReleaseRow {
    const HEADER: &'static [&'static str] = &["RELEASE", "STATE", "KIND", "BY", "CREATED", "DESCRIPTION"];

    fn cells(&self) -> Vec<String> {
        vec![
            format!("v{}", self.number),
            if self.current { "current" } else { self.state }.to_owned(),
            self.kind.to_owned(),
            self.created_by.clone(),
            self.created_at.clone(),
            self.description.clone(),
        ]
    }
}

async fn list(context: &Context, session: &Session<'_>, app: AppName, num: u32, format: Format) -> Result {
    let app = context.app(session, app).await?;
    let releases = context.store.releases(app.id, num).await?;
    let rows: Vec<_> = releases
        .into_iter()
        .map(|release| ReleaseRow {
            number: release.number,
            current: app.current.is_some_and(|current| current.release == release.number),
            kind: release.kind.as_str(),
            state: release.state.as_str(),
            description: release.description,
            created_by: release.created_by,
            created_at: time(release.created_at),
            commit: release.commit.map(|commit| commit.to_string()),
            image: release.image.to_string(),
        })
        .collect();
    session.out.table(&rows, format).await;
    Ok(())
}

async fn rollback(context: &Context, session: &Session<'_>, app: AppName, to: Option<u64>) -> Result {
    let app = context.app(session, app).await?;
    let (progress, cancel) = (&session.progress, &session.hangup);
    context.deployer.rollback(&app, to, &session.caller.name, progress, cancel).await?;
    Ok(())
}

/// Reads `12` or `v12`.
fn parse_release(text: &str) -> Result<u64, String> {
    text.strip_prefix('v')
        .unwrap_or(text)
        .parse()
        .map_err(|_| "use the number of a release, such as 12 or v12".to_owned())
}
