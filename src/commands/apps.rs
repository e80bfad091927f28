//! The commands `apps:…` and `url`.

use clap::Subcommand;

use super::{
    output::{Format, Rendering, Text},
    session::Session,
    table::{facts, list, or_hyphen, release, table},
};
use crate::{
    model::AppName,
    operations::{
        AppExists, AppInfo, AppRow, CreateApp, CreatedApp, DestroyApp, DestroyedApp, ExistingApp, ListApps,
        ReportVolumes, Result, ShowApp, Urls,
    },
};

/// The commands of apps.
#[derive(Debug, Subcommand)]
pub(super) enum AppsCommand {
    /// Create an app (its first push does that, too).
    #[command(name = "apps:create", after_help = "Example: apps:create my-app")]
    Create(CreateApp),
    /// List your apps.
    #[command(name = "apps:list", alias = "apps", after_help = "Example: apps:list --format json")]
    List(ListApps),
    /// Show an app.
    #[command(name = "apps:info", alias = "apps:report", after_help = "Example: apps:info my-app")]
    Info(ShowApp),
    /// Tell by the exit status whether an app exists: 0 if it does, 4 if not.
    #[command(name = "apps:exists", after_help = "Example: apps:exists my-app")]
    Exists(AppExists),
    /// Destroy an app with its instances, releases and repository. Asks for its name.
    #[command(name = "apps:destroy", after_help = "Example: apps:destroy my-app --force")]
    Destroy {
        /// App.
        app: AppName,
        /// Do not ask for the name.
        #[arg(long)]
        force: bool,
        /// The app's name, instead of the question.
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
    },
}

pub(super) async fn run(session: &Session<'_>, command: AppsCommand) -> Result {
    use AppsCommand as C;
    match command {
        C::Create(create) => session.answer(create).await,
        C::List(list) => session.answer(list).await,
        C::Info(show) => session.answer(show).await,
        C::Exists(exists) => session.answer(exists).await,
        C::Destroy { app, force, confirm } => {
            let confirm = match confirm {
                _ if force => app.to_string(),
                Some(name) => name,
                None => ask_for_name(session, &app).await?,
            };
            session.answer(DestroyApp { app, confirm }).await
        }
    }
}

/// Asks for the name of an app that is to be destroyed; a program is not asked.
async fn ask_for_name(session: &Session<'_>, app: &AppName) -> Result<String> {
    let app = session.check::<DestroyApp>(app.clone()).await?.name;
    if session.out.format() == Format::Json {
        return Ok(String::new());
    }
    let volumes = session.run(ReportVolumes { app: Some(app.clone()) }).await?;
    let volumes = list(volumes.iter().map(|volume| format!("{} ({})", volume.name, volume.size)));
    let with = volumes.map(|volumes| format!(", with all files of its volumes: {volumes}")).unwrap_or_default();
    let question = format!(" !     This destroys {app} permanently{with}. Type its name to continue: ");
    session.out.text(&question, Rendering::Plain).await;
    Ok(session.read_line().await)
}

impl Text for CreatedApp {
    fn text(&self) -> String {
        let urls: Vec<_> = self.urls.iter().map(|url| format!("       {url}\n")).collect();
        format!("-----> Created {}\n{}", self.name, urls.concat())
    }
}

impl Text for Vec<AppRow> {
    fn text(&self) -> String {
        let rows = self.iter().map(|app| {
            [
                app.name.to_string(),
                or_hyphen(app.owner.as_ref()),
                or_hyphen(release(app.release)),
                app.state.as_str().to_owned(),
                app.created_at.to_string(),
                or_hyphen(app.url.as_ref()),
            ]
        });
        table(["NAME", "OWNER", "RELEASE", "STATE", "CREATED", "URL"], rows)
    }
}

impl Text for AppInfo {
    fn text(&self) -> String {
        facts([
            ("name", Some(self.name.to_string())),
            ("owner", self.owner.as_ref().map(ToString::to_string)),
            ("members", list(self.members.iter().map(|member| format!("{}={}", member.user, member.role)))),
            ("release", release(self.release)),
            ("state", Some(self.state.as_str().to_owned())),
            ("formation", list(self.formation.iter().map(|(name, quantity)| format!("{name}={quantity}")))),
            ("stack", Some(self.stack.clone())),
            ("deploy branch", self.deploy_branch.as_ref().map(ToString::to_string)),
            ("build dir", self.build_dir.as_ref().map(ToString::to_string)),
            ("dockerfile", self.dockerfile.as_ref().map(ToString::to_string)),
            ("build target", self.build_target.as_ref().map(ToString::to_string)),
            ("ports", list(&self.ports)),
            ("urls", list(&self.urls)),
            ("volumes", list(self.volumes.iter().map(|volume| format!("{} ({})", volume.name, volume.size)))),
            ("links", list(&self.links)),
            ("linked from", list(&self.linked_from)),
            ("created at", Some(self.created_at.to_string())),
        ])
    }
}

impl Text for ExistingApp {
    fn text(&self) -> String {
        format!("       {} exists\n", self.name)
    }
}

impl Text for DestroyedApp {}

impl Text for Urls {
    fn text(&self) -> String {
        self.0.iter().flat_map(|url| [url, "\n"]).collect()
    }
}
