//! Releases: listed, and brought back.

use super::{
    Commands, Result, Session,
    line::Format,
    output::{Row, time},
};
use crate::model::AppName;

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

pub(super) async fn list(commands: &Commands, session: &Session<'_>, app: AppName, num: u32, format: Format) -> Result {
    let app = commands.app(session, app).await?;
    let releases = commands.store.releases(app.id, num).await?;
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

pub(super) async fn rollback(commands: &Commands, session: &Session<'_>, app: AppName, to: Option<u64>) -> Result {
    let app = commands.app(session, app).await?;
    let (progress, cancel) = (&session.progress, &session.hangup);
    commands.deployer.rollback(&app, to, &session.caller.name, progress, cancel).await?;
    Ok(())
}
