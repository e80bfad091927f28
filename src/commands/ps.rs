//! The commands `ps:…`.

use std::collections::BTreeMap;

use clap::Subcommand;

use super::{
    context::Context,
    error::{CommandError, Result},
    output::{Format, Row, time},
    session::Session,
};
use crate::{
    instances::ReportState,
    model::{AppJson, AppName, ProcessType},
    release,
    store::App,
};

/// The commands of processes.
#[derive(Debug, Subcommand)]
pub(super) enum PsCommand {
    /// Set the number of instances of process types; without numbers, show the formation.
    #[command(name = "ps:scale", after_help = "Example: ps:scale my-app web=3 worker=1")]
    Scale {
        app: AppName,
        /// TYPE=number
        #[arg(value_name = "TYPE=N")]
        quantities: Vec<String>,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show the instances of an app, or of all apps.
    #[command(name = "ps:report", alias = "ps", after_help = "Example: ps:report my-app")]
    Report {
        app: Option<AppName>,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Replace all instances with new ones, without downtime.
    #[command(name = "ps:restart", after_help = "Example: ps:restart my-app")]
    Restart { app: AppName },
    /// Build the deployed commit again and release it.
    #[command(name = "ps:rebuild", after_help = "Example: ps:rebuild my-app")]
    Rebuild { app: AppName },
    /// Stop all instances; the formation is kept.
    #[command(name = "ps:stop", after_help = "Example: ps:stop my-app")]
    Stop { app: AppName },
    /// Start a stopped app.
    #[command(name = "ps:start", after_help = "Example: ps:start my-app")]
    Start { app: AppName },
}

pub(super) async fn run(context: &Context, session: &mut Session<'_>, command: PsCommand) -> Result {
    use PsCommand as C;
    match command {
        C::Scale { app, quantities, format } => scale(context, session, app, quantities, format).await,
        C::Report { app, format } => report(context, session, app, format).await,
        C::Restart { app } => restart(context, session, app).await,
        C::Rebuild { app } => rebuild(context, session, app).await,
        C::Stop { app } => set_stopped(context, session, app, true).await,
        C::Start { app } => set_stopped(context, session, app, false).await,
    }
}

#[derive(serde::Serialize)]
struct ScaleRow {
    #[serde(rename = "type")]
    process_type: String,
    quantity: u32,
}

impl Row for ScaleRow {
    const HEADER: &'static [&'static str] = &["TYPE", "QUANTITY"];

    fn cells(&self) -> Vec<String> {
        vec![self.process_type.clone(), self.quantity.to_string()]
    }
}

#[derive(serde::Serialize)]
struct InstanceRow {
    app: String,
    name: String,
    state: String,
    release: u64,
    restarts: u32,
    since: String,
    address: String,
    id: String,
}

impl Row for InstanceRow {
    const HEADER: &'static [&'static str] = &["APP", "NAME", "STATE", "RELEASE", "RESTARTS", "SINCE", "ADDRESS", "ID"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.app.clone(),
            self.name.clone(),
            self.state.clone(),
            format!("v{}", self.release),
            self.restarts.to_string(),
            self.since.clone(),
            self.address.clone(),
            self.id.clone(),
        ]
    }
}

fn quantity(text: &str) -> Result<(ProcessType, u32)> {
    let max = AppJson::MAX_INSTANCES;
    let refused = || CommandError::Refused(format!("{text:?}: write TYPE=N with N from 0 to {max}, for example web=3"));
    let (name, count) = text.split_once('=').ok_or_else(refused)?;
    let count = count.parse().ok().filter(|count| *count <= max).ok_or_else(refused)?;
    Ok((name.parse()?, count))
}

async fn scale(
    context: &Context,
    session: &Session<'_>,
    name: AppName,
    quantities: Vec<String>,
    format: Format,
) -> Result {
    let app = context.app(session, name).await?;
    if quantities.is_empty() {
        let rows: Vec<_> = formation(context, &app)
            .await?
            .iter()
            .map(|(name, quantity)| ScaleRow { process_type: name.to_string(), quantity: *quantity })
            .collect();
        session.out.table(&rows, format).await;
        return Ok(());
    }
    let wanted = quantities.iter().map(|text| quantity(text)).collect::<Result<BTreeMap<_, _>>>()?;
    require_known_types(context, &app, &wanted).await?;
    context.store.scale(app.id, wanted.clone()).await?;
    let text = wanted.iter().map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join(" ");
    session.progress.step(format!("Scaling {} to {text}", app.name)).await;
    if app.stopped {
        session
            .progress
            .detail(format!("{} is stopped: the change takes effect when the app is started (ps:start)", app.name))
            .await;
        return Ok(());
    }
    settle(context, session, &app).await
}

