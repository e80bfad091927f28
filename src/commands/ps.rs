//! Processes: how many instances run, and how they are.

use std::collections::BTreeMap;

use super::{
    CommandError, Commands, Result, Session,
    line::Format,
    output::{Row, time},
};
use crate::{
    instances::ReportState,
    model::{AppJson, AppName, ProcessType},
    release,
    store::App,
};

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
    let most = AppJson::MOST_INSTANCES;
    let refused =
        || CommandError::Refused(format!("{text:?}: write TYPE=N with N from 0 to {most}, for example web=3"));
    let (name, count) = text.split_once('=').ok_or_else(refused)?;
    let count = count.parse().ok().filter(|count| *count <= most).ok_or_else(refused)?;
    Ok((name.parse()?, count))
}

pub(super) async fn scale(
    commands: &Commands,
    session: &Session<'_>,
    name: AppName,
    quantities: Vec<String>,
    format: Format,
) -> Result {
    let app = commands.app(session, name).await?;
    if quantities.is_empty() {
        let rows: Vec<_> = formation(commands, &app)
            .await?
            .iter()
            .map(|(name, quantity)| ScaleRow { process_type: name.to_string(), quantity: *quantity })
            .collect();
        session.out.table(&rows, format).await;
        return Ok(());
    }
    let wanted = quantities.iter().map(|text| quantity(text)).collect::<Result<BTreeMap<_, _>>>()?;
    only_known_types(commands, &app, &wanted).await?;
    commands.store.scale(app.id, wanted.clone()).await?;
    let text = wanted.iter().map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join(" ");
    session.progress.step(format!("Scaling {} to {text}", app.name)).await;
    if app.stopped {
        session.progress.detail(format!("{} is stopped: it holds from ps:start on", app.name)).await;
        return Ok(());
    }
    settle(commands, session, &app).await
}

/// The declared numbers of instances.
pub(super) async fn formation(commands: &Commands, app: &App) -> Result<BTreeMap<ProcessType, u32>> {
    let release = match app.current {
        Some(current) => commands.store.release(app.id, current.release).await?,
        None => None,
    };
    Ok(release.map_or_else(|| app.formation.clone(), |live| release::formation(&live.processes, &app.formation)))
}

/// Once something is deployed, only its process types can be scaled: anything else is a slip of the keyboard.
async fn only_known_types(commands: &Commands, app: &App, wanted: &BTreeMap<ProcessType, u32>) -> Result {
    match unknown_type(commands, app, wanted.keys()).await? {
        None => Ok(()),
        Some(unknown) => Err(CommandError::Refused(unknown)),
    }
}

/// Says so when what is deployed has no process type of one of these names.
pub(super) async fn unknown_type(
    commands: &Commands,
    app: &App,
    mut names: impl Iterator<Item = &ProcessType>,
) -> Result<Option<String>> {
    let Some(current) = app.current else { return Ok(None) };
    let Some(release) = commands.store.release(app.id, current.release).await? else { return Ok(None) };
    let known: Vec<_> = release.processes.iter().map(|spec| spec.process.process_type.as_str()).collect();
    let unknown = names.find(|name| !known.contains(&name.as_str()));
    Ok(unknown.map(|name| format!("{} has no process type {name}; it has: {}", app.name, known.join(", "))))
}

/// Waits until what is declared runs.
async fn settle(commands: &Commands, session: &Session<'_>, app: &App) -> Result {
    if app.current.is_none() {
        session.progress.detail("nothing is deployed yet: it holds from the first push on").await;
        return Ok(());
    }
    commands.instances.settle(app.id, &session.progress, &session.hangup).await?;
    let report = commands.instances.report(app.id).await?;
    let healthy = report.iter().filter(|instance| instance.state == ReportState::Healthy).count();
    let instances = if healthy == 1 { "instance runs" } else { "instances run" };
    session.progress.detail(format!("{healthy} {instances}")).await;
    Ok(())
}

pub(super) async fn report(
    commands: &Commands,
    session: &Session<'_>,
    name: Option<AppName>,
    format: Format,
) -> Result {
    let apps = match name {
        Some(name) => vec![commands.app(session, name).await?],
        None => commands.apps(session).await?,
    };
    let mut rows = Vec::new();
    for app in apps {
        for instance in commands.instances.report(app.id).await? {
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
pub(super) async fn rebuild(commands: &Commands, session: &Session<'_>, app: AppName) -> Result {
    let app = commands.app(session, app).await?;
    let by = &session.caller.name;
    Ok(commands.deployer.rebuild(&app, by, &session.progress, &session.hangup).await?)
}

pub(super) async fn restart(commands: &Commands, session: &Session<'_>, name: AppName) -> Result {
    let app = commands.app(session, name).await?;
    renew(commands, session, &app, format!("Restarting {}", app.name)).await
}

/// Puts new instances in the place of all that run, after saying why.
pub(super) async fn renew(commands: &Commands, session: &Session<'_>, app: &App, why: String) -> Result {
    session.progress.step(why).await;
    commands.deployer.restart(app, &session.progress, &session.hangup).await?;
    session.progress.detail("all instances are new").await;
    Ok(())
}

pub(super) async fn set_stopped(commands: &Commands, session: &Session<'_>, name: AppName, stopped: bool) -> Result {
    let app = commands.app(session, name).await?;
    commands.store.set_stopped(app.id, stopped).await?;
    session.progress.step(format!("{} {}", if stopped { "Stopping" } else { "Starting" }, app.name)).await;
    settle(commands, session, &app).await
}
