//! The commands `apps:…` and `url`.

use clap::Subcommand;
use serde_json::json;

use super::{
    context::Context,
    error::{CommandError, Result},
    output::{Format, Row, time},
    session::Session,
};
use crate::{
    instances::{InstanceReport, ReportState},
    model::AppName,
    store::{App, PortMapping},
};

/// The commands of apps.
#[derive(Debug, Subcommand)]
pub(super) enum AppsCommand {
    /// Create an app (its first push does that, too).
    #[command(name = "apps:create", after_help = "Example: apps:create my-app")]
    Create { app: AppName },
    /// List your apps.
    #[command(name = "apps:list", alias = "apps", after_help = "Example: apps:list --format json")]
    List {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show an app.
    #[command(name = "apps:info", alias = "apps:report", after_help = "Example: apps:info my-app")]
    Info {
        app: AppName,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Destroy an app with its instances, releases and repository. Asks for its name.
    #[command(name = "apps:destroy", after_help = "Example: apps:destroy my-app --force")]
    Destroy {
        app: AppName,
        /// Do not ask for the name.
        #[arg(long)]
        force: bool,
        /// The app's name, instead of the question.
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
    },
}

pub(super) async fn run(context: &Context, session: &mut Session<'_>, command: AppsCommand) -> Result {
    use AppsCommand as C;
    match command {
        C::Create { app } => create(context, session, app).await,
        C::List { format } => list(context, session, format).await,
        C::Info { app, format } => info(context, session, app, format).await,
        C::Destroy { app, force, confirm } => destroy(context, session, app, force, confirm).await,
    }
}

#[derive(serde::Serialize)]
struct AppRow {
    name: String,
    release: Option<u64>,
    state: AppState,
    stopped: bool,
    created_at: String,
    url: Option<String>,
}

/// The state of an app, in one word or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum AppState {
    NotDeployed,
    Stopped,
    /// No instance is declared.
    Idle,
    /// At least one instance is healthy.
    Running,
    /// No instance is healthy yet.
    Starting,
    /// No instance is healthy, and one has failed repeatedly.
    Failing,
}

impl AppState {
    async fn of(context: &Context, app: &App) -> Result<Self> {
        let report = context.instances.report(app.id).await?;
        Ok(Self::from_report(app.current.map(|current| current.release), app.stopped, &report))
    }

    fn from_report(release: Option<u64>, stopped: bool, report: &[InstanceReport]) -> Self {
        let Some(release) = release else { return Self::NotDeployed };
        if stopped {
            return Self::Stopped;
        }
        let is_current =
            |instance: &&InstanceReport| instance.release == release && instance.state != ReportState::Retiring;
        let instances: Vec<_> = report.iter().filter(is_current).collect();
        if instances.is_empty() {
            return Self::Idle;
        }
        if instances.iter().any(|instance| instance.state == ReportState::Healthy) {
            return Self::Running;
        }
        let has_failed_repeatedly =
            |instance: &&InstanceReport| instance.state == ReportState::Waiting || instance.restarts > 1;
        if instances.iter().any(has_failed_repeatedly) { Self::Failing } else { Self::Starting }
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

async fn create(context: &Context, session: &Session<'_>, name: AppName) -> Result {
    let app = context.deployer.create_app(name, session.caller.user).await?;
    session.out.line(&format!("-----> Created {}", app.name)).await;
    for url in urls(context, &app).await? {
        session.out.line(&format!("       {url}")).await;
    }
    Ok(())
}

async fn urls(context: &Context, app: &App) -> Result<Vec<String>> {
    let mappings = context.store.port_mappings(app.id).await?;
    Ok(mappings.iter().map(|mapping| context.deployer.ports().url(mapping)).collect())
}

async fn list(context: &Context, session: &Session<'_>, format: Format) -> Result {
    let mut rows = Vec::new();
    for app in context.apps(session).await? {
        rows.push(AppRow {
            name: app.name.to_string(),
            release: app.current.map(|current| current.release),
            state: AppState::of(context, &app).await?,
            stopped: app.stopped,
            created_at: time(app.created_at),
            url: urls(context, &app).await?.into_iter().next(),
        });
    }
    session.out.table(&rows, format).await;
    Ok(())
}

async fn info(context: &Context, session: &Session<'_>, name: AppName, format: Format) -> Result {
    let app = context.app(session, name).await?;
    let ports = context.store.port_mappings(app.id).await?;
    let formation = super::ps::formation(context, &app).await?;
    let facts = json!({
        "name": app.name,
        "release": app.current.map(|current| format!("v{}", current.release)),
        "state": AppState::of(context, &app).await?,
        "stopped": app.stopped,
        "formation": formation.iter().map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>(),
        "deploy_branch": app.deploy_branch,
        "build_dir": app.source_folder.as_ref().map(ToString::to_string),
        "ports": ports.iter().map(PortMapping::to_string).collect::<Vec<_>>(),
        "urls": urls(context, &app).await?,
        "created_at": time(app.created_at),
    });
    if let serde_json::Value::Object(facts) = facts {
        session.out.facts(&facts, format).await;
    }
    Ok(())
}

async fn destroy(
    context: &Context,
    session: &mut Session<'_>,
    name: AppName,
    force: bool,
    confirm: Option<String>,
) -> Result {
    let app = context.app(session, name).await?;
    if !force {
        let typed = if let Some(confirmed) = confirm {
            confirmed
        } else {
            let question = format!(" !     This destroys {} permanently. Type its name to continue: ", app.name);
            session.out.text(&question).await;
            session.read_line().await?
        };
        if typed != app.name.as_str() {
            let text = match typed.trim() {
                "" => {
                    format!("no name was given: {} is not destroyed; --force destroys it without a question", app.name)
                }
                _ => format!("that is not the app's name: {} is not destroyed", app.name),
            };
            return Err(CommandError::Refused(text));
        }
    }
    context.deployer.destroy_app(&app, &session.progress).await?;
    session.progress.detail(format!("{} is destroyed", app.name)).await;
    Ok(())
}

pub(super) async fn url(context: &Context, session: &Session<'_>, name: AppName, format: Format) -> Result {
    let app = context.app(session, name).await?;
    let urls = urls(context, &app).await?;
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
    fn the_state_of_an_app_follows_from_its_instances() {
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
            AppState::from_report(Some(2), false, &report)
        };
        assert_eq!(AppState::from_report(None, false, &[]), AppState::NotDeployed);
        assert_eq!(AppState::from_report(Some(2), true, &[instance(Retiring, 2, 0)]), AppState::Stopped);
        assert_eq!(state(&[]), AppState::Idle, "scaled to zero");
        assert_eq!(state(&[(Retiring, 2, 0)]), AppState::Idle, "its last instance is stopping");
        assert_eq!(state(&[(Starting, 2, 0)]), AppState::Starting);
        assert_eq!(state(&[(Starting, 2, 1), (Healthy, 2, 0)]), AppState::Running);
        assert_eq!(
            state(&[(Waiting, 2, 3), (Healthy, 3, 0)]),
            AppState::Failing,
            "an instance of another release does not count"
        );
        assert_eq!(state(&[(Starting, 2, 4)]), AppState::Failing);
    }
}
