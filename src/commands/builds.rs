//! The commands `builds:…`.

use clap::Subcommand;
use serde_json::json;

use super::{
    context::Context,
    error::{CommandError, Result},
    output::{Format, Row, time},
    session::Session,
};
use crate::{
    model::{AppName, SourceFolder},
    store::{App, Build, UsedBuildpack},
};

/// The commands of builds.
#[derive(Debug, Subcommand)]
pub(super) enum BuildsCommand {
    /// List builds, newest first.
    #[command(name = "builds:list", alias = "builds", after_help = "Example: builds:list my-app")]
    List {
        app: AppName,
        /// Number of builds.
        #[arg(short, long, default_value_t = 20)]
        num: u32,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print the log of a build; without a number, of the last one.
    #[command(name = "builds:log", alias = "builds:output", after_help = "Example: builds:log my-app 3")]
    Log { app: AppName, number: Option<u64> },
    /// Show a build: its buildpacks with their digests, its stack, its image.
    #[command(name = "builds:info", after_help = "Example: builds:info my-app 12")]
    Info {
        app: AppName,
        /// Number of the build; without it, the last one.
        number: Option<u64>,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Set a property of an app's builds: dir, the folder of the repository that is built.
    #[command(name = "builds:set", after_help = "Example: builds:set my-app dir services/api")]
    Set {
        app: AppName,
        /// dir
        property: String,
        /// Value of the property; without it, the default.
        value: Option<String>,
    },
    /// Delete an app's build cache.
    #[command(name = "builds:clear-cache", after_help = "Example: builds:clear-cache my-app")]
    ClearCache { app: AppName },
}

pub(super) async fn run(context: &Context, session: &mut Session<'_>, command: BuildsCommand) -> Result {
    use BuildsCommand as C;
    match command {
        C::List { app, num, format } => list(context, session, app, num, format).await,
        C::Log { app, number } => log(context, session, app, number).await,
        C::Info { app, number, format } => info(context, session, app, number, format).await,
        C::Set { app, property, value } => set(context, session, app, &property, value).await,
        C::ClearCache { app } => clear_cache(context, session, app).await,
    }
}

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

async fn list(context: &Context, session: &Session<'_>, app: AppName, num: u32, format: Format) -> Result {
    let app = context.app(session, app).await?;
    let rows: Vec<_> = context
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

async fn log(context: &Context, session: &Session<'_>, app: AppName, number: Option<u64>) -> Result {
    let app = context.app(session, app).await?;
    let build = find(context, &app, number).await?;
    let path = context.deployer.build_log(app.id, build.number);
    match tokio::fs::read_to_string(&path).await {
        Ok(text) => {
            session.out.text(&text).await;
            Ok(())
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(CommandError::Refused(format!("the log of build {} is no longer kept", build.number)))
        }
        Err(source) => Err(CommandError::File { path: path.display().to_string(), source }),
    }
}

/// The build with this number, or the last one.
async fn find(context: &Context, app: &App, number: Option<u64>) -> Result<Build> {
    let builds = context.store.builds(app.id, u32::MAX).await?;
    let found = builds.into_iter().find(|build| number.is_none_or(|number| build.number == number));
    found.ok_or_else(|| {
        CommandError::Refused(format!("{} has no such build; builds:list {} shows all", app.name, app.name))
    })
}

async fn info(context: &Context, session: &Session<'_>, app: AppName, number: Option<u64>, format: Format) -> Result {
    let app = context.app(session, app).await?;
    let build = find(context, &app, number).await?;
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

async fn set(context: &Context, session: &Session<'_>, app: AppName, property: &str, value: Option<String>) -> Result {
    let app = context.app(session, app).await?;
    if property != "dir" {
        let property = crate::model::Line::sanitize(property);
        return Err(CommandError::Refused(format!("there is no property {property}; the only one is dir")));
    }
    let value = value.unwrap_or_default();
    let value = value.trim_start_matches("./").trim_end_matches('/');
    let folder: Option<SourceFolder> = match value {
        "" | "." => None,
        folder => Some(folder.parse()?),
    };
    let what = folder.as_ref().map_or_else(|| "the whole repository".to_owned(), |folder| format!("{folder}/"));
    context.store.set_source_folder(app.id, folder.clone()).await?;
    session.out.line(&format!("-----> {} is built from {what} from the next push on", app.name)).await;
    // Only a warning: the next push may add the folder. If git fails, there is nothing to warn about.
    if let Some(folder) = folder
        && let Ok(Some(commit)) = context.deployer.commit_without(&app, &folder).await
    {
        let text = format!("the pushed commit {} has no folder {folder}; push a commit that has it", commit.short());
        session.out.trouble(&format!("{text}, or set dir to an existing folder")).await;
    }
    Ok(())
}

async fn clear_cache(context: &Context, session: &Session<'_>, app: AppName) -> Result {
    let app = context.app(session, app).await?;
    context.deployer.clear_cache(&app, &session.progress, &session.hangup).await?;
    session.progress.detail(format!("the next build of {} starts without a cache", app.name)).await;
    Ok(())
}
