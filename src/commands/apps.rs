//! Apps: made, listed, shown, destroyed.

use serde_json::json;

use super::{
    CommandError, Commands, Result, Session,
    line::Format,
    output::{Row, time},
};
use crate::{
    instances::{InstanceReport, ReportState},
    model::AppName,
    store::{App, PortMapping},
};

#[derive(serde::Serialize)]
struct AppRow {
    name: String,
    release: Option<u64>,
    state: State,
    stopped: bool,
    created_at: String,
    url: Option<String>,
}

/// How an app is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    NotDeployed,
    Stopped,
    /// No instance is declared.
    Idle,
    /// An instance is healthy.
    Running,
    /// None is healthy yet.
    Starting,
    /// None is healthy, and one failed again and again.
    Failing,
}

impl State {
    async fn of(commands: &Commands, app: &App) -> Result<Self> {
        let report = commands.instances.report(app.id).await?;
        Ok(Self::by(app.current.map(|current| current.release), app.stopped, &report))
    }

    fn by(release: Option<u64>, stopped: bool, report: &[InstanceReport]) -> Self {
        let Some(release) = release else { return Self::NotDeployed };
        if stopped {
            return Self::Stopped;
        }
        let of_release = |one: &&InstanceReport| one.release == release && one.state != ReportState::Retiring;
        let instances: Vec<_> = report.iter().filter(of_release).collect();
        if instances.is_empty() {
            return Self::Idle;
        }
        if instances.iter().any(|one| one.state == ReportState::Healthy) {
            return Self::Running;
        }
        let again = |one: &&InstanceReport| one.state == ReportState::Waiting || one.restarts > 1;
        if instances.iter().any(again) { Self::Failing } else { Self::Starting }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::NotDeployed => "not deployed",
            Self::Stopped => "stopped",
            Self::Idle => "no instances",
            Self::Running => "running",
            Self::Starting => "starting",
            Self::Failing => "failing",
        }
    }
}

impl Row for AppRow {
    const HEADER: &'static [&'static str] = &["NAME", "RELEASE", "STATE", "CREATED", "URL"];

    fn cells(&self) -> Vec<String> {
        let release = self.release.map_or_else(|| "-".to_owned(), |number| format!("v{number}"));
        let url = self.url.clone().unwrap_or_else(|| "-".to_owned());
        vec![self.name.clone(), release, self.state.as_str().to_owned(), self.created_at.clone(), url]
    }
}

pub(super) async fn create(commands: &Commands, session: &Session<'_>, name: AppName) -> Result {
    let app = commands.deployer.create_app(name, session.caller.key).await?;
    session.out.line(&format!("-----> Created {}", app.name)).await;
    for url in urls(commands, &app).await? {
        session.out.line(&format!("       {url}")).await;
    }
    Ok(())
}

async fn urls(commands: &Commands, app: &App) -> Result<Vec<String>> {
    let mappings = commands.store.port_mappings(app.id).await?;
    Ok(mappings.iter().map(|mapping| commands.deployer.ports().url(mapping)).collect())
}

pub(super) async fn list(commands: &Commands, session: &Session<'_>, format: Format) -> Result {
    let mut rows = Vec::new();
    for app in commands.apps(session).await? {
        rows.push(AppRow {
            name: app.name.to_string(),
            release: app.current.map(|current| current.release),
            state: State::of(commands, &app).await?,
            stopped: app.stopped,
            created_at: time(app.created_at),
            url: urls(commands, &app).await?.into_iter().next(),
        });
    }
    session.out.table(&rows, format).await;
    Ok(())
}

pub(super) async fn info(commands: &Commands, session: &Session<'_>, name: AppName, format: Format) -> Result {
    let app = commands.app(session, name).await?;
    let ports = commands.store.port_mappings(app.id).await?;
    let formation = super::ps::formation(commands, &app).await?;
    let facts = json!({
        "name": app.name,
        "release": app.current.map(|current| format!("v{}", current.release)),
        "state": State::of(commands, &app).await?,
        "stopped": app.stopped,
        "formation": formation.iter().map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>(),
        "deploy_branch": app.deploy_branch,
        "build_dir": app.source_folder.as_ref().map(ToString::to_string),
        "ports": ports.iter().map(PortMapping::to_string).collect::<Vec<_>>(),
        "urls": urls(commands, &app).await?,
        "created_at": time(app.created_at),
    });
    if let serde_json::Value::Object(facts) = facts {
        session.out.facts(&facts, format).await;
    }
    Ok(())
}

pub(super) async fn destroy(
    commands: &Commands,
    session: &mut Session<'_>,
    name: AppName,
    force: bool,
    confirm: Option<String>,
) -> Result {
    let app = commands.app(session, name).await?;
    if !force {
        let said = if let Some(said) = confirm {
            said
        } else {
            let question = format!(" !     This destroys {} for good. Type its name to go on: ", app.name);
            session.out.text(&question).await;
            session.read_line().await?
        };
        if said != app.name.as_str() {
            let text = match said.trim() {
                "" => format!("no name was given: {} stays as it is; --force destroys it without a question", app.name),
                _ => format!("that is not its name: {} stays as it is", app.name),
            };
            return Err(CommandError::Refused(text));
        }
    }
    commands.deployer.destroy_app(&app, &session.progress).await?;
    session.progress.detail(format!("{} is gone", app.name)).await;
    Ok(())
}

pub(super) async fn url(commands: &Commands, session: &Session<'_>, name: AppName, format: Format) -> Result {
    let app = commands.app(session, name).await?;
    let urls = urls(commands, &app).await?;
    match format {
        Format::Json => session.out.json(&urls).await,
        Format::Text => {
            for url in urls {
                session.out.line(&url).await;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_told_in_a_word() {
        use ReportState::{Healthy, Retiring, Starting, Waiting};
        let instance = |state, release, restarts| InstanceReport {
            name: "web.1".into(),
            state,
            release,
            address: [10, 0, 0, 1].into(),
            restarts,
            since: 0,
            container: None,
            id: "a".parse().unwrap(),
        };
        let state = |report: &[(ReportState, u64, u32)]| {
            let report: Vec<_> =
                report.iter().map(|(s, release, restarts)| instance(*s, *release, *restarts)).collect();
            State::by(Some(2), false, &report)
        };
        assert_eq!(State::by(None, false, &[]), State::NotDeployed);
        assert_eq!(State::by(Some(2), true, &[instance(Retiring, 2, 0)]), State::Stopped);
        assert_eq!(state(&[]), State::Idle, "scaled to none");
        assert_eq!(state(&[(Retiring, 2, 0)]), State::Idle, "on its way to none");
        assert_eq!(state(&[(Starting, 2, 0)]), State::Starting);
        assert_eq!(state(&[(Starting, 2, 1), (Healthy, 2, 0)]), State::Running);
        assert_eq!(state(&[(Waiting, 2, 3), (Healthy, 3, 0)]), State::Failing, "a newer one does not serve yet");
        assert_eq!(state(&[(Starting, 2, 4)]), State::Failing);
    }
}