/// The formation of an app.
pub(super) async fn formation(context: &Context, app: &App) -> Result<BTreeMap<ProcessType, u32>> {
    let release = match app.current {
        Some(current) => context.store.release(app.id, current.release).await?,
        None => None,
    };
    Ok(release.map_or_else(|| app.formation.clone(), |live| release::formation(&live.processes, &app.formation)))
}

/// Refuses process types that the deployed release does not have: they must be misspelt.
async fn require_known_types(context: &Context, app: &App, wanted: &BTreeMap<ProcessType, u32>) -> Result {
    match unknown_type(context, app, wanted.keys()).await? {
        None => Ok(()),
        Some(unknown) => Err(CommandError::Refused(unknown)),
    }
}

/// An error message, if the deployed release lacks one of these process types.
pub(super) async fn unknown_type(
    context: &Context,
    app: &App,
    mut names: impl Iterator<Item = &ProcessType>,
) -> Result<Option<String>> {
    let Some(current) = app.current else { return Ok(None) };
    let Some(release) = context.store.release(app.id, current.release).await? else { return Ok(None) };
    let known: Vec<_> = release.processes.iter().map(|spec| spec.process.process_type.as_str()).collect();
    let unknown = names.find(|name| !known.contains(&name.as_str()));
    Ok(unknown.map(|name| format!("{} has no process type {name}; it has: {}", app.name, known.join(", "))))
}

/// Waits until the declared instances run.
async fn settle(context: &Context, session: &Session<'_>, app: &App) -> Result {
    if app.current.is_none() {
        session.progress.detail("nothing is deployed yet: the change takes effect at the first push").await;
        return Ok(());
    }
    context.instances.settle(app.id, &session.progress, &session.hangup).await?;
    let report = context.instances.report(app.id).await?;
    let healthy = report.iter().filter(|instance| instance.state == ReportState::Healthy).count();
    let instances = if healthy == 1 { "instance is" } else { "instances are" };
    session.progress.detail(format!("{healthy} {instances} healthy")).await;
    Ok(())
}

async fn report(context: &Context, session: &Session<'_>, name: Option<AppName>, format: Format) -> Result {
    let apps = match name {
        Some(name) => vec![context.app(session, name).await?],
        None => context.apps(session).await?,
    };
    let mut rows = Vec::new();
    for app in apps {
        for instance in context.instances.report(app.id).await? {
            rows.push(InstanceRow {
                app: app.name.to_string(),
                name: instance.name,
                state: instance.state.to_string(),
                release: instance.release,
                restarts: instance.restarts,
                since: time(instance.since),
                address: instance.address.to_string(),
                id: instance.id.to_string(),
            });
        }
    }
    session.out.table(&rows, format).await;
    Ok(())
}

/// Builds the deployed commit again.
async fn rebuild(context: &Context, session: &Session<'_>, app: AppName) -> Result {
    let app = context.app(session, app).await?;
    let by = &session.caller.name;
    Ok(context.deployer.rebuild(&app, by, &session.progress, &session.hangup).await?)
}

async fn restart(context: &Context, session: &Session<'_>, name: AppName) -> Result {
    let app = context.app(session, name).await?;
    renew(context, session, &app, format!("Restarting {}", app.name)).await
}

/// Replaces all running instances with new ones, after printing why.
pub(super) async fn renew(context: &Context, session: &Session<'_>, app: &App, why: String) -> Result {
    session.progress.step(why).await;
    context.deployer.restart(app, None, &session.progress, &session.hangup).await?;
    session.progress.detail("all instances were replaced").await;
    Ok(())
}

async fn set_stopped(context: &Context, session: &Session<'_>, name: AppName, stopped: bool) -> Result {
    let app = context.app(session, name).await?;
    context.store.set_stopped(app.id, stopped).await?;
    session.progress.step(format!("{} {}", if stopped { "Stopping" } else { "Starting" }, app.name)).await;
    settle(context, session, &app).await
}
