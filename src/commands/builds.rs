//! Builds: listed, and what they printed.

use serde_json::json;

use super::{
    CommandError, Commands, Result, Session,
    line::Format,
    output::{Row, time},
};
use crate::{
    model::{AppName, SourceFolder},
    store::{App, Build, UsedBuildpack},
};

#[derive(serde::Serialize)]
struct BuildRow {
    number: u64,
    state: &'static str,
    commit: String,
    pusher: String,
    started_at: String,
    seconds: Option<f64>,
    image: Option<String>,
    message: Option<String>,
}

impl Row for BuildRow {
    const HEADER: &'static [&'static str] = &["BUILD", "STATE", "COMMIT", "BY", "STARTED", "SECONDS", "MESSAGE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.number.to_string(),
            self.state.to_owned(),
            self.commit.chars().take(7).collect(),
            self.pusher.clone(),
            self.started_at.clone(),
            self.seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}")),
            self.message.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    }
}

pub(super) async fn list(commands: &Commands, session: &Session<'_>, app: AppName, num: u32, format: Format) -> Result {
    let app = commands.app(session, app).await?;
    let rows: Vec<_> = commands
        .store
        .builds(app.id, num)
        .await?
        .into_iter()
        .map(|build| BuildRow {
            number: build.number,
            state: build.state.as_str(),
            commit: build.commit.to_string(),
            pusher: build.pusher,
            started_at: time(build.started_at),
            seconds: build
                .ended_at
                .map(|end| std::time::Duration::from_millis((end - build.started_at).unsigned_abs()).as_secs_f64()),
            image: build.image.map(|image| image.to_string()),
            message: build.message,
        })
        .collect();
    session.out.table(&rows, format).await;
    Ok(())
}

pub(super) async fn log(commands: &Commands, session: &Session<'_>, app: AppName, number: Option<u64>) -> Result {
    let app = commands.app(session, app).await?;
    let build = find(commands, &app, number).await?;
    let path = commands.deployer.build_log(app.id, build.number);
    match tokio::fs::read_to_string(&path).await {
        Ok(text) => {
            session.out.text(&text).await;
            Ok(())
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(CommandError::Refused(format!("the output of build {} is no longer kept", build.number)))
        }
        Err(source) => Err(CommandError::File { path: path.display().to_string(), source }),
    }
}

/// The build of this number, or the last.
async fn find(commands: &Commands, app: &App, number: Option<u64>) -> Result<Build> {
    let builds = commands.store.builds(app.id, u32::MAX).await?;
    let found = builds.into_iter().find(|build| number.is_none_or(|number| build.number == number));
    found.ok_or_else(|| {
        CommandError::Refused(format!("{} has no such build; builds:list {} shows all", app.name, app.name))
    })
}

pub(super) async fn info(
    commands: &Commands,
    session: &Session<'_>,
    app: AppName,
    number: Option<u64>,
    format: Format,
) -> Result {
    let app = commands.app(session, app).await?;
    let build = find(commands, &app, number).await?;
    let ran = |ran: &UsedBuildpack| {
        let digest = ran.digest.as_ref().map_or_else(|| "part of the app".to_owned(), ToString::to_string);
        format!("{}@{} ({digest})", ran.id, ran.version)
    };
    let facts = json!({
        "build": build.number,
        "state": build.state.as_str(),
        "commit": build.commit.to_string(),
        "pusher": build.pusher,
        "stack": build.stack,
        "buildpacks": build.buildpacks.iter().map(ran).collect::<Vec<_>>(),
        "image": build.image.map(|image| image.to_string()),
        "message": build.message,
        "started_at": time(build.started_at),
        "ended_at": build.ended_at.map(time),
    });
    if let serde_json::Value::Object(facts) = facts {
        session.out.facts(&facts, format).await;
    }
    Ok(())
}

pub(super) async fn set(
    commands: &Commands,
    session: &Session<'_>,
    app: AppName,
    property: &str,
    value: Option<String>,
) -> Result {
    let app = commands.app(session, app).await?;
    if property != "dir" {
        let property = crate::model::Line::sanitize(property);
        return Err(CommandError::Refused(format!("there is no property {property}; there is dir")));
    }
    let value = value.unwrap_or_default();
    let value = value.trim_start_matches("./").trim_end_matches('/');
    let folder: Option<SourceFolder> = match value {
        "" | "." => None,
        folder => Some(folder.parse()?),
    };
    let what = folder.as_ref().map_or_else(|| "the whole repository".to_owned(), |folder| format!("{folder}/"));
    commands.store.set_source_folder(app.id, folder.clone()).await?;
    session.out.line(&format!("-----> Builds of {} take {what} from the next push on", app.name)).await;
    // It may come with the next push; where git does not say, there is nothing to warn of.
    if let Some(folder) = folder
        && let Ok(Some(commit)) = commands.deployer.commit_without(&app, &folder).await
    {
        let text = format!("the pushed commit {} has no folder {folder}; push one that has it", commit.short());
        session.out.trouble(&format!("{text}, or set dir to a folder that is there")).await;
    }
    Ok(())
}

pub(super) async fn clear_cache(commands: &Commands, session: &Session<'_>, app: AppName) -> Result {
    let app = commands.app(session, app).await?;
    commands.deployer.clear_cache(&app, &session.progress, &session.hangup).await?;
    session.progress.detail(format!("The next build of {} begins without a cache", app.name)).await;
    Ok(())
}
