//! Stacks, and the apps on them.

use super::{
    CommandError, Commands, Result, Session,
    line::Format,
    output::{Row, time},
};
use crate::{
    deploy::{Rebased, StackStatus},
    images::StackDefinition,
    model::{AppName, StackName},
    store::StackSource,
};

/// The largest definition that is read, in bytes.
const LARGEST: u64 = 256 * 1024;

#[derive(serde::Serialize)]
struct StackRow {
    name: String,
    revision: Option<u64>,
    distribution: String,
    packages: usize,
    made_at: String,
    from: String,
    default: bool,
}

impl Row for StackRow {
    const HEADER: &'static [&'static str] = &["NAME", "REVISION", "DISTRIBUTION", "PACKAGES", "MADE", "FROM"];

    fn cells(&self) -> Vec<String> {
        let name = if self.default { format!("{} (default)", self.name) } else { self.name.clone() };
        let revision = self.revision.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let (distribution, from) = (self.distribution.clone(), self.from.clone());
        vec![name, revision, distribution, self.packages.to_string(), self.made_at.clone(), from]
    }
}

pub(super) async fn list(commands: &Commands, session: &Session<'_>, format: Format) -> Result {
    let revisions = commands.store.stack_revisions(None).await?;
    let rows: Vec<_> = commands
        .store
        .stacks()
        .await?
        .into_iter()
        .map(|(name, source)| {
            let newest = revisions.iter().find(|revision| revision.stack == name);
            StackRow {
                default: name == commands.deployer.stacks().default_name(),
                revision: newest.map(|newest| newest.number),
                distribution: newest.map_or_else(String::new, |newest| {
                    format!("{} {}", newest.distribution.name, newest.distribution.version)
                }),
                packages: newest.map_or(0, |newest| newest.distribution.packages.len()),
                made_at: newest.map_or_else(String::new, |newest| time(newest.created_at)),
                from: match source {
                    StackSource::Packages(_) => "packages".to_owned(),
                    StackSource::Images { run, build } => format!("{run}, {build}"),
                },
                name,
            }
        })
        .collect();
    session.out.table(&rows, format).await;
    Ok(())
}

pub(super) async fn create(
    commands: &Commands,
    session: &mut Session<'_>,
    name: StackName,
    run: Option<String>,
    build: Option<String>,
) -> Result {
    session.only_admin()?;
    let source = match (run, build) {
        (Some(run), Some(build)) => StackSource::Images { run, build },
        (None, None) => {
            session.progress.step("Reading the stack's definition (TOML) from standard input").await;
            let text = session.read_input(LARGEST).await?;
            let definition = StackDefinition::parse(&text).map_err(|e| CommandError::Refused(e.to_string()))?;
            if definition.id != name.as_str() {
                let text = format!("the definition's id is {:?}, not {:?}", definition.id, name.as_str());
                return Err(CommandError::Refused(text));
            }
            StackSource::Packages(text)
        }
        _ => return Err(CommandError::Refused("give both --run-image and --build-image, or neither".to_owned())),
    };
    let made = commands.deployer.stacks().create(name.as_str(), source, &session.progress).await?;
    let (distribution, packages) = (&made.distribution, made.distribution.packages.len());
    let text = format!("{name} is there: {} {}, {packages} packages", distribution.name, distribution.version);
    session.progress.detail(text).await;
    Ok(())
}

pub(super) async fn update(commands: &Commands, session: &Session<'_>, name: StackName) -> Result {
    session.only_admin()?;
    let (before, now) = commands.deployer.stacks().update(name.as_str(), &session.progress).await?;
    if before.number == now.number {
        session.progress.detail(format!("{name} is up to date: nothing changed")).await;
        return Ok(());
    }
    session.progress.step(format!("{name} has revision {} now", now.number)).await;
    for change in before.distribution.changes(&now.distribution) {
        session.progress.detail(change.to_string()).await;
    }
    session.progress.detail("apps:rebase --all puts the apps on it".to_owned()).await;
    Ok(())
}

pub(super) async fn remove(commands: &Commands, session: &Session<'_>, name: StackName) -> Result {
    session.only_admin()?;
    if name.as_str() == commands.deployer.stacks().default_name() {
        let text = format!("{name} is the default stack (stack.default in paas.toml) and stays");
        return Err(CommandError::Refused(text));
    }
    known(commands, &name).await?;
    if !commands.store.remove_stack(name.to_string()).await? {
        let text = format!("an app has chosen {name}; stacks:report {name} shows which");
        return Err(CommandError::Refused(text));
    }
    session.out.line(&format!("       {name} is removed; images of apps that stand on it stay")).await;
    Ok(())
}

/// Refuses a stack that is not there.
async fn known(commands: &Commands, name: &StackName) -> Result {
    if commands.store.stack_revisions(Some(name.to_string())).await?.is_empty() {
        return Err(CommandError::Refused(format!("there is no stack {name}; stacks:list lists them")));
    }
    Ok(())
}

#[derive(serde::Serialize)]
struct StandingRow {
    app: String,
    stack: String,
    on: Option<String>,
    newest: Option<u64>,
    behind: bool,
}

impl From<&StackStatus> for StandingRow {
    fn from(standing: &StackStatus) -> Self {
        Self {
            app: standing.app.name.to_string(),
            stack: standing.stack.clone(),
            on: standing.on.as_ref().map(|(stack, number)| format!("{stack} {number}")),
            newest: standing.newest,
            behind: standing.is_behind,
        }
    }
}

impl Row for StandingRow {
    const HEADER: &'static [&'static str] = &["APP", "STACK", "STANDS ON", "NEWEST", "STATE"];

    fn cells(&self) -> Vec<String> {
        let state = match (&self.on, self.behind) {
            (_, true) => "behind",
            (None, false) => "on no stack",
            (Some(_), false) => "up to date",
        };
        let newest = self.newest.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let on = self.on.clone().unwrap_or_else(|| "-".to_owned());
        vec![self.app.clone(), self.stack.clone(), on, newest, state.to_owned()]
    }
}

pub(super) async fn report(
    commands: &Commands,
    session: &Session<'_>,
    name: Option<StackName>,
    format: Format,
) -> Result {
    if let Some(name) = &name {
        known(commands, name).await?;
    }
    let apps = commands.apps(session).await?;
    let mut standings = commands.deployer.stacks().statuses(apps).await?;
    if let Some(name) = &name {
        standings.retain(|standing| standing.stack == name.as_str());
    }
    let rows: Vec<_> = standings.iter().map(StandingRow::from).collect();
    session.out.table(&rows, format).await;
    let Some(name) = name.filter(|_| format == Format::Text) else { return Ok(()) };
    let changes = commands.deployer.stacks().changes(name.as_str()).await?;
    if !changes.is_empty() {
        session.out.line(&format!("-----> Changed in the newest revision of {name}")).await;
    }
    for change in changes {
        session.out.line(&format!("       {change}")).await;
    }
    Ok(())
}

/// Chooses the stack of an app, or shows it.
pub(super) async fn choose(
    commands: &Commands,
    session: &Session<'_>,
    app: AppName,
    name: Option<StackName>,
    default: bool,
) -> Result {
    let app = commands.app(session, app).await?;
    if name.is_none() && !default {
        session.out.line(commands.deployer.stacks().name_for(&app)).await;
        return Ok(());
    }
    if let Some(name) = &name {
        known(commands, name).await?;
    }
    let stack = name.map(|name| name.to_string());
    if !commands.store.set_app_stack(app.id, stack.clone()).await? {
        return Err(CommandError::Refused(
            "the stack was removed at this moment; stacks:list lists the others".to_owned(),
        ));
    }
    let stack = stack.unwrap_or_else(|| commands.deployer.stacks().default_name().to_owned());
    session
        .out
        .line(&format!(
            "       {} builds in {stack} from its next push on; ps:rebuild {} builds now",
            app.name, app.name
        ))
        .await;
    Ok(())
}

pub(super) async fn rebase(
    commands: &Commands,
    session: &Session<'_>,
    app: Option<AppName>,
    all: bool,
    stack: Option<StackName>,
) -> Result {
    let by = &session.caller.name;
    match (app, all) {
        (Some(app), false) => {
            let app = commands.app(session, app).await?;
            let rebased = commands.deployer.rebase(&app, by, &session.progress, &session.hangup).await?;
            if rebased == Rebased::Nothing {
                let why =
                    if app.current.is_some() { "stands on the newest revision already" } else { "has no release yet" };
                session.progress.detail(format!("{} {why}", app.name)).await;
            }
            Ok(())
        }
        (None, true) => {
            if let Some(stack) = &stack {
                known(commands, stack).await?;
            }
            let standings = commands.deployer.stacks().statuses(commands.apps(session).await?).await?;
            let behind = standings.into_iter().filter(|standing| standing.is_behind);
            let wanted = behind.filter(|s| stack.as_ref().is_none_or(|stack| s.stack == stack.as_str()));
            let apps: Vec<_> = wanted.map(|standing| standing.app).collect();
            session.progress.step(format!("Rebasing {} apps", apps.len())).await;
            let ends = commands.deployer.rebase_all(apps, by, &session.progress, &session.hangup).await;
            let count = |wanted: fn(&Option<Result<Rebased, crate::deploy::DeployError>>) -> bool| {
                ends.iter().filter(|(_, end)| wanted(end)).count()
            };
            let (failed, left) = (count(|end| matches!(end, Some(Err(_)))), count(Option::is_none));
            if failed > 0 {
                let text = format!(
                    "{failed} apps failed and serve as before, {left} were not begun; mend those, and say it again"
                );
                return Err(CommandError::Refused(text));
            }
            Ok(())
        }
        _ => Err(CommandError::Refused("name one app, or --all".to_owned())),
    }
}
